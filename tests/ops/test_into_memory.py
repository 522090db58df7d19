"""The ops that write their results where they are told, on the CPU: what a replay calls."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

OPS = torch.ops.hpvod


def maps(channels: int, *, last: bool) -> Tensor:
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.randn(2, channels, 5, 6).contiguous(memory_format=layout)


def pool() -> tuple[Any, ...]:
    return maps(12, last=True), torch.tensor([[1.0, 3, 4, 50, 60], [0, -9, 0, 2, 5]]), 2, 16


def nms() -> tuple[Any, ...]:
    order = torch.rand(2, 20).argsort(1)
    return torch.rand(2, 20, 4), torch.zeros(2, 20, dtype=torch.int64), order, None, 0.3, 7


def order() -> tuple[Any, ...]:
    return torch.rand(2, 20), torch.rand(2, 20) < 0.5


def aggregate(*, last: bool) -> tuple[Any, ...]:
    feature, embedding = (maps(8, last=last) for _ in range(2)), (maps(4, last=last) for _ in "ab")
    key, own = feature
    key_embedding, own_embedding = embedding
    return key, key_embedding, own, own_embedding, torch.randn(2, 2, 5, 6), None, None, None, None


def selected() -> tuple[Any, ...]:
    mask = torch.rand(2, 1, 5, 6) < 0.5
    own = maps(8, last=True), maps(4, last=True), maps(8, last=True)
    return *aggregate(last=True)[:5], mask, *own


CASES: dict[str, tuple[Any, Any, Callable[[], tuple[Any, ...]], tuple[str, ...]]] = {
    "ps_roi_pool": (OPS.ps_roi_pool, OPS.ps_roi_pool_out, pool, ("out",)),
    "batched_nms": (OPS.batched_nms, OPS.batched_nms_out, nms, ("indices", "counts")),
    "best_first": (OPS.best_first, OPS.best_first_out, order, ("out",)),
    "warp_aggregate": (
        OPS.warp_aggregate,
        OPS.warp_aggregate_out,
        lambda: aggregate(last=False),
        ("out",),
    ),
    "warp_aggregate, with a mask": (
        OPS.warp_aggregate,
        OPS.warp_aggregate_out,
        selected,
        ("out",),
    ),
    "warp_aggregate, channels_last": (
        OPS.warp_aggregate,
        OPS.warp_aggregate_out,
        lambda: aggregate(last=True),
        ("out",),
    ),
}


def results(op: Any, arguments: tuple[Any, ...]) -> tuple[Tensor, ...]:
    found = op(*arguments)
    return (found,) if isinstance(found, Tensor) else found


@pytest.mark.parametrize("name", CASES)
def test_results_are_written_where_they_are_to_be(name: str) -> None:
    op, into, inputs, names = CASES[name]
    arguments = inputs()
    expected = results(op, arguments)
    memory = {key: torch.empty_like(each) for key, each in zip(names, expected, strict=True)}
    for each in memory.values():
        each.fill_(math.nan if each.is_floating_point() else -5)
    torch.library.opcheck(into, arguments, memory)
    into(*arguments, **memory)
    for found, each in zip(memory.values(), expected, strict=True):
        assert torch.equal(found, each)


@pytest.mark.parametrize("name", CASES)
def test_other_memory_is_refused(name: str) -> None:
    op, into, inputs, names = CASES[name]
    arguments = inputs()
    expected = dict(zip(names, results(op, arguments), strict=True))
    for key, each in expected.items():
        for wrong in (each[:1], each.half(), each.double(), torch.stack((each, each), -1)[..., 0]):
            with pytest.raises(RuntimeError, match=f"{op.__name__}: {key} must "):
                into(*arguments, **{**expected, key: wrong})


def test_best_first_is_a_stable_sort() -> None:
    scores = torch.randint(-3, 4, (5, 200)).float() / 2
    scores[0, ::7] = math.nan
    scores[1, ::5] = math.inf
    scores[1, 1::5] = -math.inf
    scores[2] *= -1  # zeros of both signs
    scores[3] = torch.randn(200) * 1e-40
    expected = scores.argsort(dim=1, descending=True, stable=True)
    assert torch.equal(OPS.best_first(scores, None), expected)
    valid = torch.rand(5, 200) < 0.6
    valid[4] = False
    for found, of_all, ok in zip(OPS.best_first(scores, valid), expected, valid, strict=True):
        count = int(ok.sum())
        assert torch.equal(found[:count], of_all[ok[of_all]])
        assert (found[count:] == -1).all()


@pytest.mark.parametrize(
    ("scores", "valid", "message"),
    [
        (torch.rand(20), None, r"scores must be float32 \[N, K\]"),
        (torch.rand(2, 20).double(), None, r"scores must be float32 \[N, K\]"),
        (torch.rand(2, 20), torch.rand(2, 19) < 1, r"valid must be bool \[N, K\]"),
        (torch.rand(2, 20), torch.rand(2, 20), r"valid must be bool \[N, K\]"),
    ],
)
def test_wrong_scores_are_refused(scores: Tensor, valid: Tensor | None, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        OPS.best_first(scores, valid)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0)])
def test_no_candidates(shape: tuple[int, int]) -> None:
    assert OPS.best_first(torch.empty(shape), None).shape == shape
