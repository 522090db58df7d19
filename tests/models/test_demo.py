from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

import hpvod.demo
from hpvod.commands.demo import demo as command
from hpvod.config import ModelConfig
from hpvod.demo import Demo
from hpvod.detector import VideoDetector
from hpvod.frame_result import FrameResult
from hpvod.method import Method
from hpvod.model import build_model
from hpvod.synthetic import SYNTHETIC_CLASSES, SyntheticClip, make_clip
from hpvod.weights import load_model, save_weights

from .clips import read_video

app = typer.Typer()
app.command()(command)

SMALL = dataclasses.replace(
    ModelConfig.preset("tiny"), classes=SYNTHETIC_CLASSES, short_side=64, long_side=112
)
FEW = ("--clips", 2, "--frames", 3, "--device", "cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    save_weights(build_model(SMALL), path)
    return path


@pytest.fixture(autouse=True)
def _little_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hpvod.demo, "SIZE", (96, 128))


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_what_is_written(tmp_path: Path, weights: Path) -> None:
    out = tmp_path / "new" / "folder"
    code, stdout, stderr = run(out, "--weights", weights, *FEW)
    assert code == 0
    assert stderr == f"{out}/demo.mp4: 6 frames; {out}/demo.json: the figures\n"
    rows = {
        cells[0]: cells[1:]
        for line in stdout.splitlines()
        if len(cells := [cell.strip() for cell in line.strip("┃│").replace("┃", "│").split("│")])
        == 3
    }
    assert rows[""] == ["per_frame", "c3"]
    assert (rows["key frames"][0], rows["updated"][0]) == ("100.0%", "100.0%")
    video = read_video(out / "demo.mp4")
    assert [round(25 * time) for _, time in video] == list(range(6))
    assert video[0][0].shape == (2 * 96 + 32, 2 * 2 * 128, 3)
    assert sorted(path.name for path in out.iterdir()) == ["demo.json", "demo.mp4"]
    figures = json.loads((out / "demo.json").read_text())
    assert (figures["weights"], figures["seed"]) == (str(weights), 0)
    assert list(figures["methods"]) == ["per_frame", "c3"]
    for of in figures["methods"].values():
        assert of["frames"] == 6
        assert of["milliseconds"] > 0
        assert of["multiply_adds"] > 1e6
        assert sorted(of["mean_ap"]) == ["all", "fast", "medium", "slow"]
    baseline, c3 = figures["methods"].values()
    for name, group in {"mAP": "all", "mAP, fast": "fast"}.items():
        means = [of["mean_ap"][group] for of in (baseline, c3)]
        assert rows[name] == ["-" if mean is None else f"{mean:.1%}" for mean in means]
    assert (baseline["key_frames"], baseline["updated"]) == (6, 1)
    assert 2 <= c3["key_frames"] <= 6  # each clip begins with one


def test_the_figures_are_those_of_the_detections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """c3 finds every annotated box, per_frame those of other frames: a clip too early."""
    made: list[SyntheticClip] = []

    def remembered(*arguments: Any) -> SyntheticClip:
        made.append(make_clip(*arguments))
        return made[-1]

    class Oracle:
        def __init__(self, model: object, method: Method) -> None:
            self.late = method.name == "per_frame"

        def reset(self) -> None:
            self.count = 0

        def step(self, frame: np.ndarray) -> FrameResult:
            index, self.count = self.count, self.count + 1
            assert np.array_equal(frame, made[-1].frames[index])
            annotation = made[0 if self.late else -1].annotations[index]
            return FrameResult(
                index=index,
                time=None,
                is_key=index == 0,
                updated=1.0 if index == 0 else 0.25,
                boxes=torch.from_numpy(annotation.boxes),
                labels=torch.from_numpy(annotation.labels),
                scores=torch.ones(len(annotation.labels)),
                mask=None,
            )

    monkeypatch.setattr(hpvod.demo, "make_clip", remembered)
    monkeypatch.setattr(hpvod.demo, "VideoDetector", Oracle)
    run = Demo(build_model(SMALL), tmp_path / "demo.mp4")
    calls: list[None] = []
    run.run(2, 4, 0, lambda: calls.append(None))
    assert run.frames == 8
    assert len(calls) == 2 * 8
    compared = run.compare()
    late, exact = compared["per_frame"].results, compared["c3"].results
    boxes = sum(len(each.labels) for clip in made for each in clip.annotations)
    assert exact.boxes["all"] == boxes > 8
    assert exact.mean["all"] == 1
    assert late.mean["all"] < 0.9
    statistics = compared["c3"].run
    assert (statistics.frames, statistics.key_frames) == (8, 2)
    assert statistics.updated == pytest.approx((2 + 6 * 0.25) / 8)


