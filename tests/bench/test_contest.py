from __future__ import annotations

import itertools
import time

import pytest
import torch
from torch import Tensor

from bench import contest, warp
from bench.contest import WrongResultError
from hpvod_ops import reference

CPU = torch.device("cpu")
CASES = [
    warp.Case(batch, dtype, layout, backward)
    for batch, dtype, layout, backward in itertools.product(
        (1, 2),
        (torch.float32, torch.bfloat16),
        ("channels_last", "contiguous"),
        (False, True),
    )
]


@pytest.fixture(autouse=True)
def _small_and_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warp, "_SIZE", (6, 9, 11))
    monkeypatch.setattr(torch, "compile", _no_compiler)
    monkeypatch.setattr(contest, "copy_bandwidth", lambda device, moved, sets: 1000.0)
    monkeypatch.setattr(contest, "_SECONDS", 0)


def _no_compiler(function: object, dynamic: bool) -> object:
    def fail(*arguments: object) -> Tensor:
        raise RuntimeError("there is no compiler\nand more lines")

    return fail


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows_of_every_backend(case: warp.Case) -> None:
    backends = warp.runnable_backends(CPU, case.dtype)
    backends.pop("triton", None)  # in its interpreter
    assert set(backends) == {"cpu", "reference"}
    rows = contest.measure(warp.contest(case, CPU, backends))
    assert [row.backend for row in rows] == ["cpu", "reference"]
    for row in rows:
        assert row.name == ("warp_backward" if case.backward else "warp")
        assert row.shape == (case.batch, 6, 9, 11)
        assert row.ms > 0
        assert {"copy"} < set(row.peers) <= {"copy", "grid_sample", "embedding_bag"}
        assert row.more["peers_left_out"]["torch.compile"] == "RuntimeError: there is no compiler"
        assert row.more["layout"] == case.layout
        # float32 arithmetic, or results rounded to bfloat16's 8 bits
        assert row.more["error"] < (1e-6 if case.dtype == torch.float32 else 4e-3)


@pytest.mark.parametrize(
    ("backward", "maps", "flows"), [(False, 2, 1), (True, 3, 2)], ids=["forward", "backward"]
)
def test_floor_is_the_bytes_over_the_bandwidth(backward: bool, maps: int, flows: int) -> None:
    case = warp.Case(2, torch.bfloat16, "contiguous", backward)
    (row,) = contest.measure(warp.contest(case, CPU, {"reference": reference.warp}))
    assert row.floor_ms == 2 * 2 * 9 * 11 * (maps * 6 + flows * 2) / 1000


def slightly_wrong(feature: Tensor, flow: Tensor) -> Tensor:
    output = reference.warp(feature, flow)
    return output + 3e-5 * torch.nn.functional.one_hot(torch.tensor(7), 11).to(output.dtype)


def wrong_backward(feature: Tensor, flow: Tensor) -> Tensor:
    return reference.warp(feature, flow * (1 + 1e-4) - flow.detach() * 1e-4)


def not_a_number(feature: Tensor, flow: Tensor) -> Tensor:
    return reference.warp(feature, flow) + torch.nan


def no_motion(feature: Tensor, flow: Tensor) -> Tensor:
    return reference.warp(feature, flow.clamp(-0.01, 0.01))


def in_double(feature: Tensor, flow: Tensor) -> Tensor:
    return reference.warp(feature.double(), flow.double())


@pytest.mark.parametrize(
    ("function", "backward"),
    [
        (slightly_wrong, False),
        (not_a_number, False),
        (no_motion, False),
        (wrong_backward, True),
        (in_double, False),
    ],
)
def test_wrong_backend_is_not_timed(function, backward, monkeypatch: pytest.MonkeyPatch) -> None:
    case = warp.Case(1, torch.float32, "contiguous", backward)
    monkeypatch.setattr(contest, "median_times", lambda *_, **__: pytest.fail("timed"))
    with pytest.raises(WrongResultError, match=r"warp.* by planted"):
        contest.measure(warp.contest(case, CPU, {"planted": function}))


def test_peer_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warp, "with_grid_sample", no_motion)
    case = warp.Case(1, torch.float32, "contiguous", False)
    with pytest.raises(WrongResultError, match="the peer grid_sample is off by"):
        contest.measure(warp.contest(case, CPU, {"reference": reference.warp}))


def test_peer_that_gives_nan_in_low_precision_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warp, "with_grid_sample", not_a_number)
    case = warp.Case(1, torch.float16, "contiguous", False)
    (row,) = contest.measure(warp.contest(case, CPU, {"reference": reference.warp}))
    assert set(row.peers) == {"copy"}
    assert row.more["peers_left_out"]["grid_sample (contiguous)"] == (
        "gives values that are not finite"
    )


def test_peer_counts_in_its_faster_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_if_contiguous(feature: Tensor, flow: Tensor) -> Tensor:
        time.sleep(0.1 if feature.is_contiguous() else 0)
        return reference.warp(feature, flow)

    monkeypatch.setattr(warp, "with_grid_sample", slow_if_contiguous)
    case = warp.Case(1, torch.float32, "contiguous", False)
    (row,) = contest.measure(warp.contest(case, CPU, {"reference": reference.warp}))
    assert row.more["peer_variants"]["grid_sample"] == "channels_last"
    assert row.peers["grid_sample"] < 100


@pytest.mark.parametrize("function", [warp.with_grid_sample, warp.with_embedding_bag])
def test_peers_are_warp(function) -> None:
    feature, flow = torch.randn(3, 5, 7, 8, dtype=torch.float64), 4 * torch.randn(3, 2, 7, 8)
    # Coordinates are made in float32 there: 8 pixels times 6e-8, times slopes of about 3.
    torch.testing.assert_close(
        function(feature.float(), flow).double(),
        reference.warp(feature, flow.double()),
        atol=2e-5,
        rtol=0,
    )


def test_a_gpu_gets_larger_shapes() -> None:
    batches = [case.batch for case in warp.cases(torch.device("cuda"))]
    assert set(batches) == {1, 16} and len(batches) == 24
    assert {case.batch for case in warp.cases(CPU)} == {1}
