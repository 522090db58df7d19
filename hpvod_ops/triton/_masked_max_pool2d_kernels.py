"""The kernel behind `hpvod_ops.triton.masked_max_pool2d`."""

# Triton has no type hints, and a kernel's arguments are of Triton's types.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# mypy: disallow-untyped-calls=False, disallow-untyped-decorators=False

from __future__ import annotations

import triton
import triton.language as tl

from hpvod_ops.triton._listed import listed_pixels, split_index
from hpvod_ops.triton._narrow import narrow

UNSPECIALIZED = ("in_height", "in_width", "out_height", "out_width", "stride", "padding")


@triton.jit(do_not_specialize=UNSPECIALIZED)
def max_pool_kernel(
    input,  # [N, H, W, C]
    output,  # [N, H', W', C]
    pixels,  # [capacity], indices into [N, H', W']
    count,  # [1]
    channels,
    in_height,
    in_width,
    out_height,
    out_width,
    stride,
    padding,
    KERNEL: tl.constexpr,
    WIDE: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    dtype: tl.constexpr = input.dtype.element_ty
    COMPARE: tl.constexpr = tl.float64 if dtype == tl.float64 else tl.float32
    listed = tl.load(count)
    chunks = tl.cdiv(channels, CHANNELS)
    for item in range(tl.program_id(0), tl.cdiv(listed, PIXELS) * chunks, tl.num_programs(0)):
        position = item // chunks * PIXELS + tl.arange(0, PIXELS)
        pixel, live = listed_pixels(pixels, position, listed, WIDE)
        image, out_y, out_x = split_index(pixel, out_height, out_width)
        channel = (item % chunks * CHANNELS + tl.arange(0, CHANNELS))[None, :]
        wanted = channel < channels
        most = tl.full((PIXELS, CHANNELS), float("-inf"), COMPARE)
        for tap in tl.static_range(KERNEL * KERNEL):
            y = out_y * stride - padding + tap // KERNEL
            x = out_x * stride - padding + tap % KERNEL
            inside = live & (y >= 0) & (y < in_height) & (x >= 0) & (x < in_width)
            row = ((image * in_height + y) * in_width + x) * channels
            value = tl.load(
                input + (row[:, None] + channel),
                mask=inside[:, None] & wanted,
                other=float("-inf"),
            ).to(COMPARE)
            # NaN once seen stays: nothing is greater than it.
            most = tl.where((value > most) | (value != value), value, most)
        tl.store(
            output + (pixel[:, None] * channels + channel),
            narrow(most, dtype),
            mask=live[:, None] & wanted,
        )
