"""`warp_pixels_` in Triton."""

from __future__ import annotations

from torch import Tensor

from hpvod_ops.triton import _launch
from hpvod_ops.triton._row_tile import row_tile
from hpvod_ops.triton._warp_pixels_kernels import warp_pixels_kernel


def warp_pixels(
    out: Tensor,
    feature: Tensor,
    flow: Tensor,
    scale: Tensor | None,
    pixels: Tensor,
    count: Tensor,
    ratio: int,
) -> None:
    """`hpvod_ops.warp_pixels_` for inputs that it has checked.

    Args:
        out: [N, C, H, W], channels_last, written at the listed pixels only.
        feature: [N, C, H, W], channels_last.
        flow: [N, 2, h, w], of any strides, (dx, dy) in its own pixels.
        scale: [N, C, H, W], channels_last, or None.
        pixels: int32 [capacity], different indices into [N, H, W].
        count: int32 [1], how many of them are listed; read on the device alone.
        ratio: pixels of the feature a pixel of the flow.
    """
    batch, channels, height, width = feature.shape
    capacity = pixels.shape[0]
    if out.numel() == 0 or capacity == 0:
        return
    flow = flow.contiguous()
    tile = row_tile(channels, feature.element_size())
    elements = batch * height * width * (channels + tile.channels)
    with _launch.active(feature.device):
        warp_pixels_kernel[(tile.programs(capacity, channels, feature.device),)](
            feature,
            flow,
            scale,
            out,
            pixels,
            count,
            channels,
            height,
            width,
            flow.shape[2],
            flow.shape[3],
            ratio,
            WIDE=max(elements, flow.numel()) >= _launch.INT32_ELEMENTS,
            PIXELS=tile.pixels,
            CHANNELS=tile.channels,
            num_warps=tile.warps,
        )
