"""`warp_aggregate` in Triton."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from hpvod_ops.ops.layout import memory_format_of
from hpvod_ops.triton import _launch
from hpvod_ops.triton._similarity import channel_tile
from hpvod_ops.triton._warp_aggregate_kernels import warp_aggregate_kernel


def warp_aggregate(
    key_feature: Tensor,
    key_embedding: Tensor,
    feature: Tensor,
    embedding: Tensor,
    flow: Tensor,
    mask: Tensor | None,
    own_feature: Tensor | None,
    own_embedding: Tensor | None,
    scale: Tensor | None,
) -> Tensor:
    """`hpvod_ops.warp_aggregate` for inputs that it has checked.

    A program has a few neighbouring pixels, which sample nearly the same ones of the key frame.

    Args:
        key_feature: [N, C, H, W]; as all maps of any strides, and copied where it is not dense in
            channels_last.
        key_embedding: [N, E, H, W].
        feature: [N, C, H, W].
        embedding: [N, E, H, W].
        flow: [N, 2, H, W], of any strides, (dx, dy) in pixels of the maps.
        mask: bool [N, 1, H, W], of any strides, or None.
        own_feature: [N, C, H, W]; None without a mask.
        own_embedding: [N, E, H, W]; None without a mask.
        scale: [N, C, H, W] or None.

    Returns:
        [N, C, H, W], dense, in the feature's dtype and memory format.
    """
    layout = memory_format_of(feature)
    output = torch.empty(
        feature.shape,
        dtype=feature.dtype,
        device=feature.device,
        memory_format=torch.channels_last,
    )
    if output.numel() == 0:
        return output.contiguous(memory_format=layout)
    batch, channels, height, width = feature.shape
    embedding_channels = embedding.shape[1]
    pixels = batch * height * width
    most = max(channels, embedding_channels, 2)  # 2: of the flow
    tile = channel_tile(max(channels, embedding_channels), feature.element_size())
    with _launch.active(feature.device):
        warp_aggregate_kernel[(triton.cdiv(pixels, tile.pixels),)](
            _dense(key_feature),
            _dense(key_embedding),
            _dense(feature),
            _dense(embedding),
            flow.contiguous(),
            None if mask is None else mask.contiguous(),
            None if own_feature is None else _dense(own_feature),
            None if own_embedding is None else _dense(own_embedding),
            None if scale is None else _dense(scale),
            output,
            pixels,
            channels,
            embedding_channels,
            height,
            width,
            WIDE=(pixels + tile.pixels) * (most + tile.channels) >= _launch.INT32_ELEMENTS,
            PIXELS=tile.pixels,
            CHANNELS=tile.channels,
            num_warps=tile.warps,
        )
    return output.contiguous(memory_format=layout)


def _dense(map: Tensor) -> Tensor:
    return map.contiguous(memory_format=torch.channels_last)
