"""U, the key decision and the lists of pixels (Section 3.2 and 3.3) in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hpvod_ops.pixels import PixelSet, UpdatePlan


def update_plan(q: Tensor, tau: float, gamma: float, key: Tensor | None, out: UpdatePlan) -> None:
    """`hpvod_ops.update_plan`, one list at a time; any dtype and device."""
    changed = q <= tau
    out.changed.copy_(changed.sum((1, 2, 3)))
    share = out.changed.double() / (q.shape[2] * q.shape[3])
    out.is_key.copy_(share > gamma if key is None else key)
    out.mask.copy_(changed | out.is_key[:, None, None, None])
    for number, pixel_set in enumerate(out.sets):
        listed = _pixels(out.mask[:, 0], pixel_set).flatten().nonzero()[:, 0]
        out.lists[pixel_set].indices[: len(listed)] = listed.int()
        out.counts[number] = len(listed)


def _pixels(mask: Tensor, pixel_set: PixelSet) -> Tensor:
    """Where the layer's pixels are in the set: bool, [N, H, W], of U, [N, h, w]."""
    kind, ratio, height, width, dilation = pixel_set
    y = (torch.arange(height, device=mask.device) // ratio).clamp(max=mask.shape[1] - 1)
    x = (torch.arange(width, device=mask.device) // ratio).clamp(max=mask.shape[2] - 1)
    active = mask[:, y[:, None], x]
    if kind == "active":
        return active
    if kind == "inactive":
        return ~active
    around = F.pad(active, (dilation,) * 4)
    reached = torch.zeros_like(active)
    for top in (0, dilation, 2 * dilation):
        for left in (0, dilation, 2 * dilation):
            reached |= around[:, top : top + height, left : left + width]
    return reached if kind == "reached" else reached & ~active
