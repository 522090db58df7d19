"""The kernel behind `hpvod_ops.triton.warp_pixels`."""

# Triton has no type hints, and a kernel's arguments are of Triton's types.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# mypy: disallow-untyped-calls=False, disallow-untyped-decorators=False

from __future__ import annotations

import triton
import triton.language as tl

from hpvod_ops.triton._listed import listed_pixels, split_index
from hpvod_ops.triton._narrow import narrow
from hpvod_ops.triton._warp_kernels import corner_taps

UNSPECIALIZED = ("height", "width", "flow_height", "flow_width", "ratio")


@triton.jit
def _lerp(start, end, weight):
    """torch.lerp's formula, whose error is small at either end."""
    step = end - start
    return tl.where(weight < 0.5, start + weight * step, end - step * (1 - weight))


@triton.jit
def _between(flow, above, below, left, right, weight_y, weight_x, live, dtype: tl.constexpr):
    """One component of the flow between its pixels: first along y, then along x."""
    above_left = tl.load(flow + (above + left), mask=live, other=0).to(dtype)
    below_left = tl.load(flow + (below + left), mask=live, other=0).to(dtype)
    above_right = tl.load(flow + (above + right), mask=live, other=0).to(dtype)
    below_right = tl.load(flow + (below + right), mask=live, other=0).to(dtype)
    return _lerp(
        _lerp(above_left, below_left, weight_y), _lerp(above_right, below_right, weight_y), weight_x
    )


@triton.jit(do_not_specialize=UNSPECIALIZED)
def warp_pixels_kernel(
    feature,  # [N, H, W, C]
    flow,  # [N, 2, h, w], in its own pixels
    scale,  # [N, H, W, C] or None
    output,  # [N, H, W, C]
    pixels,  # [capacity], indices into [N, H, W]
    count,  # [1]
    channels,
    height,
    width,
    flow_height,
    flow_width,
    ratio,  # pixels of the layer a pixel of the flow
    WIDE: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    dtype: tl.constexpr = feature.dtype.element_ty
    ACCUMULATE: tl.constexpr = tl.float64 if dtype == tl.float64 else tl.float32
    listed = tl.load(count)
    chunks = tl.cdiv(channels, CHANNELS)
    flow_plane = flow_height * flow_width
    for item in range(tl.program_id(0), tl.cdiv(listed, PIXELS) * chunks, tl.num_programs(0)):
        position = item // chunks * PIXELS + tl.arange(0, PIXELS)
        pixel, live = listed_pixels(pixels, position, listed, WIDE)
        image, row, column = split_index(pixel, height, width)
        flow_y, flow_x = row // ratio, column // ratio
        above = tl.minimum(flow_y, flow_height - 1) * flow_width
        below = tl.minimum(flow_y + 1, flow_height - 1) * flow_width
        left = tl.minimum(flow_x, flow_width - 1)
        right = tl.minimum(flow_x + 1, flow_width - 1)
        weight_y = (row - flow_y * ratio).to(ACCUMULATE) / ratio
        weight_x = (column - flow_x * ratio).to(ACCUMULATE) / ratio
        of_image = flow + image * 2 * flow_plane
        x = _between(of_image, above, below, left, right, weight_y, weight_x, live, ACCUMULATE)
        of_image += flow_plane
        y = _between(of_image, above, below, left, right, weight_y, weight_x, live, ACCUMULATE)
        x = x * ratio + column
        y = y * ratio + row

        channel = (item % chunks * CHANNELS + tl.arange(0, CHANNELS))[None, :]
        wanted = channel < channels
        total = tl.zeros((PIXELS, CHANNELS), ACCUMULATE)
        for corner in tl.static_range(4):
            inside, source, corner_x, corner_y = corner_taps(
                x, y, pixel, live, height, width, corner % 2, corner // 2
            )
            from_row = (image * height * width + source) * channels
            value = tl.load(
                feature + (from_row[:, None] + channel), mask=inside[:, None] & wanted, other=0
            )
            total += (corner_x * corner_y)[:, None] * value.to(ACCUMULATE)
        offset = pixel[:, None] * channels + channel
        mask = live[:, None] & wanted
        if scale is not None:
            total *= tl.load(scale + offset, mask=mask, other=0).to(ACCUMULATE)
        tl.store(output + offset, narrow(total, dtype), mask=mask)
