"""What `hpvod.operations` reckons against what is executed."""

from __future__ import annotations

import dataclasses

import pytest

from bench import non_recursive
from bench.clip import draw_clip
from bench.most_changed import MostChanged
from bench.non_recursive import NonRecursive
from bench.operations import operation_counter
from hpvod.config import ModelConfig
from hpvod.detector import VideoDetector
from hpvod.method import PRESETS
from hpvod.model import build_model
from hpvod.operations import multiply_adds, runs_a_frame

COUNT = 6
SIZE = (128, 192)
FRAMES = list(draw_clip(COUNT, SIZE))
CONFIG = dataclasses.replace(ModelConfig.preset("tiny"), short_side=128, long_side=192)
COST = multiply_adds(CONFIG, SIZE)


@pytest.fixture(autouse=True)
def flow_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packed flow network's deconvolutions compute a rim that is cropped then."""
    monkeypatch.setattr(VideoDetector, "_flow_network", lambda self: self.model.flow)
    monkeypatch.setattr(non_recursive, "PackedFlow", lambda network: network)


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name: str) -> None:
    method = PRESETS[name]
    if method.window:
        method = dataclasses.replace(method, window=2)
    elif method.key == "every" and method.interval > 1:
        method = dataclasses.replace(method, interval=3)
    consistency = MostChanged(0.15) if method.do_spatial else None
    detector = VideoDetector(build_model(CONFIG), method, consistency=consistency)
    with operation_counter() as counter:
        results = list(detector.run(FRAMES))
    keys = sum(result.is_key for result in results) / COUNT
    updated = sum(result.updated for result in results) / COUNT
    reckoned = runs_a_frame(method, [COUNT], keys, updated).dot(COST)
    executed = counter.get_total_flops() / 2 / COUNT
    # The stem's rim around U is what is left out.
    rim = 0.01 if method.do_spatial else 1e-12
    assert (1 - rim) * executed <= reckoned <= (1 + 1e-12) * executed


@pytest.mark.parametrize("keys", [1, 2, 3])
def test_non_recursive(keys: int) -> None:
    detector = NonRecursive(build_model(CONFIG), 2, keys)
    with operation_counter() as counter:
        for frame in FRAMES:
            detector.step(frame)
    executed = counter.get_total_flops() / 2 / COUNT
    reckoned = non_recursive.runs_a_frame(2, keys, [COUNT]).dot(COST)
    assert reckoned == pytest.approx(executed, rel=1e-12)
