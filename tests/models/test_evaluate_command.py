"""The command `hpvod eval`."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from hpvod.cli import app
from hpvod.config import ModelConfig
from hpvod.data import ImageNetVID, Skipped
from hpvod.evaluation.detections import load_run
from hpvod.evaluation.run import detect_clips
from hpvod.evaluation.table import results_of
from hpvod.evaluation.truth import read_truth
from hpvod.folding import fold_batch_norm
from hpvod.method import PRESETS
from hpvod.model import build_model
from hpvod.synthetic import SYNTHETIC_CLASSES
from hpvod.synthetic.make import Order, make_data
from hpvod.weights import load_model, save_weights

ORDER = Order(train=0, val=3, frames=4, stills=0, size=(64, 80), pairs=0, seed=3)
QUICK = ["--device", "cpu", "--short-side", "64"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "new"
    make_data(root, ORDER, 1)
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = dataclasses.replace(
        ModelConfig.preset("tiny"), classes=SYNTHETIC_CLASSES[::-1], score_threshold=0.05
    )
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_weights(build_model(config), path)
    return path


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["eval", *map(str, arguments)], env={"COLUMNS": "100"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return content


def refused(message: str, *arguments: str | Path) -> None:
    assert run(*arguments) == (1, "", f"hpvod: error: {message}\n")


def test_a_model_and_its_detections_again(data: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    options = ["--method", "c2", "--interval", "2", *QUICK]
    status, table, words = run(data, "--weights", weights, "--out", out, *options)
    assert status == 0
    assert words.startswith(
        "12 of 12 frames evaluated, 0 files skipped; 6 key frames, mean updated "
    )
    assert words.endswith(" ms a frame\n") and words.count("\n") == 1
    assert sorted(path.name for path in out.iterdir()) == ["detections.safetensors", "results.json"]

    dataset = ImageNetVID(data, "val")
    model = load_model(weights)
    config = dataclasses.replace(
        model.config, short_side=64, long_side=round(64 * model.config.long_side / 256)
    )
    model.config = config
    method = dataclasses.replace(PRESETS["c2"], interval=2)
    detections, _ = detect_clips(fold_batch_norm(model), method, dataset, [0, 1, 2], Skipped())
    saved = load_run(out / "detections.safetensors")
    assert saved.origin.method == "c2 interval=2"
    assert len(detections.scores) > 0
    assert np.array_equal(saved.detections.frames, detections.frames)
    assert np.allclose(saved.detections.boxes, detections.boxes, atol=1e-3)
    truth, usable = read_truth(dataset, Skipped())
    results = results_of(saved.detections, truth, usable, dataset.classes)
    content = report(out)
    assert content["method"] == "c2 interval=2"
    assert content["mean_ap"] == results.to_json()["mean_ap"]
    assert content["run"]["key_frames"] == 6 and content["run"]["frames"] == 12
    assert content["run"]["milliseconds"] > 0
    assert content["skipped"] == []
    rows = [line.replace("│", " ").split() for line in table.splitlines()]
    assert ["boxes", *map(str, results.boxes.values())] in rows

    again = tmp_path / "again"
    found = run(data, "--detections", out / "detections.safetensors", "--out", again)
    assert found == (0, table, words)
    assert report(again) == content
    assert run(data, "--detections", out / "detections.safetensors") == (0, table, words)


def test_files_that_cannot_be_used(data: Path, weights: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    dataset = ImageNetVID(copy, "val")
    image = dataset.clips[0].frames[1].image
    image.write_bytes(b"none")
    annotation = dataset.clips[1].frames[2].annotation
    assert isinstance(annotation, Path)
    annotation.write_bytes(b"none")
    out = tmp_path / "out"
    status, table, words = run(copy, "--weights", weights, "--out", out, *QUICK)
    assert status == 0
    first, second, summary = words.splitlines()
    assert first.startswith(f"hpvod: skipped {annotation}: ")
    assert second.startswith(f"hpvod: skipped {image}: cannot be read as an image")
    assert summary.startswith("10 of 12 frames evaluated, 2 files skipped; ")
    content = report(out)
    assert content["frames"] == 10 and content["run"]["frames"] == 11
    assert [message.split(": ")[0] for message in content["skipped"]] == [
        str(annotation),
        str(image),
    ]
    # The image is not read again, but known to have been skipped.
    status, same_table, words = run(copy, "--detections", out / "detections.safetensors")
    assert (status, same_table) == (0, table)
    assert words.splitlines()[1].startswith("10 of 12 frames evaluated, 1 files skipped; ")


def test_two_processes_are_one(data: Path, weights: Path, tmp_path: Path) -> None:
    run(data, "--weights", weights, "--out", tmp_path / "one", *QUICK)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "hpvod", "eval", str(data), "--weights", str(weights)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "two"), *QUICK],
        env=environment,
        capture_output=True,
        encoding="utf-8",  # of the table's lines, whatever the locale
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(" frames evaluated") == 1
    names = sorted(path.name for path in (tmp_path / "two").iterdir())
    assert names == ["detections.safetensors", "results.json"]
    one, two = report(tmp_path / "one"), report(tmp_path / "two")
    for content in (one, two):
        del content["run"]["milliseconds"]
    assert two == one
    parts = [load_run(tmp_path / name / "detections.safetensors") for name in ("one", "two")]
    # The clips of the first process come first.
    assert parts[1].statistics.numbers.tolist() == [*range(4), *range(8, 12), *range(4, 8)]
    for name in ("frames", "labels", "scores", "boxes"):
        first, second = (
            getattr(part.detections, name)[np.argsort(part.detections.frames, kind="stable")]
            for part in parts
        )
        assert np.array_equal(first, second)


class TestData:
    def test_coco(self, data: Path, weights: Path, tmp_path: Path) -> None:
        dataset = ImageNetVID(data, "val")
        frames = [frame.image for clip in dataset.clips for frame in clip.frames]
        content = {
            "videos": [
                {"id": number, "name": clip.name} for number, clip in enumerate(dataset.clips)
            ],
            "categories": [{"id": n, "name": name} for n, name in enumerate(dataset.classes)],
            "images": [
                {
                    "id": number,
                    "file_name": str(image.relative_to(data)),
                    "height": 64,
                    "width": 80,
                    "video_id": number // 4,
                    "frame_id": number,
                }
                for number, image in enumerate(frames)
            ],
            "annotations": [
                {
                    "image_id": 4 * number + index,
                    "category_id": int(label),
                    "bbox": [x1, y1, x2 - x1 + 1, y2 - y1 + 1],
                    "track_id": int(track),
                }
                for number, clip in enumerate(dataset.clips)
                for index, annotation in enumerate(map(dataset.annotation, clip.frames))
                for (x1, y1, x2, y2), label, track in zip(
                    annotation.boxes.tolist(), annotation.labels, annotation.tracks, strict=True
                )
            ],
        }
        coco = tmp_path / "val.json"
        coco.write_text(json.dumps(content))
        options = ["--weights", weights, *QUICK]
        assert run(data, "--coco", coco, "--out", tmp_path / "coco", *options)[0] == 0
        assert run(data, "--out", tmp_path / "vid", *options)[0] == 0
        found, expected = report(tmp_path / "coco"), report(tmp_path / "vid")
        assert found["ap"] == expected["ap"] and found["boxes"] == expected["boxes"]

    def test_some_classes(self, data: Path, weights: Path, tmp_path: Path) -> None:
        names = tmp_path / "names.txt"
        names.write_text(f"{SYNTHETIC_CLASSES[2]}\nunicorn\n")
        out = tmp_path / "out"
        status, _, words = run(data, "--classes", names, "--weights", weights, "--out", out, *QUICK)
        assert status == 0
        assert words.splitlines()[0] == "hpvod: the model does not know these classes: unicorn"
        content = report(out)
        assert list(content["ap"]["all"]) == [SYNTHETIC_CLASSES[2], "unicorn"]
        assert content["ap"]["all"]["unicorn"] is None


class TestRefused:
    def test_options(self, data: Path, weights: Path, tmp_path: Path) -> None:
        nothing = "nothing to evaluate: give --weights FILE or --detections FILE"
        refused(nothing, data)
        refused("no --out FOLDER for the detections and results", data, "--weights", weights)
        refused(
            "--short-side means nothing to --detections, which are there already",
            *(data, "--detections", tmp_path / "a", "--short-side", "64"),
        )
        full = [data, "--weights", weights, "--out", tmp_path / "out"]
        refused(
            "--split means nothing to --coco, whose file says it",
            *full,
            "--coco",
            "a.json",
            "--split",
            "val",
        )
        refused(
            "--tau means nothing to dff; it is for c2, c3", *full, "--method", "dff", "--tau", "1"
        )
        refused("--gamma: expected a share from 0 to 1, got 2.0", *full, "--gamma", "2")
        assert list(tmp_path.iterdir()) == []

    def test_files(self, data: Path, weights: Path, tmp_path: Path) -> None:
        out = ["--out", tmp_path / "out"]
        none = tmp_path / "none"
        status, _, words = run(none, "--weights", weights, *out)
        assert status == 1 and words.startswith(f"hpvod: error: {none}/ImageSets/VID/val.txt: ")
        refused(f"{none}: no such file", data, "--weights", none, *out)
        status, _, words = run(data, "--detections", none)
        assert status == 1 and words.startswith(
            f"hpvod: error: {none}: cannot be read as detections"
        )
        (tmp_path / "file").touch()
        message = f"{tmp_path / 'file'}: cannot be written into (File exists)"
        refused(message, data, "--weights", weights, "--out", tmp_path / "file")
        names = tmp_path / "names.txt"
        names.write_text("\n")
        message = f"{names}: names no class; it must hold one name a line"
        refused(message, data, "--weights", weights, "--classes", names, *out)

    def test_detections_of_other_data(self, data: Path, weights: Path, tmp_path: Path) -> None:
        run(data, "--weights", weights, "--out", tmp_path, "--method", "dff", *QUICK)
        other = tmp_path / "other"
        make_data(other, dataclasses.replace(ORDER, val=1), 1)
        saved = tmp_path / "detections.safetensors"
        refused(f"{saved}: is of a data set with other clips", other, "--detections", saved)

    def test_no_annotation_can_be_used(self, data: Path, weights: Path, tmp_path: Path) -> None:
        copy = tmp_path / "data"
        shutil.copytree(data, copy)
        shutil.rmtree(copy / "Annotations")
        status, table, words = run(copy, "--weights", weights, "--out", tmp_path / "out", *QUICK)
        assert (status, table) == (1, "")
        *skipped, error = words.splitlines()
        assert len(skipped) == 12
        first = ImageNetVID(data, "val").clips[0].frames[0].annotation
        assert isinstance(first, Path)
        named = copy / first.relative_to(data)
        assert error == f"hpvod: error: no annotation can be used; the first: {named}: no such file"

    def test_interrupted(
        self, data: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("hpvod.detector.VideoDetector.step", interrupted)
        found = run(data, "--weights", weights, "--out", tmp_path / "out", *QUICK)
        assert found == (130, "", "hpvod: interrupted; there are no results\n")
        assert not list((tmp_path / "out").iterdir())


def test_torch_is_not_imported_to_say_what_is_wrong(tmp_path: Path) -> None:
    program = (
        "import sys; from hpvod.commands.evaluate import evaluate; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n"
