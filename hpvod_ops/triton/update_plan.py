"""`update_plan` in Triton, in three launches, whatever the number of lists.

The first decides U and the key frames, a program a frame. The lists' tiles are all in one grid:
the second launch counts each tile's pixels, the third writes them, after as many as the list's
earlier tiles hold. Every program adds up these itself: they are few, and a launch for them alone
would take longer. A pixel is tested twice rather than remembered: U is small and stays in cache.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from hpvod_ops.triton import _launch
from hpvod_ops.triton._update_plan_kernels import FIELDS, count_kernel, list_kernel, mask_kernel

FRAME_POSITIONS = 4096  # of U at a time: all of a 600 x 1000 frame's
FRAME_WARPS = 8
TILE_PIXELS = 1024  # of a list
SCANNED_TILES = 1024  # at a time


def update_plan(
    q: Tensor,
    tau: float,
    gamma: float,
    key: Tensor | None,
    sets: Sequence[int],
    mask: Tensor,
    is_key: Tensor,
    changed: Tensor,
    pixels: Tensor,
    counts: Tensor,
) -> None:
    """`hpvod_ops.update_plan` for inputs that it has checked.

    Args:
        q: [N, 1, h, w], of any strides.
        tau: U is 1 where Q <= tau, which is a number of q's dtype.
        gamma: a frame is a key frame where more than this share of U is 1.
        key: bool [N], of any stride, decides in place of gamma; or None.
        sets: L times (kind, ratio, dilation, height, width, offset): which pixels list l holds, and
            where in `pixels` it begins; kind: 0 active, 1 halo, 2 reached, 3 inactive.
        mask: bool [N, 1, h, w], gets U, all ones for a key frame.
        is_key: bool [N], gets the key frames.
        changed: int32 [N], gets the number of positions where Q <= tau.
        pixels: int32, gets the lists.
        counts: int32 [L], gets how many pixels each list holds.
    """
    batch, _, mask_height, mask_width = q.shape
    plane = mask_height * mask_width
    q = q.contiguous()
    key = None if key is None else key.contiguous()
    with _launch.active(q.device):
        if batch > 0:
            mask_kernel[(batch,)](
                q,
                key,
                mask,
                is_key,
                changed,
                tau,
                _key_from(gamma, plane),
                plane,
                POSITIONS=FRAME_POSITIONS,
                num_warps=FRAME_WARPS,
            )
        tiled, tiles = _tiled_sets(tuple(sets), batch, TILE_PIXELS)
        if len(tiled) < len(counts) * FIELDS.value:
            counts.zero_()  # a list without room has no tile to say that it is empty
        if tiles == 0:
            return
        tile_counts = torch.empty(tiles, dtype=torch.int32, device=q.device)
        shape = (batch, mask_height, mask_width, tiled)
        constants = {"SETS": len(tiled) // FIELDS.value, "PIXELS": TILE_PIXELS}
        count_kernel[(tiles,)](mask, tile_counts, *shape, **constants)
        list_kernel[(tiles,)](
            mask, tile_counts, pixels, counts, *shape, **constants, SCANNED=SCANNED_TILES
        )


@functools.cache
def _key_from(gamma: float, plane: int) -> int:
    """The least number of positions whose share of the plane is larger than gamma."""
    return bisect.bisect_right(range(plane + 1), gamma, key=lambda number: number / max(plane, 1))


@functools.cache
def _tiled_sets(sets: tuple[int, ...], batch: int, tile_pixels: int) -> tuple[tuple[int, ...], int]:
    """The sets that have pixels at all, FIELDS integers each, and how many tiles they are."""
    fields: list[int] = []
    tiles = 0
    for number in range(len(sets) // 6):
        described = sets[6 * number : 6 * number + 6]
        size = batch * described[3] * described[4]
        if size > 0:
            fields += [number, *described, tiles]
            tiles += triton.cdiv(size, tile_pixels)
    return tuple(fields), tiles
