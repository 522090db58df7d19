"""The kernels behind `hpvod_ops.triton.update_plan`."""

# Triton has no type hints, and a kernel's arguments are of Triton's types.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# mypy: disallow-untyped-calls=False, disallow-untyped-decorators=False

from __future__ import annotations

import triton
import triton.language as tl

from hpvod_ops.triton._listed import split_index
from hpvod_ops.triton._narrow import INTERPRETED

ACTIVE, HALO, REACHED, INACTIVE = (tl.constexpr(kind) for kind in range(4))
FIELDS = tl.constexpr(8)  # number, kind, ratio, dilation, height, width, offset, first tile
UNSPECIALIZED = ("batch", "mask_height", "mask_width")


@triton.jit
def _is_below(q, position, plane, limit):
    live = position < plane
    value = tl.load(q + position, mask=live, other=0)
    if INTERPRETED and q.dtype.element_ty == tl.bfloat16:
        # The interpreter takes the smallest bfloat16 for 0.
        bits = value.to(tl.int16, bitcast=True).to(tl.int32) << 16
        value = bits.to(tl.float32, bitcast=True)
    return live & (value.to(tl.float64) <= limit)


@triton.jit(do_not_specialize=("key_from", "plane"))
def mask_kernel(
    q,  # [N, h, w]
    forced_key,  # bool [N] or None
    mask,  # bool [N, h, w]
    is_key,  # bool [N]
    changed,  # int32 [N]
    tau: tl.float64,
    key_from,  # a frame with so many changed positions is a key frame
    plane,  # h * w
    POSITIONS: tl.constexpr,
):
    image = tl.program_id(0).to(tl.int64)
    q += image * plane
    mask += image * plane
    # A number handed on to a function would become float32 in the interpreter.
    limit = tl.full((POSITIONS,), tau, tl.float64)
    below = tl.zeros((POSITIONS,), tl.int32)
    for first in range(0, plane, POSITIONS):
        position = first + tl.arange(0, POSITIONS)
        below += _is_below(q, position, plane, limit).to(tl.int32)
    total = tl.sum(below, axis=0)
    tl.store(changed + image, total)
    if forced_key is None:
        key = tl.where(total >= key_from, 1, 0)
    else:
        key = tl.load(forced_key + image).to(tl.int32)
    tl.store(is_key + image, key != 0)
    for first in range(0, plane, POSITIONS):
        position = first + tl.arange(0, POSITIONS)
        # Integers: the interpreter has no booleans of one scalar and one block.
        update = _is_below(q, position, plane, limit).to(tl.int32) | key
        tl.store(mask + position, update != 0, mask=position < plane)


@triton.jit
def _set_of(tile, sets, SETS: tl.constexpr):
    """The fields of the set that a tile belongs to."""
    number, kind, ratio, dilation = sets[0], sets[1], sets[2], sets[3]
    height, width, offset, first_tile = sets[4], sets[5], sets[6], sets[7]
    for place in tl.static_range(1, SETS):
        later = tile >= sets[place * FIELDS + 7]
        number = tl.where(later, sets[place * FIELDS], number)
        kind = tl.where(later, sets[place * FIELDS + 1], kind)
        ratio = tl.where(later, sets[place * FIELDS + 2], ratio)
        dilation = tl.where(later, sets[place * FIELDS + 3], dilation)
        height = tl.where(later, sets[place * FIELDS + 4], height)
        width = tl.where(later, sets[place * FIELDS + 5], width)
        offset = tl.where(later, sets[place * FIELDS + 6], offset)
        first_tile = tl.where(later, sets[place * FIELDS + 7], first_tile)
    return number, kind, ratio, dilation, height, width, offset, first_tile


@triton.jit
def _is_active(mask, image, y, x, inside, mask_height, mask_width, ratio):
    mask_y = tl.minimum(y // ratio, mask_height - 1)
    mask_x = tl.minimum(x // ratio, mask_width - 1)
    position = (image * mask_height + mask_y) * mask_width + mask_x
    return tl.load(mask + position, mask=inside, other=0) != 0


@triton.jit
def _members(pixel, mask, batch, mask_height, mask_width, kind, ratio, dilation, height, width):
    """Which pixels of a layer its set holds."""
    live = pixel < batch * height * width
    image, y, x = split_index(pixel, height, width)
    active = _is_active(mask, image, y, x, live, mask_height, mask_width, ratio)
    others = tl.zeros_like(pixel) + tl.where(kind == INACTIVE, 1, 0)
    if (kind == HALO) | (kind == REACHED):
        for neighbour in tl.static_range(9):
            if neighbour != 4:
                near_y = y + (neighbour // 3 - 1) * dilation
                near_x = x + (neighbour % 3 - 1) * dilation
                inside = live & (near_y >= 0) & (near_y < height)
                inside = inside & (near_x >= 0) & (near_x < width)
                others |= _is_active(
                    mask, image, near_y, near_x, inside, mask_height, mask_width, ratio
                ).to(tl.int32)
    with_active = tl.where((kind == ACTIVE) | (kind == REACHED), 1, 0)
    return live & (tl.where(active, with_active, others) != 0)


@triton.jit(do_not_specialize=UNSPECIALIZED)
def count_kernel(
    mask,  # bool [N, h, w]
    tile_counts,  # int32 [tiles]
    batch,
    mask_height,
    mask_width,
    sets,  # SETS x FIELDS integers
    SETS: tl.constexpr,
    PIXELS: tl.constexpr,
):
    tile = tl.program_id(0)
    _, kind, ratio, dilation, height, width, _, first_tile = _set_of(tile, sets, SETS)
    pixel = (tile - first_tile) * PIXELS + tl.arange(0, PIXELS)
    member = _members(
        pixel, mask, batch, mask_height, mask_width, kind, ratio, dilation, height, width
    )
    tl.store(tile_counts + tile, tl.sum(member.to(tl.int32), axis=0))


@triton.jit(do_not_specialize=UNSPECIALIZED)
def list_kernel(
    mask,  # bool [N, h, w]
    tile_counts,  # int32 [tiles], as count_kernel left it
    pixels,  # int32, all lists
    counts,  # int32 [L]
    batch,
    mask_height,
    mask_width,
    sets,  # SETS x FIELDS integers
    SETS: tl.constexpr,
    PIXELS: tl.constexpr,
    SCANNED: tl.constexpr,
):
    tile = tl.program_id(0)
    number, kind, ratio, dilation, height, width, offset, first_tile = _set_of(tile, sets, SETS)
    pixel = (tile - first_tile) * PIXELS + tl.arange(0, PIXELS)
    member = _members(
        pixel, mask, batch, mask_height, mask_width, kind, ratio, dilation, height, width
    )
    earlier = tl.zeros((SCANNED,), tl.int32)
    for first in range(first_tile, tile, SCANNED):
        scanned = first + tl.arange(0, SCANNED)
        earlier += tl.load(tile_counts + scanned, mask=scanned < tile, other=0)
    before = tl.sum(earlier, axis=0)
    rank = tl.cumsum(member.to(tl.int32), axis=0)
    tl.store(pixels + offset + (before + rank - 1), pixel, mask=member)
    if tile == first_tile + tl.cdiv(batch * height * width, PIXELS) - 1:
        tl.store(counts + number, before + tl.load(tile_counts + tile))
