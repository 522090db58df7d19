"""Random cases of `update_plan`, whose results are exact."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from ops.listed_cases import DTYPES, PATTERNS, patterned_mask
from torch import Tensor

from hpvod_ops import PixelSet, UpdatePlan

KINDS = ("active", "halo", "reached", "inactive")


@dataclass(frozen=True)
class Inputs:
    q: Tensor
    tau: float  # as q's dtype holds it
    gamma: float
    key: Tensor | None
    sets: tuple[PixelSet, ...]


def random_inputs(index: int, device: torch.device) -> Inputs:
    """One of the random cases; the index alone determines it.

    Every fourth case has the same dtype, every ninth the same pattern of U. Q is tau itself, just
    above it, NaN and infinite as well. Layers are `ratio` times as large as Q, or a little less,
    or reach beyond it.
    """
    choose = random.Random(index)
    generator = torch.Generator().manual_seed(index)
    dtype, pattern = DTYPES[index % 4], PATTERNS[index % 9]
    batch, height, width = choose.choice((1, 1, 2, 3)), choose.randint(1, 7), choose.randint(1, 9)
    if index % 7 == 0:
        height, width = choose.choice(((19, 25), (2, 270)))
    tau = float(torch.tensor(choose.choice((0.0, 0.0, 0.1, -1.3)), dtype=dtype))
    mask = patterned_mask(pattern, batch, height, width, index)
    away = torch.rand(mask.shape, generator=generator)
    q = torch.where(mask, tau - away, tau + 0.1 + away).to(dtype)
    wild = torch.rand(mask.shape, generator=generator)
    above = torch.nextafter(q.new_tensor(tau), q.new_tensor(math.inf))
    for low, high, below_value, above_value in (
        (0.0, 0.1, q.new_tensor(tau), above),
        (0.1, 0.15, q.new_tensor(-math.inf), q.new_tensor(math.nan)),
        (0.15, 0.2, q.new_tensor(tau), q.new_tensor(math.inf)),
    ):
        chosen = (wild >= low) & (wild < high)
        q = torch.where(chosen, torch.where(mask, below_value, above_value), q)

    def layer_set(kind: str, dilation: int) -> PixelSet:
        ratio = choose.choice((1, 1, 2, 3, 4, 8) if height * width < 32 else (1, 2))
        layer = (
            max(size * ratio - choose.choice((0, 0, 1, ratio - 1, -2)), 1)
            for size in (height, width)
        )
        return PixelSet(kind, ratio, *layer, dilation)

    kinds = [*KINDS, *choose.choices(KINDS, k=4)]
    sets = {layer_set(kind, choose.choice((1, 1, 2, 6))) for kind in kinds}
    key = torch.rand(batch, generator=generator) < 0.5
    return Inputs(
        q=q.to(device),
        tau=tau,
        gamma=choose.choice((0.0, 0.2, 0.5, 1.0)),
        key=key.to(device) if choose.random() < 0.3 else None,
        sets=tuple(sorted(sets, key=lambda each: choose.random())),
    )


def literal_plan(inputs: Inputs) -> dict[str, object]:
    """The definition, one pixel at a time, on Python's numbers."""
    q = inputs.q.double().cpu()[:, 0].tolist()
    batch, _, height, width = inputs.q.shape
    changed = [sum(value <= inputs.tau for row in image for value in row) for image in q]
    keys = [number / (height * width) > inputs.gamma for number in changed]
    if inputs.key is not None:
        keys = inputs.key.tolist()
    u = [
        [[keys[n] or value <= inputs.tau for value in row] for row in image]
        for n, image in enumerate(q)
    ]
    lists = {}
    for each in inputs.sets:
        active = {
            (n, y, x)
            for n, y, x in _places(batch, each)
            if u[n][min(y // each.ratio, height - 1)][min(x // each.ratio, width - 1)]
        }

        def member(n: int, y: int, x: int, each: PixelSet = each, active: set = active) -> bool:
            here = (n, y, x) in active
            offsets = (-each.dilation, 0, each.dilation)
            reached = any((n, y + dy, x + dx) in active for dy in offsets for dx in offsets)
            return {
                "active": here,
                "halo": reached and not here,
                "reached": reached,
                "inactive": not here,
            }[each.kind]

        places = enumerate(_places(batch, each))
        lists[each] = [number for number, place in places if member(*place)]
    return {"changed": changed, "is_key": keys, "mask": u, "lists": lists}


def _places(batch: int, each: PixelSet) -> Iterator[tuple[int, int, int]]:
    return itertools.product(range(batch), range(each.height), range(each.width))


def contents(plan: UpdatePlan) -> dict[str, object]:
    """What a plan holds, on Python's numbers."""
    counts = plan.counts.tolist()
    assert [int(each.count) for each in plan.lists.values()] == counts
    return {
        "changed": plan.changed.tolist(),
        "is_key": plan.is_key.tolist(),
        "mask": plan.mask[:, 0].tolist(),
        "lists": {
            each: plan.lists[each].indices[:count].tolist()
            for each, count in zip(plan.sets, counts, strict=True)
        },
    }
