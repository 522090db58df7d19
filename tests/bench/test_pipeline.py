from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

import hpvod.dense_window
from bench import pipeline, report
from bench.clip import draw_clip
from bench.contest import WrongResultError
from bench.pipeline import FEWEST_FRAMES, STAGES, Runner, Setup
from bench.rows import Row
from bench.stages import StageClock
from hpvod.config import ModelConfig
from hpvod.method import PRESETS

FRAMES = list(draw_clip(20, (72, 120)))


def setup(density: float = 0.1) -> Setup:
    return Setup("tiny", 64, density, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module", autouse=True)
def _quick_detection() -> Iterator[None]:
    few = dataclasses.replace(
        ModelConfig.preset("tiny"), proposals_before_nms=50, proposals=10, max_detections=5
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ModelConfig, "preset", lambda name: few)
        yield


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    done: list[None] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "matrix_rate", lambda device, dtype: 1e6)
        measured = pipeline.measure(setup(), FRAMES, lambda: done.append(None))
    assert len(done) == len(FRAMES)
    return {row.name: row for row in measured}


def test_a_row_for_every_preset(rows: dict[str, Row]) -> None:
    assert list(rows) == list(PRESETS)
    for row in rows.values():
        assert row.shape == (1, 3, 64, 107)
        assert row.peers == {"per_frame": rows["per_frame"].ms}
        assert list(row.more["stages"]) == list(STAGES)
        assert max(row.more["stages"].values()) > 0 and row.ms > 0


def test_key_frames_and_the_others(rows: dict[str, Row]) -> None:
    assert {name: row.more["key_share"] for name, row in rows.items()} == {
        "per_frame": 1, "dff": 0.1, "fgfa": 1, "c1": 0.1, "c2": 0.1, "c3": 0,
    }  # fmt: skip
    assert {name: row.more["frames"] for name, row in rows.items()} == {
        "per_frame": 19, "dff": 19, "fgfa": 2, "c1": 19, "c2": 19, "c3": 19,
    }  # fmt: skip
    for row in rows.values():
        assert (row.more["key_ms"] is None) == (row.more["key_share"] == 0)
        assert (row.more["non_key_ms"] is None) == (row.more["key_share"] == 1)


def test_medians_by_kind_in_the_proportion_of_the_schedule() -> None:
    runner = Runner(SimpleNamespace(method=PRESETS["dff"]), StageClock(torch.device("cpu")))
    runner.times[True] = [{"features": 50.0, "other": 2.0}]
    runner.times[False] = [{"flow": 7.0, "other": 1.0}, {"flow": 90.0}, {"flow": 9.0, "other": 3.0}]
    assert runner.total(True) == 52
    assert runner.total(False) == 12
    assert runner.a_frame(runner.total) == pytest.approx(0.1 * 52 + 0.9 * 12)
    assert runner.stage("flow", False) == 9
    assert runner.stage("flow", True) == 0
    assert runner.a_frame(lambda kind: runner.stage("other", kind)) == pytest.approx(0.2 + 0.9)
    adaptive = Runner(SimpleNamespace(method=PRESETS["c3"]), runner.clock, runner.times)
    assert adaptive.key_share == 0.25


def test_average_follows_the_schedule(rows: dict[str, Row]) -> None:
    row = rows["dff"]
    expected = 0.1 * row.more["key_ms"] + 0.9 * row.more["non_key_ms"]
    assert row.ms == pytest.approx(expected)


def test_stages_are_those_of_the_method(rows: dict[str, Row]) -> None:
    stages = {name: {s for s, ms in row.more["stages"].items() if ms} for name, row in rows.items()}
    always = {"preprocess", "features", "detection", "other"}
    assert stages["per_frame"] == always
    assert stages["dff"] == always | {"flow", "plan"}
    aggregating = always | {"flow", "embedding", "aggregation"}
    assert stages["fgfa"] == aggregating
    assert stages["c1"] == stages["c2"] == stages["c3"] == aggregating | {"plan"}


def test_updated_is_the_density(rows: dict[str, Row]) -> None:
    positions = 4 * 7  # of a 64 x 107 image at stride 16
    expected = {"dff": 0, "c1": 0, "c2": round(0.1 * positions) / positions}
    for name, updated in expected.items():
        assert rows[name].more["updated"] == pytest.approx(updated)
    assert rows["per_frame"].more["updated"] is None


def test_operations(rows: dict[str, Row]) -> None:
    gflop = {name: row.more["gflop"] for name, row in rows.items()}
    assert gflop["dff"] < gflop["c1"] < gflop["c2"] < gflop["per_frame"] < gflop["fgfa"]
    assert rows["dff"].floor_ms == pytest.approx(gflop["dff"] * 1e9 / 1e6)


def test_notes_say_what_was_set(rows: dict[str, Row]) -> None:
    notes = report.notes(list(rows.values()))
    assert notes == [
        "untrained: Q means nothing; U set to the 10 % of positions whose image changed most"
    ]


def test_too_few_frames() -> None:
    with pytest.raises(ValueError, match=f"19 are too few, at least {FEWEST_FRAMES}"):
        pipeline.measure(setup(), FRAMES[:19], lambda: None)


def test_wrong_features_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = hpvod.dense_window.warp

    def wrong(feature: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        from hpvod_ops.backends import choose_backend

        off = 1.0 if choose_backend(flow.device, flow.dtype) == "reference" else 1.01
        return right(feature, flow) * off

    monkeypatch.setattr(hpvod.dense_window, "warp", wrong)
    monkeypatch.setattr(pipeline.Runner, "time", lambda *_: pytest.fail("timed"))
    with pytest.raises(WrongResultError, match=r"fgfa: the features of frame \d are off by"):
        pipeline.measure(setup(), FRAMES, lambda: None)
