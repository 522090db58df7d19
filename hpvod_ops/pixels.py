"""The pixels of a layer that a frame computes or reads, as lists that stay on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

KINDS = ("active", "halo", "reached", "inactive")
MAX_SETS = 16  # csrc/kernels/update_plan.h passes them to its kernels by value


class PixelSet(NamedTuple):
    """Which pixels of a layer are meant.

    A pixel (y, x) is active where U is 1 at (min(y // ratio, h - 1), min(x // ratio, w - 1)).

    Args:
        kind: "active"; "halo": not active, but an active pixel of the layer lies at one of the
            eight offsets {-dilation, 0, dilation}^2; "reached": active and halo; "inactive": all
            but active.
        ratio: pixels of the layer a pixel of Q, in each direction.
        height: of the layer, in its pixels.
        width: likewise.
        dilation: read by "halo" and "reached".
    """

    kind: str
    ratio: int
    height: int
    width: int
    dilation: int = 1


class PixelList(NamedTuple):
    """Some pixels of a layer, on the device.

    Args:
        indices: int32, [capacity]: flat indices n * H * W + y * W + x, rising, as far as `count`
            says; the rest is undefined.
        count: int32, [1].
    """

    indices: Tensor
    count: Tensor  # type: ignore[assignment]  # shadows tuple.count


@dataclass(frozen=True, eq=False)
class UpdatePlan:
    """What `update_plan` finds out about a batch of frames; allocated once, refilled each frame.

    Attributes:
        sets: the pixels that are listed.
        mask: U, bool, [N, 1, h, w]; all ones for a key frame.
        is_key: bool, [N].
        changed: int32, [N]: at how many positions Q <= tau, key frame or not.
        counts: int32, [L]: of each list, how many pixels.
        pixels: int32: the lists' indices, one list behind the other.
        lists: of each set, the views of `pixels` and `counts` that are its list.
        layout: of each set, the six numbers that torch.ops.hpvod.update_plan takes.
    """

    sets: tuple[PixelSet, ...]
    mask: Tensor
    is_key: Tensor
    changed: Tensor
    counts: Tensor
    pixels: Tensor = field(repr=False)
    lists: dict[PixelSet, PixelList] = field(repr=False)
    layout: tuple[int, ...] = field(repr=False)

    @classmethod
    def empty(
        cls,
        batch: int,
        height: int,
        width: int,
        sets: Sequence[PixelSet],
        device: torch.device | str,
    ) -> UpdatePlan:
        """Allocates a plan. Its lists are empty; the rest is undefined until it is filled.

        Args:
            batch: N.
            height: of Q.
            width: of Q.
            sets: the pixels to list; at most 16 sets, all different.
            device: where Q is.

        Raises:
            ValueError: a set is not one, or there are too many.
        """
        sets = tuple(sets)
        _check(sets, height, width)
        sizes = [batch * each.height * each.width for each in sets]
        pixels = torch.empty(sum(sizes), dtype=torch.int32, device=device)
        counts = torch.zeros(len(sets), dtype=torch.int32, device=device)
        lists, layout = {}, []
        for number, (each, size) in enumerate(zip(sets, sizes, strict=True)):
            offset = sum(sizes[:number])
            lists[each] = PixelList(pixels[offset : offset + size], counts[number : number + 1])
            kind = KINDS.index(each.kind)
            layout += [kind, each.ratio, each.dilation, each.height, each.width, offset]
        return cls(
            sets=sets,
            mask=torch.empty(batch, 1, height, width, dtype=torch.bool, device=device),
            is_key=torch.empty(batch, dtype=torch.bool, device=device),
            changed=torch.empty(batch, dtype=torch.int32, device=device),
            counts=counts,
            pixels=pixels,
            lists=lists,
            layout=tuple(layout),
        )


def _check(sets: tuple[PixelSet, ...], height: int, width: int) -> None:
    if len(sets) > MAX_SETS:
        raise ValueError(f"sets: at most {MAX_SETS}, not {len(sets)}")
    for number, each in enumerate(sets):
        if each.kind not in KINDS:
            raise ValueError(f"sets: {each} is of no kind; there are {', '.join(KINDS)}")
        if each.ratio < 1 or each.dilation < 1 or each.height < 0 or each.width < 0:
            raise ValueError(f"sets: {each} needs a ratio and dilation above 0, no size below 0")
        if each.height * each.width > 0 and height * width == 0:
            raise ValueError(f"sets: {each} has pixels, but Q is [{height}, {width}]")
        if each in sets[:number]:
            raise ValueError(f"sets: {each} is there twice")
