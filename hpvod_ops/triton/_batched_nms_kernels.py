"""The kernel behind `hpvod_ops.triton.batched_nms`."""

# Triton has no type hints, and a kernel's arguments are of Triton's types.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# mypy: disallow-untyped-calls=False, disallow-untyped-decorators=False

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _box(boxes, labels, index, live):
    """Corners, right and bottom one behind the last pixel, and label; NaN where not `live`."""
    left = tl.load(boxes + 4 * index, mask=live, other=float("nan"))
    top = tl.load(boxes + 4 * index + 1, mask=live, other=0)
    right = tl.load(boxes + 4 * index + 2, mask=live, other=0) + 1
    bottom = tl.load(boxes + 4 * index + 3, mask=live, other=0) + 1
    return left, top, right, bottom, tl.load(labels + index, mask=live, other=0)


@triton.jit
def _suppresses(a, b, threshold):
    left, top, right, bottom, label = a
    other_left, other_top, other_right, other_bottom, other_label = b
    width = tl.maximum(tl.minimum(right, other_right) - tl.maximum(left, other_left), 0)
    height = tl.maximum(tl.minimum(bottom, other_bottom) - tl.maximum(top, other_top), 0)
    intersection = width * height
    areas = (right - left) * (bottom - top)
    areas += (other_right - other_left) * (other_bottom - other_top)
    return (label == other_label) & (intersection > threshold * (areas - intersection))


@triton.jit(do_not_specialize=("candidates", "count"))
def nms_kernel(
    boxes,  # [N, K, 4]
    labels,  # [N, K]
    order,  # [N, K]
    valid,  # bool [N, K], or None
    indices,  # [N, D], zeros
    counts,  # [N]
    candidates,  # K
    count,  # D
    threshold,
    TILE: tl.constexpr,
    KEPT: tl.constexpr,
):
    """A tile at a time: tested against all that are kept, then the first that is left is kept."""
    image = tl.program_id(0).to(tl.int64)
    boxes += image * candidates * 4
    labels += image * candidates
    order += image * candidates
    indices += image * count
    counts += image
    total = candidates
    if valid is not None:
        valid += image * candidates
        number = tl.zeros((TILE,), tl.int32)
        for first in range(0, candidates, TILE):
            place = first + tl.arange(0, TILE)
            number += tl.load(valid + place, mask=place < candidates, other=0).to(tl.int32)
        total = tl.sum(number, axis=0)

    lane = tl.arange(0, TILE)
    kept = 0
    seen = 0
    first = 0
    while (first < candidates) & (seen < total) & (kept < count):
        index = tl.load(order + first + lane, mask=first + lane < candidates, other=-1)
        alive = (index >= 0) & (index < candidates)
        if valid is not None:
            alive = alive & (tl.load(valid + index, mask=alive, other=0) != 0)
        seen += tl.sum(alive.to(tl.int32), axis=0)
        left, top, right, bottom, label = _box(boxes, labels, index, alive)
        own = (left[:, None], top[:, None], right[:, None], bottom[:, None], label[:, None])
        for start in range(0, kept, KEPT):
            place = start + tl.arange(0, KEPT)
            other = tl.load(indices + place, mask=place < kept, other=0)
            a, b, c, d, e = _box(boxes, labels, other, place < kept)
            others = (a[None, :], b[None, :], c[None, :], d[None, :], e[None, :])
            goes = _suppresses(own, others, threshold)
            alive = alive & (tl.max(goes.to(tl.int32), axis=1) == 0)
        best = tl.min(tl.where(alive, lane, TILE), axis=0)
        while (best < TILE) & (kept < count):
            chosen = tl.load(order + first + best)
            tl.store(indices + kept, chosen)
            kept += 1
            winner = _box(boxes, labels, chosen, True)
            goes = _suppresses((left, top, right, bottom, label), winner, threshold)
            alive = alive & (lane > best) & (goes == 0)
            best = tl.min(tl.where(alive, lane, TILE), axis=0)
        # Other threads read the indices that one has stored.
        tl.debug_barrier()
        first += TILE
    tl.store(counts, kept)
