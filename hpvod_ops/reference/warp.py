"""Eq. 1 in plain PyTorch: the truth that every backend of `warp` is held to."""

from __future__ import annotations

import torch
from torch import Tensor

from hpvod_ops.ops.layout import memory_format_of


def warp(feature: Tensor, flow: Tensor, scale: Tensor | None = None) -> Tensor:
    """`hpvod_ops.warp`, one gathered corner at a time; differentiable, any dtype and device."""
    batch, _, height, width = flow.shape
    channels = feature.shape[1]
    accumulate = torch.float64 if feature.dtype == torch.float64 else torch.float32
    feature_rows = feature.to(accumulate).expand(batch, -1, -1, -1).flatten(2)
    flow = flow.to(accumulate)
    flow = torch.where(flow.abs() < 1e9, flow, 1e9)  # NaN and infinity too: far outside
    x = flow[:, 0] + torch.arange(width, dtype=accumulate, device=flow.device)
    y = flow[:, 1] + torch.arange(height, dtype=accumulate, device=flow.device)[:, None]
    left, top = x.detach().floor(), y.detach().floor()

    output = feature_rows.new_zeros(batch, channels, height, width)
    for corner_x, weight_x in ((left, left + 1 - x), (left + 1, x - left)):
        for corner_y, weight_y in ((top, top + 1 - y), (top + 1, y - top)):
            inside = (corner_x >= 0) & (corner_x < width) & (corner_y >= 0) & (corner_y < height)
            position = torch.where(inside, corner_y * width + corner_x, 0).long()
            value = feature_rows.gather(2, position.flatten(1)[:, None].expand(-1, channels, -1))
            value = torch.where(inside[:, None], value.view_as(output), 0)
            output = output + (weight_x * weight_y)[:, None] * value
    if scale is not None:
        output = output * scale.to(accumulate)
    return output.to(feature.dtype, memory_format=memory_format_of(feature))
