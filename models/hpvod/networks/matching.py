"""Where what a map shows is found in another map: a look at all of it."""

from __future__ import annotations

import torch
from torch import Tensor


def matched_motion(first: Tensor, second: Tensor, sharpness: Tensor) -> Tensor:
    """The mean place in `second` of what `first` shows, seen from its own place.

    The mean is over all positions of `second`, weighted by the softmax of `sharpness` times the
    cosine of the two vectors ("soft arg-max"). Unlike FlowNetC's correlation, which leaves the
    decoding to the layers above, it is a motion already, and of any length.

    Args:
        first: [N, C, h, w].
        second: the same.
        sharpness: a number above 0: how much more a better match counts.

    Returns:
        [N, 3, h, w]: dx and dy in positions, and the greatest weight, near 1 where the match is
        unambiguous.
    """
    height, width = first.shape[2:]
    dtype = torch.promote_types(first.dtype, torch.float32)
    ours, theirs = (_unit(vectors.to(dtype).flatten(2)) for vectors in (first, second))
    weights = (sharpness * (ours.mT @ theirs)).to(dtype).softmax(dim=2)  # [N, h * w, h * w]
    # Sums, not a matrix product: autocast would round the places to half a position.
    at = weights.unflatten(2, (height, width))
    rows, columns = (
        torch.arange(size, device=first.device, dtype=dtype) for size in (height, width)
    )
    y = (at.sum(dim=3) * rows).sum(dim=2).unflatten(1, (height, width)) - rows[:, None]
    x = (at.sum(dim=2) * columns).sum(dim=2).unflatten(1, (height, width)) - columns
    surest = weights.amax(dim=2).unflatten(1, (height, width))
    # In channels_last, as the maps of the networks are on a CPU.
    found: Tensor = torch.cat([each[..., None] for each in (x, y, surest)], dim=3)
    return found.permute(0, 3, 1, 2).to(first.dtype)


def _unit(vectors: Tensor) -> Tensor:
    """Vectors [N, C, P] of length 1, and 0 of 0."""
    lengths: Tensor = vectors.norm(dim=1, keepdim=True)
    return vectors / lengths.clamp_min(1e-6)
