from __future__ import annotations

import time

import pytest
import torch

from bench import machine, timing
from bench.machine import copy_bandwidth, describe, device_kind, matrix_rate
from bench.stages import StageClock
from bench.timing import median_times

CPU = torch.device("cpu")


class Clock:
    """A host clock that moves only when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


def test_contestants_take_turns(clock: Clock) -> None:
    turns = []

    def contestant(name: str, seconds: float):
        def run(index: int) -> None:
            turns.append((name, index))
            clock.now += seconds

        return run

    contestants = {"a": contestant("a", 0.001), "b": contestant("b", 0.008)}
    times = median_times(contestants, CPU, seconds=0.1, sets=2)
    assert times == pytest.approx({"a": 1, "b": 8})
    timed = turns[12:]  # after two warm-ups of each on both sets, and an estimate
    # A turn is 10 ms or more: ten calls of a, two of b. Seven turns of b are more than 100 ms.
    turn = [("a", 0), ("a", 1)] * 5 + [("b", 0), ("b", 1)]
    assert timed == turn * 7


def test_the_next_turn_goes_on_with_the_next_set(clock: Clock) -> None:
    indices = []

    def run(index: int) -> None:
        indices.append(index)
        clock.now += 0.006

    median_times({"a": run}, CPU, seconds=0, sets=3)
    assert indices[9:] == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]


def test_a_turn_has_no_more_than_100_calls_and_there_are_at_least_5_turns(clock: Clock) -> None:
    calls = []

    def run(index: int) -> None:
        calls.append(index)
        clock.now += 1e-5

    assert median_times({"a": run}, CPU, seconds=0)["a"] == pytest.approx(0.01)
    assert len(calls) == 3 + 5 * 100


def test_time_is_the_median(clock: Clock) -> None:
    durations = iter([9, 9, 9, 0.01, 0.01, 0.02, 0.03, 7])

    def run(_: int) -> None:
        clock.now += next(durations)

    assert median_times({"a": run}, CPU, seconds=0.001)["a"] == pytest.approx(20)


def test_stages_of_a_frame(clock: Clock) -> None:
    stages = StageClock(CPU)
    with stages.frame() as times:
        clock.now += 1
        with stages("flow"):
            clock.now += 2
            with stages("benchmark"):
                clock.now += 4
            clock.now += 8
        clock.now += 16
        with stages("flow"):
            clock.now += 32
    assert times == {"other": 17e3, "flow": 42e3, "benchmark": 4e3}
    with stages.frame() as times:
        clock.now += 3
    assert times == {"other": 3e3}


def test_ceilings_come_from_the_measured_times(monkeypatch: pytest.MonkeyPatch) -> None:
    def copies(contestants, device, *, seconds, sets=1):
        for contestant in contestants.values():
            for number in range(sets):
                contestant(number)
        return dict.fromkeys(contestants, 4.0 * sets)

    monkeypatch.setattr("bench.machine.median_times", copies)
    monkeypatch.setattr("bench.machine._copy_bandwidth", machine._copy_bandwidth.__wrapped__)
    # A copy that moves 8 MiB copies 4, and no copy is too small to be timed.
    for size in (8 << 20, 9 << 20):
        assert copy_bandwidth(CPU, size, 1) == size / 4
    assert copy_bandwidth(CPU, 0, 1) == 2 * (1 << 20) / 4
    assert copy_bandwidth(CPU, 8 << 20, 3) == (8 << 20) / 12
    assert matrix_rate.__wrapped__(CPU, torch.float32) == 2 * 1024**3 / 4


def test_where_and_when() -> None:
    row = describe(CPU)
    assert row["threads"] == torch.get_num_threads()
    assert row["versions"]["torch"] == torch.__version__
    assert row["device_name"]
    assert device_kind(CPU) == "cpu"


def test_gpu_names_make_file_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.machine.device_name", lambda _: "NVIDIA H100 80GB HBM3")
    assert device_kind(torch.device("cuda")) == "nvidia_h100_80gb_hbm3"


@pytest.mark.gpu
def test_graphs_time_the_same_calls() -> None:
    device = torch.device("cuda")
    with torch.cuda.stream(torch.cuda.Stream(device)):
        maps = torch.randn(3, 2**26, device=device)
        target = torch.empty_like(maps[0])
        contestants = {"copy": lambda index: target.copy_(maps[index])}
        replayed = timing.graph_times(contestants, device, seconds=0.1, sets=3)["copy"]
        called = median_times(contestants, device, seconds=0.1, sets=3)["copy"]
    assert replayed == pytest.approx(called, rel=0.2)
