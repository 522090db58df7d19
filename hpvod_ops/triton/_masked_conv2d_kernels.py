"""The kernels behind `hpvod_ops.triton.masked_conv2d`: implicit GEMM over a list of pixels.

A tile of the result is PIXELS listed pixels by OUTPUTS channels. Its sum runs over the taps of
the kernel and, within a tap, over the input channels, DEPTH at a step; each step gathers rows
[PIXELS, DEPTH] of the input and multiplies them by a block of the weight on the tensor cores.
"""

# Triton has no type hints, and a kernel's arguments are of Triton's types.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# mypy: disallow-untyped-calls=False, disallow-untyped-decorators=False

from __future__ import annotations

import triton
import triton.language as tl

from hpvod_ops.triton._listed import listed_pixels, split_index
from hpvod_ops.triton._narrow import INTERPRETED, narrow

# The channels are specialized: where they are multiples of 16, rows are read 16 bytes a thread.
UNSPECIALIZED = (
    "in_height",
    "in_width",
    "out_height",
    "out_width",
    "stride",
    "padding",
    "dilation",
    "steps",
    "most_splits",
    "processors",
)


@triton.jit
def _division(listed, out_channels, steps, most_splits, processors, PIXELS, OUTPUTS):
    """(tiles, programs that share a tile's sum, steps that each of them does).

    Where a tile for each multiprocessor is wanting, several programs share a tile.
    """
    tiles = tl.cdiv(listed, PIXELS) * tl.cdiv(out_channels, OUTPUTS)
    splits = tl.minimum(processors // tl.maximum(tiles, 1), most_splits)
    split_steps = tl.cdiv(steps, tl.maximum(splits, 1))
    return tiles, tl.cdiv(steps, split_steps), split_steps


@triton.jit
def _finish(total, pixel, live, channel, bias, residual, output, out_channels, RELU: tl.constexpr):
    """Bias, residual and ReLU; then every row to its pixel's place."""
    wanted = channel < out_channels
    if bias is not None:
        total += tl.load(bias + channel, mask=wanted, other=0)[None, :]
    offset = pixel[:, None] * out_channels + channel[None, :]
    mask = live[:, None] & wanted[None, :]
    if residual is not None:
        total += tl.load(residual + offset, mask=mask, other=0).to(total.dtype)
    if RELU:
        total = tl.where(total < 0, 0, total)  # unlike a maximum, keeps NaN
    tl.store(output + offset, narrow(total, output.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=UNSPECIALIZED)
def conv_kernel(
    input,  # [N, H, W, I]
    weight,  # [O, kernel_height, KERNEL_WIDTH, I]
    bias,  # [O] or None, in the type of the sums
    residual,  # [N, H', W', O] or None; may be `output`
    output,  # [N, H', W', O]
    pixels,  # [capacity], indices into [N, H', W']
    count,  # [1]
    partial,  # [tiles * splits, PIXELS, OUTPUTS] in the type of the sums; None: sums are not split
    in_channels,
    in_height,
    in_width,
    out_channels,
    out_height,
    out_width,
    stride,
    padding,
    dilation,
    steps,  # over taps and blocks of channels
    most_splits,
    processors,
    TAPS: tl.constexpr,
    KERNEL_WIDTH: tl.constexpr,
    FLAT: tl.constexpr,  # whether a step runs across taps: for few input channels
    RELU: tl.constexpr,
    WIDE: tl.constexpr,
    PIXELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    SUM: tl.constexpr = tl.float64 if input.dtype.element_ty == tl.float64 else tl.float32
    listed = tl.load(count)
    tiles, splits, split_steps = _division(
        listed, out_channels, steps, most_splits, processors, PIXELS, OUTPUTS
    )
    columns = tl.cdiv(out_channels, OUTPUTS)
    blocks = tl.cdiv(in_channels, DEPTH)
    depth = TAPS * in_channels
    in_step = tl.arange(0, DEPTH)

    for item in range(tl.program_id(0), tiles * splits, tl.num_programs(0)):
        split = item // tiles
        tile = item - split * tiles
        # Neighbouring programs do the same pixels, so that these come from memory once.
        position = tile // columns * PIXELS + tl.arange(0, PIXELS)
        pixel, live = listed_pixels(pixels, position, listed, WIDE)
        image, out_y, out_x = split_index(pixel, out_height, out_width)
        first_y = out_y * stride - padding
        first_x = out_x * stride - padding
        image *= in_height * in_width
        channel = tile % columns * OUTPUTS + tl.arange(0, OUTPUTS)
        if WIDE:
            channel = channel.to(tl.int64)
        weight_row = weight + channel[None, :] * depth
        wanted = channel < out_channels

        total = tl.zeros((PIXELS, OUTPUTS), SUM)
        first_step = split * split_steps
        for step in range(first_step, tl.minimum(first_step + split_steps, steps)):
            if FLAT:
                k = step * DEPTH + in_step
                in_depth = k < depth
                tap = k // in_channels
                in_channel = (k - tap * in_channels)[None, :]
                y = first_y[:, None] + (tap // KERNEL_WIDTH * dilation)[None, :]
                x = first_x[:, None] + (tap % KERNEL_WIDTH * dilation)[None, :]
                inside = live[:, None] & (y >= 0) & (y < in_height) & (x >= 0) & (x < in_width)
                offset = (image[:, None] + y * in_width + x) * in_channels + in_channel
                mask = inside & in_depth[None, :]
            else:
                if TAPS == 1:
                    tap = 0
                    in_channel = step * DEPTH + in_step
                else:
                    tap = step // blocks
                    in_channel = (step - tap * blocks) * DEPTH + in_step
                k = tap * in_channels + in_channel
                in_depth = in_channel < in_channels
                y = first_y + tap // KERNEL_WIDTH * dilation
                x = first_x + tap % KERNEL_WIDTH * dilation
                inside = live & (y >= 0) & (y < in_height) & (x >= 0) & (x < in_width)
                row = (image + y * in_width + x) * in_channels
                offset = row[:, None] + in_channel[None, :]
                mask = inside[:, None] & in_depth[None, :]
            rows = tl.load(input + offset, mask=mask, other=0)
            block = tl.load(
                weight_row + k[:, None], mask=in_depth[:, None] & wanted[None, :], other=0
            )
            if INTERPRETED and rows.dtype == tl.bfloat16:
                # The interpreter would multiply the bits of bfloat16.
                rows, block = rows.to(tl.float32), block.to(tl.float32)
            total = tl.dot(rows, block, total, input_precision="ieee", out_dtype=SUM)

        if partial is None:  # noqa: SIM114  (known when compiling, unlike the other)
            _finish(total, pixel, live, channel, bias, residual, output, out_channels, RELU)
        elif splits == 1:
            _finish(total, pixel, live, channel, bias, residual, output, out_channels, RELU)
        else:
            row = item * PIXELS + tl.arange(0, PIXELS)
            offset = row[:, None] * OUTPUTS + tl.arange(0, OUTPUTS)[None, :]
            tl.store(partial + offset, total, mask=live[:, None] & wanted[None, :])


@triton.jit(do_not_specialize=UNSPECIALIZED)
def sum_kernel(
    partial,  # as conv_kernel left it
    bias,
    residual,
    output,
    pixels,
    count,
    out_channels,
    steps,
    most_splits,
    processors,
    RELU: tl.constexpr,
    WIDE: tl.constexpr,
    PIXELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Adds what the programs of a tile summed, always in the same order."""
    listed = tl.load(count)
    tiles, splits, _ = _division(
        listed, out_channels, steps, most_splits, processors, PIXELS, OUTPUTS
    )
    if splits > 1:
        columns = tl.cdiv(out_channels, OUTPUTS)
        PARTS: tl.constexpr = PIXELS // ROWS
        for item in range(tl.program_id(0), tiles * PARTS, tl.num_programs(0)):
            tile = item // PARTS
            row = item % PARTS * ROWS + tl.arange(0, ROWS)
            pixel, live = listed_pixels(pixels, tile // columns * PIXELS + row, listed, WIDE)
            channel = tile % columns * OUTPUTS + tl.arange(0, OUTPUTS)
            offset = (tile * PIXELS + row[:, None]) * OUTPUTS + tl.arange(0, OUTPUTS)[None, :]
            mask = live[:, None] & (channel < out_channels)[None, :]
            if WIDE:
                channel = channel.to(tl.int64)
            total = tl.zeros((ROWS, OUTPUTS), partial.dtype.element_ty)
            for split in range(splits):
                of_split = offset + split * tiles * PIXELS * OUTPUTS
                total += tl.load(partial + of_split, mask=mask, other=0)
            _finish(total, pixel, live, channel, bias, residual, output, out_channels, RELU)
