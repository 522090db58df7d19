"""`ps_roi_pool` in Triton."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from hpvod_ops.ops.layout import memory_format_of
from hpvod_ops.triton import _launch
from hpvod_ops.triton._ps_roi_pool_kernels import pool_kernel

# What one program does, each of its threads two results.
CHANNELS = 4
MOST_BINS = 64


def ps_roi_pool(score_maps: Tensor, rois: Tensor, groups: int, stride: int) -> Tensor:
    """`hpvod_ops.ps_roi_pool` for inputs that it has checked.

    A program has a RoI's bins, which are equally large but for a pixel, of a few channels.

    Args:
        score_maps: [N, C * groups * groups, h, w].
        rois: [R, 5] float32.
        groups: Bins a side.
        stride: Image pixels a feature pixel.

    Returns:
        [R, C, groups, groups], in score_maps' dtype.
    """
    layout = memory_format_of(score_maps)
    score_maps, rois = score_maps.contiguous(memory_format=layout), rois.contiguous()
    batch, all_channels, height, width = score_maps.shape
    channels = all_channels // groups**2
    output = score_maps.new_empty((len(rois), channels, groups, groups))
    if output.numel() == 0:
        return output
    channels_last = layout == torch.channels_last
    block = min(triton.next_power_of_2(groups**2), MOST_BINS)
    programs = len(rois) * triton.cdiv(channels, CHANNELS) * triton.cdiv(groups**2, block)
    with _launch.active(score_maps.device):
        pool_kernel[(programs,)](
            score_maps,
            rois,
            output,
            batch,
            channels,
            height,
            width,
            groups,
            stride,
            1 if channels_last else height * width,
            all_channels if channels_last else 1,
            CHANNELS=CHANNELS,
            BINS=block,
        )
    return output
