"""`masked_max_pool2d_` in Triton."""

from __future__ import annotations

from torch import Tensor

from hpvod_ops.triton import _launch
from hpvod_ops.triton._masked_max_pool2d_kernels import max_pool_kernel
from hpvod_ops.triton._row_tile import row_tile


def masked_max_pool2d(
    out: Tensor, x: Tensor, pixels: Tensor, count: Tensor, kernel: int, stride: int, padding: int
) -> None:
    """`hpvod_ops.masked_max_pool2d_` for inputs that it has checked.

    Args:
        out: [N, C, H', W'], channels_last, written at the listed pixels only.
        x: [N, C, H, W], channels_last.
        pixels: int32 [capacity], different indices into [N, H', W'].
        count: int32 [1], how many of them are listed; read on the device alone.
        kernel: its height and width.
        stride: the same in both directions, as is the padding.
        padding: pixels around the input that are less than any other.
    """
    batch, channels, in_height, in_width = x.shape
    out_height, out_width = out.shape[2:]
    capacity = pixels.shape[0]
    if out.numel() == 0 or capacity == 0:
        return
    tile = row_tile(channels, x.element_size())
    # Lanes that a mask silences reach beyond the maps: by the window, and by a tile.
    in_pixels = batch * in_height * in_width + (kernel + padding) * (in_width + 1)
    most_pixels = max(in_pixels, batch * out_height * out_width)
    with _launch.active(x.device):
        max_pool_kernel[(tile.programs(capacity, channels, x.device),)](
            x,
            out,
            pixels,
            count,
            channels,
            in_height,
            in_width,
            out_height,
            out_width,
            stride,
            padding,
            KERNEL=kernel,
            WIDE=most_pixels * (channels + tile.channels) >= _launch.INT32_ELEMENTS,
            PIXELS=tile.pixels,
            CHANNELS=tile.channels,
            num_warps=tile.warps,
        )