def test_a_seed_repeats_and_another_does_not(tmp_path: Path, weights: Path) -> None:
    model = load_model(weights)
    found = []
    for seed in (3, 3, 4):
        run = Demo(model, tmp_path / "demo.mp4")
        run.run(1, 2, seed, lambda: None)
        c3 = run.compare()["c3"]
        found.append((c3.results.boxes, c3.results.mean["all"], c3.run.updates.tolist()))
    assert found[0] == found[1] != found[2]


def test_each_clip_is_a_stream_of_its_own(tmp_path: Path, weights: Path) -> None:
    model = load_model(weights)
    run = Demo(model, tmp_path / "demo.mp4")
    run.run(2, 2, 0, lambda: None)
    statistics = run.compare()["c3"].run
    clips = [make_clip(seed, 2, (96, 128)) for seed in np.random.SeedSequence((0xDE40, 0)).spawn(2)]
    method = hpvod.demo.METHODS[1]
    alone = [result for clip in clips for result in VideoDetector(model, method).run(clip.frames)]
    assert statistics.is_key.tolist() == [result.is_key for result in alone]
    assert statistics.updates.tolist() == pytest.approx([result.updated for result in alone])


def test_no_clip_of_make_data() -> None:
    own = np.random.SeedSequence((0xDE40, 0)).spawn(1)[0].generate_state(4)
    for kind in np.random.SeedSequence(0).spawn(4):
        assert not np.array_equal(kind.spawn(1)[0].generate_state(4), own)


@pytest.mark.parametrize(("clips", "kept"), [(0, 0), (1, 3)])
def test_interrupted(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, clips: int, kept: int
) -> None:
    left = clips

    def interrupted(*arguments: Any) -> SyntheticClip:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return make_clip(*arguments)

    (tmp_path / "demo.json").write_text("of an earlier run")
    monkeypatch.setattr(hpvod.demo, "make_clip", interrupted)
    code, stdout, stderr = run(tmp_path, "--weights", weights, *FEW)
    video = tmp_path / "demo.mp4"
    words = f"; the video holds {kept} frames" if kept else ""
    assert (code, stdout, stderr) == (130, "", f"hpvod: interrupted{words}\n")
    assert list(tmp_path.iterdir()) == ([video] if kept else [])
    assert not kept or len(read_video(video)) == kept


def test_a_folder_that_cannot_be_made(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "new"
    code, _, stderr = run(out, "--weights", weights, *FEW)
    assert code == 1
    assert stderr == f"hpvod: error: {out}: cannot be written (Not a directory)\n"


def test_a_video_that_cannot_be_written(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "demo.mp4").mkdir()
    code, _, stderr = run(tmp_path, "--weights", weights, *FEW)
    assert code == 1
    assert stderr == f"hpvod: error: {tmp_path}/demo.mp4: cannot be written (Is a directory)\n"


def test_figures_that_cannot_be_written(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made_in_the_meantime(*arguments: Any) -> SyntheticClip:
        (tmp_path / "demo.json").mkdir(exist_ok=True)
        return make_clip(*arguments)

    monkeypatch.setattr(hpvod.demo, "make_clip", made_in_the_meantime)
    code, _, stderr = run(tmp_path, "--weights", weights, *FEW)
    assert code == 1
    assert stderr == (
        f"hpvod: error: {tmp_path}/demo.json: cannot be written (Is a directory); "
        "the video holds 6 frames\n"
    )
    assert len(read_video(tmp_path / "demo.mp4")) == 6


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    code, _, stderr = run(tmp_path / "new", "--weights", tmp_path / "none", *FEW)
    assert (code, stderr) == (1, f"hpvod: error: {tmp_path}/none: no such file\n")
    assert not (tmp_path / "new").exists()


def test_a_model_of_other_classes(tmp_path: Path) -> None:
    weights = tmp_path / "vid.safetensors"
    save_weights(build_model(ModelConfig.preset("tiny")), weights)
    code, _, stderr = run(tmp_path / "new", "--weights", weights, *FEW)
    assert code == 1
    assert stderr == (
        f"hpvod: error: {weights}: detects none of the classes that the clips show "
        f"({', '.join(SYNTHETIC_CLASSES)})\n"
    )
