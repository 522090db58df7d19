"""The tile of kernels at listed pixels that have no sums over channels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton

from hpvod_ops.triton import _launch

# 16 programs of 4 warps are all the warps that a multiprocessor holds.
PROGRAMS_PER_PROCESSOR = 16


@dataclass(frozen=True)
class RowTile:
    """What one program does at a time."""

    pixels: int
    channels: int
    warps: int = 4

    def programs(self, capacity: int, channels: int, device: torch.device) -> int:
        """How many to launch for lists of at most `capacity` pixels."""
        tiles: int = triton.cdiv(capacity, self.pixels) * triton.cdiv(channels, self.channels)
        return min(PROGRAMS_PER_PROCESSOR * _launch.processors(device), tiles)


def row_tile(channels: int, itemsize: int) -> RowTile:
    """16 bytes a thread, a warp along one pixel's channels."""
    vector = 16 // itemsize
    row = min(triton.next_power_of_2(channels), 32 * vector)
    return RowTile(pixels=4 * 32 * vector // row, channels=row)
