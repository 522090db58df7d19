"""The kernel behind `hpvod_ops.triton.ps_roi_pool`."""

# Triton has no type hints, and a kernel's arguments are of Triton's types.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# mypy: disallow-untyped-calls=False, disallow-untyped-decorators=False

from __future__ import annotations

import triton
import triton.language as tl

from hpvod_ops.triton._narrow import narrow

FAR = tl.constexpr(2.0**24)  # corners farther than this are moved here


@triton.jit
def _whole(corner):
    """The corner rounded to whole image pixels, halves up."""
    corner = tl.where(corner == corner, corner, 0)
    return tl.minimum(tl.maximum(tl.floor(corner + 0.5), -FAR), FAR).to(tl.int64)


@triton.jit
def _pixel_at(position, pixel, side):
    """The index of the pixel at a position, moved into [0, side]; // cuts off towards 0."""
    return tl.minimum(tl.maximum(position, 0) // pixel, side).to(tl.int32)


@triton.jit
def _touched(low, high, index, groups, stride, side):
    """The feature pixels [first, end) that bin `index` touches along one side.

    In integers, the unit being a (10 * groups)th of an image pixel, as in csrc/kernels/roi_bins.h.
    """
    first = _whole(low)
    length = tl.maximum(10 * (_whole(high) + 1 - first), stride)
    begin = 10 * groups * first + index * length
    pixel = (10 * groups).to(tl.int64) * stride
    return _pixel_at(begin, pixel, side), _pixel_at(begin + length + pixel - 1, pixel, side)


@triton.jit(do_not_specialize=("batch", "height", "width", "groups", "stride"))
def pool_kernel(
    score_maps,  # [N, C, groups, groups, h, w]
    boxes,  # [R, 5]
    output,  # [R, C, groups, groups]
    batch,
    channels,
    height,
    width,
    groups,
    stride,
    channel_step,
    pixel_step,
    CHANNELS: tl.constexpr,
    BINS: tl.constexpr,
):
    dtype: tl.constexpr = score_maps.dtype.element_ty
    ACCUMULATE: tl.constexpr = tl.float64 if dtype == tl.float64 else tl.float32
    bins = groups * groups
    bin_blocks = tl.cdiv(bins, BINS)
    program = tl.program_id(0)
    bin = program % bin_blocks * BINS + tl.arange(0, BINS)
    program = program // bin_blocks
    chunks = tl.cdiv(channels, CHANNELS)
    channel = (program % chunks * CHANNELS + tl.arange(0, CHANNELS))[:, None]
    roi = (program // chunks).to(tl.int64)

    image = tl.load(boxes + roi * 5)
    left, top = tl.load(boxes + roi * 5 + 1), tl.load(boxes + roi * 5 + 2)
    right, bottom = tl.load(boxes + roi * 5 + 3), tl.load(boxes + roi * 5 + 4)
    known = (left == left) & (top == top) & (right == right) & (bottom == bottom)
    known = known & (image > -1) & (image < batch)
    first_x, end_x = _touched(left, right, bin % groups, groups, stride, width)
    first_y, end_y = _touched(top, bottom, bin // groups, groups, stride, height)
    # Of neither a RoI without pixels nor a bin that there is not, anything is read.
    rows = tl.where(known, tl.where(bin < bins, end_y - first_y, 0), 0)
    columns = end_x - first_x
    area = tl.maximum(rows * columns, 1).to(ACCUMULATE)

    plane = height.to(tl.int64) * width
    score_maps += tl.where(known, image, 0).to(tl.int64) * channels * bins * plane
    score_maps += (channel * bins + bin[None, :]).to(tl.int64) * channel_step
    score_maps += ((first_y * width + first_x).to(tl.int64) * pixel_step)[None, :]
    # Row by row: so fewer sums are long, and less is rounded away.
    total = tl.zeros((CHANNELS, BINS), ACCUMULATE)
    for y in range(tl.max(rows, axis=0)):
        row = tl.zeros((CHANNELS, BINS), ACCUMULATE)
        for x in range(tl.max(columns, axis=0)):
            touched = ((y < rows) & (x < columns))[None, :] & (channel < channels)
            offset = (y * width + x).to(tl.int64) * pixel_step
            row += tl.load(score_maps + offset, mask=touched, other=0).to(ACCUMULATE)
        total += row
    if dtype == tl.float64:
        average = total / area[None, :]
    else:
        average = tl.div_rn(total, tl.broadcast_to(area[None, :], (CHANNELS, BINS)))
    result = (roi * channels + channel) * bins + bin[None, :]
    wanted = (channel < channels) & (bin < bins)[None, :]
    tl.store(output + result, narrow(average, dtype), mask=wanted)
