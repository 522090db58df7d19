"""How well each position of a map matches the positions near it in another: FlowNetC's layer."""

from __future__ import annotations

import torch
from torch import Tensor


def correlation(first: Tensor, second: Tensor, reach: int) -> Tensor:
    """The cosine of `first` at every position with `second` at every position around it.

    FlowNet's correlation ("FlowNetC"), of unit vectors: it does not depend on the maps' scale.

    Args:
        first: [N, C, h, w].
        second: the same.
        reach: R, the farthest position that is looked at, in rows and in columns.

    Returns:
        [N, (2R + 1)^2, h, w] in channels_last: channel (dy + R) (2R + 1) + dx + R is of `first` at
        (y, x) and `second` at (y + dy, x + dx), 0 where that lies outside.
    """
    taps = 2 * reach + 1
    first, second = (_unit(x.permute(0, 2, 3, 1)) for x in (first, second))
    count, height, width, channels = first.shape
    padded = second.new_zeros((count, height + 2 * reach, width + 2 * reach, channels))
    padded[:, reach : reach + height, reach : reach + width] = second
    columns = padded.transpose(2, 3)
    # Rows with rows, all columns: more products than needed, but in one call for each dy.
    rows = [first @ columns[:, dy : dy + height] for dy in range(taps)]
    products = torch.cat(rows, dim=2).unflatten(2, (taps, width))  # [N, h, 2R + 1, w, w + 2R]
    # Column x needs its row's products x to x + 2R.
    *strides, row, _ = products.stride()
    near = products.as_strided((count, height, taps, width, taps), (*strides, row + 1, 1))
    channels_last: Tensor = near.transpose(2, 3).reshape(count, height, width, taps**2)
    return channels_last.permute(0, 3, 1, 2)


def _unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1, and 0 of 0."""
    lengths: Tensor = vectors.norm(dim=3, keepdim=True)
    return vectors / lengths.clamp_min(1e-6)
