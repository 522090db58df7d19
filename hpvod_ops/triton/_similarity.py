"""How alike two embeddings are (Eq. 3), as the aggregating kernels compute it."""

# Triton has no type hints, and a kernel's arguments are of Triton's types.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# mypy: disallow-untyped-calls=False, disallow-untyped-decorators=False

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl


@dataclass(frozen=True)
class ChannelTile:
    """What one program loads of a map at a time, on its way along the channels of its pixels."""

    pixels: int
    channels: int
    warps: int = 4


def channel_tile(channels: int, itemsize: int) -> ChannelTile:
    """16 bytes a thread, a warp along one pixel's channels: so their sums stay within warps.

    Args:
        channels: of the features or of the embeddings, whichever have more.
        itemsize: bytes an element.
    """
    vector = 16 // itemsize
    row = min(triton.next_power_of_2(channels), 32 * vector)
    return ChannelTile(pixels=min(4 * 32 * vector // row, 32), channels=row)


@triton.jit
def divide(value, by):
    """To the nearest: a number by itself is 1."""
    if value.dtype == tl.float64:
        return value / by
    else:
        return tl.div_rn(value, by)


@triton.jit
def guarded_norm(square):
    """By what an embedding is divided, from the sum of its squares.

    An embedding of zeros has cosine 0 with every other and with itself.
    """
    smallest = tl.full(square.shape, 1e-12, square.dtype)
    return tl.maximum(tl.sqrt(square), smallest)
