"""Eq. 1 at listed pixels of a layer in plain PyTorch: dense, then picked."""

from __future__ import annotations

import torch
from torch import Tensor

from hpvod_ops.pixels import PixelList
from hpvod_ops.reference._listed import write_at
from hpvod_ops.reference.warp import warp


def warp_pixels_(
    out: Tensor,
    feature: Tensor,
    flow: Tensor,
    pixels: PixelList,
    *,
    ratio: int = 1,
    scale: Tensor | None = None,
) -> None:
    """`hpvod_ops.warp_pixels_`; any dtype and device."""
    if out.numel() == 0:
        return
    flow = flow.to(torch.float64 if feature.dtype == torch.float64 else torch.float32)
    flow = _interpolated(flow, dim=2, ratio=ratio, size=out.shape[2])
    flow = ratio * _interpolated(flow, dim=3, ratio=ratio, size=out.shape[3])
    write_at(out, warp(feature, flow, scale), pixels)


def _interpolated(flow: Tensor, dim: int, ratio: int, size: int) -> Tensor:
    """The flow at multiples of 1 / ratio along one axis, clamped at its border."""
    position = torch.arange(size, device=flow.device)
    low = (position // ratio).clamp(max=flow.shape[dim] - 1)
    high = (position // ratio + 1).clamp(max=flow.shape[dim] - 1)
    shape = [1] * flow.ndim
    shape[dim] = size
    fraction = ((position % ratio).to(flow.dtype) / ratio).view(shape)
    return torch.lerp(flow.index_select(dim, low), flow.index_select(dim, high), fraction)
