from __future__ import annotations

import dataclasses
from contextlib import contextmanager, nullcontext

import pytest
import torch

from hpvod.detector import VideoDetector
from hpvod.graph import Graph
from hpvod.method import PRESETS
from hpvod.model import build_model

from .moving import CONFIG, SIZES, moving_frames

CAPTURED = [name for name, method in PRESETS.items() if not method.window]


class Doubling:
    """A function of one tensor, and CUDA graphs that replay what it did."""

    def __init__(self, monkeypatch):
        self.calls, self.capturing, self.replays = [], None, 0
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: _Recorded(self))
        monkeypatch.setattr(torch.cuda, "graph", self.capture)

    @contextmanager
    def capture(self, graph):
        self.capturing = graph
        yield
        self.capturing = None

    def __call__(self, kind, x, absent):
        assert absent is None
        self.calls.append(kind)
        result = 2 * x
        if self.capturing is not None:
            self.capturing.work = lambda: result.copy_(2 * x)
            result.fill_(-1)  # what is captured has not run yet
        return result


class _Recorded:
    def __init__(self, function):
        self.function, self.work = function, None

    def replay(self):
        self.function.replays += 1
        self.work()


def test_calls_run_twice_then_are_captured_and_replayed(monkeypatch):
    function = Doubling(monkeypatch)
    graph = Graph(function)
    results = [graph("a", torch.tensor([float(i)]), None).item() for i in range(6)]
    assert results == [0, 2, 4, 6, 8, 10]
    assert function.calls == ["a", "a", "a"]
    assert function.replays == 4


def test_every_kind_has_a_graph_of_its_own(monkeypatch):
    function = Doubling(monkeypatch)
    graph = Graph(function)
    for i in range(5):
        for kind in ("a", "b"):
            assert graph(kind, torch.tensor([float(i)]), None).item() == 2 * i
    assert sorted(function.calls) == ["a"] * 3 + ["b"] * 3


def test_an_input_is_not_changed_by_later_calls(monkeypatch):
    graph = Graph(Doubling(monkeypatch))
    inputs = [torch.tensor([float(i)]) for i in range(6)]
    for x in inputs:
        graph("a", x, None)
    assert torch.cat(inputs).tolist() == [0, 1, 2, 3, 4, 5]


def test_no_graph_on_a_cpu():
    detector = VideoDetector(build_model(CONFIG, seed=1), PRESETS["c3"])
    for frame in moving_frames(2, *SIZES[1]):
        detector.step(frame)
    assert detector._graph is None


def a_share(k, i, flow):
    """Q of which a part, and now and then a share that makes a key frame, is under 0."""
    return (i - k).abs().mean((1, 2, 3), keepdim=True).sin() + 0.1 * flow.flow[:, :1].sin()


def results(model, method, frames, *, eager, batch=2):
    stages = (lambda name: nullcontext()) if eager else None
    detector = VideoDetector(model, method, batch=batch, consistency=a_share, stages=stages)
    found = [detector.step_all([frame] * batch) for frame in frames]
    assert (detector._graph is None) == eager
    return found


@pytest.mark.gpu
@pytest.mark.parametrize("name", CAPTURED)
def test_a_replayed_frame_is_the_frame(name):
    model = build_model(CONFIG, seed=1).cuda()
    method = PRESETS[name]
    if not method.keys_only and method.key == "every":
        method = dataclasses.replace(method, interval=4)
    frames = moving_frames(14, *SIZES[1], cuts=(5,))
    expected = results(model, method, frames, eager=True)
    for pair, others in zip(results(model, method, frames, eager=False), expected, strict=True):
        for a, b in zip(pair, others, strict=True):
            assert (a.index, a.is_key, a.updated) == (b.index, b.is_key, b.updated)
            assert torch.equal(a.boxes, b.boxes) and torch.equal(a.scores, b.scores)


@pytest.mark.gpu
@pytest.mark.parametrize("name", CAPTURED)
def test_nothing_waits_for_the_gpu(name):
    """After the warm-up, but for the results, which are waited for once."""
    detector = VideoDetector(build_model(CONFIG, seed=1).cuda(), PRESETS[name], batch=2)
    frames = moving_frames(24, *SIZES[1])
    for frame in frames[:22]:
        detector.step_all([frame] * 2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for frame in frames[22:]:
            detector.step_all([frame] * 2)
    finally:
        torch.cuda.set_sync_debug_mode("default")
