"""`masked_conv2d_` in Triton: an implicit GEMM over the listed pixels, on tensor cores.

Tiles are fixed functions of shape and dtype, for the reasons that warp.py gives, and reckoned for
an H100. In half precision a multiprocessor does 4096 operations a clock and gets some 35 bytes a
clock from the L2 cache. A 128 x 128 tile asks for 32 KiB a step of 512 clocks, a 64 x 128 one for
24 KiB a step of 256: so the large one wherever a full list gives two of them for every
multiprocessor, and otherwise the small one, the least that fills Hopper's instruction of 64 rows.
Either keeps 64 accumulators a thread and 64 to 72 KiB of loads in flight, more than latency times
bandwidth. Registers let two programs of small tiles share a multiprocessor, so that one computes
while the other gathers its first rows or stores its last; of large ones, one fits.

A short list of pixels is a few tiles with long sums. Such a sum is split over the idle
multiprocessors; a second kernel adds the parts in their order, so the result is the same every
time. That costs a launch and the parts' way through the L2 cache, some 2 us or 10 steps, so only
sums of `SPLIT_FROM` steps and more are split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from hpvod_ops.triton import _launch
from hpvod_ops.triton._masked_conv2d_kernels import conv_kernel, sum_kernel

PROGRAMS_PER_PROCESSOR = 2
ENOUGH_TILES = 2 * 132
SPLIT_FROM = 32
SPLIT_STEPS = 8
SUM_ROWS = 16


@dataclass(frozen=True)
class Tile:
    """What one program does at a time."""

    pixels: int
    outputs: int
    depth: int  # of the sum, in a step
    warps: int
    stages: int


def conv_tile(
    dtype: torch.dtype, in_channels: int, out_channels: int, capacity: int, flat: bool
) -> Tile:
    """The tile for a list of at most `capacity` pixels."""

    def at_most(size: int, most: int) -> int:
        block: int = triton.next_power_of_2(size)
        return min(max(block, 16), most)

    if dtype == torch.float64:
        return Tile(32, at_most(out_channels, 32), 16, warps=4, stages=2)
    if dtype == torch.float32:
        # No tensor cores: every product passes through registers.
        return Tile(64, at_most(out_channels, 64), 16, warps=4, stages=3)
    outputs = at_most(out_channels, 128)
    depth = 32 if flat else at_most(in_channels, 64)
    tiles = triton.cdiv(capacity, 128) * triton.cdiv(out_channels, outputs)
    if tiles >= ENOUGH_TILES:
        return Tile(128, outputs, depth, warps=8, stages=3)
    return Tile(64, outputs, depth, warps=4, stages=4)


def is_flat(in_channels: int) -> bool:
    """Whether a step of the sum runs across taps: where one tap's channels would not fill it."""
    return in_channels < 16


def masked_conv2d(
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    pixels: Tensor,
    count: Tensor,
    kernel: Sequence[int],
    stride: int,
    padding: int,
    dilation: int,
    relu: bool,
) -> None:
    """`hpvod_ops.masked_conv2d_` for inputs that it has checked.

    Args:
        out: [N, O, H', W'], channels_last, written at the listed pixels only.
        x: [N, I, H, W], channels_last.
        weight: [O, kernel height, kernel width, I], contiguous, in the maps' dtype.
        bias: [O] in float32 (float64 for float64 maps), or None.
        residual: [N, O, H', W'], channels_last, added before the ReLU; may be `out`; or None.
        pixels: int32 [capacity], different indices into [N, H', W'].
        count: int32 [1], how many of them are listed; read on the device alone.
        kernel: its height and width.
        stride: the same in both directions, as are the two below.
        padding: zeros around the input.
        dilation: pixels from tap to tap.
        relu: whether max(0, .) comes last.
    """
    batch, in_channels, in_height, in_width = x.shape
    out_channels, out_height, out_width = out.shape[1:]
    capacity = pixels.shape[0]
    if out.numel() == 0 or capacity == 0:
        return

    taps = kernel[0] * kernel[1]
    flat = is_flat(in_channels)
    tile = conv_tile(x.dtype, in_channels, out_channels, capacity, flat)
    depth = taps * in_channels
    steps = triton.cdiv(depth, tile.depth)
    if not flat:
        steps = taps * triton.cdiv(in_channels, tile.depth)
    # Lanes that a mask silences reach beyond the maps: by the padding, and by a tile.
    reach = (kernel[0] + kernel[1]) * dilation + padding
    in_pixels = batch * in_height * in_width + reach * (in_width + 1)
    wide = (
        max(
            in_pixels * (in_channels + tile.depth),
            batch * out_height * out_width * (out_channels + tile.outputs),
            (out_channels + tile.outputs) * (depth + tile.depth),
        )
        >= _launch.INT32_ELEMENTS
    )

    resident = _launch.processors(x.device)
    most_splits = max(steps // SPLIT_STEPS, 1) if steps >= SPLIT_FROM else 1
    partial = None
    if most_splits > 1:
        partial = torch.empty(
            (resident, tile.pixels, tile.outputs),
            dtype=torch.promote_types(x.dtype, torch.float32),
            device=x.device,
        )
    tiles = triton.cdiv(capacity, tile.pixels) * triton.cdiv(out_channels, tile.outputs)
    programs = min(PROGRAMS_PER_PROCESSOR * resident, tiles * most_splits)
    with _launch.active(x.device):
        conv_kernel[(programs,)](
            x,
            weight,
            bias,
            residual,
            out,
            pixels,
            count,
            partial,
            in_channels,
            in_height,
            in_width,
            out_channels,
            out_height,
            out_width,
            stride,
            padding,
            dilation,
            steps,
            most_splits,
            resident,
            TAPS=taps,
            KERNEL_WIDTH=kernel[1],
            FLAT=flat,
            RELU=relu,
            WIDE=wide,
            PIXELS=tile.pixels,
            OUTPUTS=tile.outputs,
            DEPTH=tile.depth,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
        if partial is None:
            return
        sum_kernel[(PROGRAMS_PER_PROCESSOR * resident,)](
            partial,
            bias,
            residual,
            out,
            pixels,
            count,
            out_channels,
            steps,
            most_splits,
            resident,
            RELU=relu,
            WIDE=wide,
            PIXELS=tile.pixels,
            OUTPUTS=tile.outputs,
            ROWS=SUM_ROWS,
        )
