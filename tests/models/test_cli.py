from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from hpvod.cli import app
from hpvod.config import ModelConfig
from hpvod.detector import VideoDetector
from hpvod.method import PRESETS
from hpvod.model import HPVODModel, build_model
from hpvod.video import open_video
from hpvod.weights import save_weights

from .clips import clip, cut, read_video, write_images, write_video

UNTRAINED = ["--random-weights", "--model", "tiny", "--short-side", "48", "--device", "cpu"]


class Outcome:
    """What a command left: its exit status, its words and the two files."""

    def __init__(self, folder: Path, status: int, stderr: str) -> None:
        self.status = status
        self.stderr = stderr
        self.video = folder / "out.mp4"
        self.json = folder / "out.jsonl"

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.json.read_text(encoding="utf-8").splitlines()]

    def refused(self, message: str, frames: int = 0) -> None:
        """Exactly one message, and the results of `frames` frames in both files."""
        kept = f"; the results of {frames} frames are kept" if frames else ""
        assert self.stderr == f"hpvod: error: {message}{kept}\n"
        assert self.status == 1
        if frames:
            assert [line["frame"] for line in self.lines()] == list(range(frames))
            assert len(read_video(self.video)) == frames
        else:
            assert not self.video.exists()


Detect = Callable[..., Outcome]


@pytest.fixture
def detect(tmp_path: Path) -> Detect:
    """Runs `hpvod detect` on an untrained model, writing out.mp4 and out.jsonl."""

    def run(video: Path | str, *options: str, untrained: bool = True) -> Outcome:
        arguments = ["detect", str(video)]
        if "-o" not in options:
            arguments += ["-o", str(tmp_path / "out.mp4")]
        if "--json" not in options:
            arguments += ["--json", str(tmp_path / "out.jsonl")]
        arguments += [*options, *(UNTRAINED if untrained else [])]
        result = CliRunner().invoke(app, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.stdout == ""
        return Outcome(tmp_path, result.exit_code, result.stderr)

    return run


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    return write_images(tmp_path / "frames", clip(5))


class TestRuns:
    def test_what_is_written(self, tmp_path: Path, detect: Detect) -> None:
        pts = [0, 512, 1024, 1500, 3000]
        source = write_video(tmp_path / "in.mp4", clip(5, 80, 60), pts)
        outcome = detect(source, "--method", "dff", "--interval", "2", "--score-threshold", "0.05")
        assert (outcome.status, outcome.stderr.count("\n")) == (0, 1)
        assert outcome.stderr.startswith("5 frames, ")
        assert outcome.stderr.endswith(" frames/s, 3 key frames, mean updated 60.0%\n")

        config = ModelConfig.preset("tiny")
        model = build_model(config)
        long_side = round(config.long_side * 48 / config.short_side)
        model.config = dataclasses.replace(config, short_side=48, long_side=long_side)
        detector = VideoDetector(model, dataclasses.replace(PRESETS["dff"], interval=2))
        with open_video(str(source)) as reader:
            expected = list(detector.run(reader))
        lines = outcome.lines()
        assert [line["time"] for line in lines] == [round(p / 12800, 6) for p in pts]
        assert [line["key"] for line in lines] == [True, False, True, False, True]
        assert [line["updated"] for line in lines] == [1, 0, 1, 0, 1]
        assert sum(len(line["boxes"]) for line in lines) > 0
        for line, result in zip(lines, expected, strict=True):
            sure = result.scores >= 0.05
            labels = [config.classes[label] for label in result.labels[sure].tolist()]
            assert line["labels"] == labels
            # Rounded to hundredths of a pixel, and to six digits.
            assert np.allclose(line["boxes"], result.boxes[sure], atol=0.00501)
            assert np.allclose(line["scores"], result.scores[sure], atol=1e-6)
        shown = read_video(outcome.video)
        assert [time for _, time in shown] == pytest.approx([p / 12800 for p in pts], abs=1e-9)
        assert shown[0][0].shape == (60, 80, 3)

    def test_key_frames_are_marked(self, detect: Detect, frames: Path) -> None:
        options = ["--method", "dff", "--interval", "2", "--score-threshold", "1"]
        bottom = [frame[-1].astype(int) for frame, _ in read_video(detect(frames, *options).video)]
        distance = [np.abs(row - (255, 193, 7)).mean() for row in bottom]
        assert max(distance[::2]) < 20
        assert min(distance[1::2]) > 60

    @pytest.mark.parametrize("method", PRESETS)
    def test_every_method(self, detect: Detect, frames: Path, method: str) -> None:
        outcome = detect(frames, "--method", method)
        assert outcome.status == 0
        assert [line["frame"] for line in outcome.lines()] == list(range(5))
        assert len(read_video(outcome.video)) == 5

    def test_a_folder_and_its_glob_are_the_same(self, detect: Detect, frames: Path) -> None:
        options = ["--fps", "10", "--score-threshold", "0"]
        first = detect(frames, *options).lines()
        second = detect(f"{frames}/*.png", *options).lines()
        assert first == second
        assert [line["time"] for line in first] == [0, 0.1, 0.2, 0.3, 0.4]

    def test_weights(
        self, tmp_path: Path, detect: Detect, frames: Path, tiny_model: HPVODModel
    ) -> None:
        path = tmp_path / "tiny.safetensors"
        save_weights(tiny_model, path)
        options = ["--score-threshold", "0", "--short-side", "48", "--device", "cpu"]
        loaded = detect(frames, "--weights", str(path), *options, untrained=False).lines()
        assert loaded == detect(frames, "--score-threshold", "0").lines()
        assert loaded[0]["boxes"]

    def test_one_output_alone(self, tmp_path: Path, frames: Path) -> None:
        for option, path in (("-o", tmp_path / "a.mp4"), ("--json", tmp_path / "a.jsonl")):
            result = CliRunner().invoke(app, ["detect", str(frames), option, str(path), *UNTRAINED])
            assert result.exit_code == 0
            assert path.stat().st_size > 0

    def test_the_mask_is_painted(self, detect: Detect, frames: Path) -> None:
        options = ["--method", "c2", "--tau", "1e9", "--score-threshold", "1"]
        plain = read_video(detect(frames, *options).video)
        tinted = read_video(detect(frames, *options, "--show-mask").video)
        mean = [
            np.mean(with_mask.astype(int) - without, axis=(0, 1))
            for (without, _), (with_mask, _) in zip(plain, tinted, strict=True)
        ]
        assert np.abs(mean[0]).max() < 1
        for red, green, blue in mean[1:]:
            # A tint of (0, 190, 255) over colours around 127.
            assert red < -30
            assert green > 10
            assert blue > 30

    def test_version(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{name} 1.2.3")
        assert CliRunner().invoke(app, ["--version"]).stdout == "hpvod hpvod 1.2.3\n"

    def test_help_needs_no_torch(self) -> None:
        program = "import sys, hpvod.cli; print('torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.stdout == "False\n"


class TestChoices:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                ["--method", "c9"],
                "--method: unknown method 'c9'; choose from per_frame, dff, fgfa, c1, c2, c3",
            ),
            (["--interval", "5"], "--interval means nothing to c3; it is for dff, c1, c2"),
            (
                ["--method", "per_frame", "--interval", "5"],
                "--interval means nothing to per_frame; it is for dff, c1, c2",
            ),
            (["--method", "c2", "--gamma", "0"], "--gamma means nothing to c2; it is for c3"),
            (["--method", "c1", "--tau", "0"], "--tau means nothing to c1; it is for c2, c3"),
            (
                ["--method", "c1", "--interval", "0"],
                "--interval: expected at least 1 frame, got 0",
            ),
            (["--gamma", "2"], "--gamma: expected a share from 0 to 1, got 2.0"),
            (
                ["--device", "abacus"],
                "--device: unknown device 'abacus'; choose cpu, cuda or cuda:N",
            ),
            (
                ["--model", "huge"],
                "--model: no model preset 'huge': choose one of resnet101, tiny",
            ),
        ],
    )
    def test_values(self, detect: Detect, frames: Path, options: list[str], message: str) -> None:
        defaults = ["--random-weights", "--device", "cpu", "--model", "tiny"]
        # The last of a repeated option counts.
        detect(frames, *defaults, *options, untrained=False).refused(message)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                [],
                "no weights: give --weights FILE, or --random-weights to run an untrained model",
            ),
            (
                ["--weights", "x", "--random-weights"],
                "--weights and --random-weights exclude each other",
            ),
            (
                ["--weights", "x", "--model", "tiny"],
                "--model is for --random-weights; a weights file says what it holds",
            ),
        ],
    )
    def test_models(self, detect: Detect, frames: Path, options: list[str], message: str) -> None:
        detect(frames, *options, untrained=False).refused(message)

    def test_no_output(self, frames: Path) -> None:
        result = CliRunner().invoke(app, ["detect", str(frames), *UNTRAINED])
        expected = "hpvod: error: nothing to write: give --output, --json or both\n"
        assert (result.exit_code, result.stderr) == (1, expected)

    @pytest.mark.parametrize("value", ["-0.1", "1.1"])
    def test_score_threshold(self, detect: Detect, frames: Path, value: str) -> None:
        outcome = detect(frames, "--score-threshold", value)
        assert outcome.status == 2
        assert "--score-threshold" in outcome.stderr


class TestVideosThatFail:
    def test_cut_short(self, tmp_path: Path, detect: Detect) -> None:
        source = write_video(tmp_path / "in.mp4", clip(12), options={"movflags": "faststart"})
        cut(source, 0.9)
        outcome = detect(source)
        frames = len(outcome.lines())
        assert 0 < frames < 12
        outcome.refused(
            f"{source}: the file is cut short: only {frames} of 12 frames could be read", frames
        )

    def test_cut_short_with_results_to_come(self, tmp_path: Path, detect: Detect) -> None:
        source = write_video(tmp_path / "in.mp4", clip(14), options={"movflags": "faststart"})
        cut(source, 0.92)
        # FGFA looks 9 frames ahead, so it owes results when the frames end.
        count = len(detect(source, "--method", "per_frame").lines())
        assert 0 < count < 14
        detect(source, "--method", "fgfa").refused(
            f"{source}: the file is cut short: only {count} of 14 frames could be read", count
        )

    def test_empty_folder(self, tmp_path: Path, detect: Detect) -> None:
        folder = tmp_path / "empty"
        folder.mkdir()
        detect(folder).refused(
            f"{folder}: the folder holds no images "
            "(.bmp, .jpeg, .jpg, .png, .ppm, .tif, .tiff, .webp)"
        )

    def test_change_of_frame_size_in_a_folder(self, detect: Detect, frames: Path) -> None:
        Image.fromarray(clip(1, 96, 64)[0]).save(frames / "3.png")
        detect(frames).refused(
            f"{frames}/3.png: the size of frame 3 is 96x64, but the video began as 64x48", 3
        )

    def test_change_of_frame_size_in_a_file(self, tmp_path: Path, detect: Detect) -> None:
        parts = [
            write_video(tmp_path / f"{width}.ts", clip(4, width, 48)).read_bytes()
            for width in (64, 80)
        ]
        source = tmp_path / "in.ts"
        source.write_bytes(b"".join(parts))
        detect(source).refused(
            f"{source}: the size of frame 4 is 80x48, but the video began as 64x48", 4
        )

    def test_text_called_mp4(self, tmp_path: Path, detect: Detect) -> None:
        source = tmp_path / "notes.mp4"
        source.write_text("This is no video.\n")
        detect(source).refused(
            f"{source}: cannot be read as a video (Invalid data found when processing input): "
            "damaged, incomplete or not a video"
        )

    def test_unreadable_image(self, detect: Detect, frames: Path) -> None:
        (frames / "2.png").write_bytes(b"not an image")
        detect(frames).refused(
            f"{frames}/2.png: cannot be read as an image "
            f"(cannot identify image file '{frames}/2.png')",
            2,
        )

    def test_glob_without_matches(self, tmp_path: Path, detect: Detect) -> None:
        detect(f"{tmp_path}/*.png").refused(f"{tmp_path}/*.png: no file matches")

    def test_no_such_video(self, tmp_path: Path, detect: Detect) -> None:
        detect(tmp_path / "gone.mp4").refused(f"{tmp_path}/gone.mp4: no such file or folder")

    def test_too_thin_for_the_networks(self, tmp_path: Path, detect: Detect) -> None:
        folder = write_images(tmp_path / "thin", clip(1, 400, 20))
        outcome = detect(folder)
        outcome.refused(
            f"{folder}/0.png: frame: 20x400 (height x width) resizes to 4x84; "
            "the networks need at least 32 pixels a side"
        )


class TestWeightsThatFail:
    def run(self, detect: Detect, frames: Path, weights: Path) -> Outcome:
        return detect(frames, "--weights", str(weights), "--device", "cpu", untrained=False)

    def test_another_architecture(
        self, tmp_path: Path, detect: Detect, frames: Path, tiny_model: HPVODModel
    ) -> None:
        path = tmp_path / "other.safetensors"
        save_weights(tiny_model, path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        tensors = load_file(path)
        del tensors["features.feat_conv.weight"]
        save_file(tensors, path, metadata)
        self.run(detect, frames, path).refused(
            f"{path}: the tensors are of another architecture: features.feat_conv.weight missing"
        )

    def test_a_pickle_with_code(self, tmp_path: Path, detect: Detect, frames: Path) -> None:
        path, trap = tmp_path / "evil.pth", tmp_path / "executed"

        class Trap:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.mkdir, (str(trap),)

        path.write_bytes(pickle.dumps(Trap()))
        self.run(detect, frames, path).refused(f"{path}: is not a safetensors file")
        assert not trap.exists()
        pickle.loads(path.read_bytes())
        assert trap.exists()

    def test_results_of_another_run_stay(
        self, tmp_path: Path, detect: Detect, frames: Path
    ) -> None:
        (tmp_path / "out.jsonl").write_text("earlier results\n")
        outcome = self.run(detect, frames, tmp_path / "gone.safetensors")
        outcome.refused(f"{tmp_path}/gone.safetensors: no such file")
        assert outcome.json.read_text(encoding="utf-8") == "earlier results\n"


class TestOutputsThatFail:
    @pytest.mark.parametrize(("option", "name"), [("-o", "a.mp4"), ("--json", "a.jsonl")])
    def test_missing_folder(
        self, tmp_path: Path, detect: Detect, frames: Path, option: str, name: str
    ) -> None:
        path = tmp_path / "gone" / name
        detect(frames, option, str(path)).refused(
            f"{path}: cannot be written (No such file or directory)"
        )
        assert list(tmp_path.iterdir()) == [frames]

    @pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="no folder closed even to root")
    @pytest.mark.parametrize("option", ["-o", "--json"])
    def test_no_permission(self, detect: Detect, frames: Path, option: str) -> None:
        path = Path("/sys/kernel/hpvod.mp4")
        with pytest.raises(OSError) as denied:
            path.open("ab")
        reason = denied.value.strerror
        detect(frames, option, str(path)).refused(f"{path}: cannot be written ({reason})")

    def test_a_folder(self, tmp_path: Path, detect: Detect, frames: Path) -> None:
        detect(frames, "--json", str(tmp_path)).refused(
            f"{tmp_path}: cannot be written (Is a directory)"
        )

    def test_another_name_than_mp4(self, tmp_path: Path, detect: Detect, frames: Path) -> None:
        path = tmp_path / "a.avi"
        detect(frames, "-o", str(path)).refused(
            f"{path}: video is written as mp4, so the name must end in .mp4"
        )

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
    def test_full_disk_for_json(self, detect: Detect, frames: Path) -> None:
        outcome = detect(frames, "--json", "/dev/full")
        outcome.refused("/dev/full: cannot be written (No space left on device)")

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
    def test_full_disk_for_video(self, tmp_path: Path, detect: Detect, frames: Path) -> None:
        path = tmp_path / "full.mp4"
        path.symlink_to("/dev/full")
        outcome = detect(frames, "-o", str(path))
        assert outcome.status == 1
        frames_kept = len(outcome.lines()) - 1
        # One frame is on its way when the next is refused.
        assert frames_kept <= 1
        kept = f"; the results of {frames_kept} frames are kept" if frames_kept else ""
        message = f"{path}: cannot be written (No space left on device){kept}"
        assert outcome.stderr == f"hpvod: error: {message}\n"

    def test_the_source_is_not_overwritten(self, tmp_path: Path, detect: Detect) -> None:
        source = write_video(tmp_path / "in.mp4", clip(3))
        before = source.read_bytes()
        link, hard = tmp_path / "link.mp4", tmp_path / "hard.mp4"
        link.symlink_to(source)
        hard.hardlink_to(source)
        for path in (source, link, hard):
            detect(source, "-o", str(path)).refused(f"{path}: would overwrite {source}")
        detect(source, "--json", str(source)).refused(f"{source}: would overwrite {source}")
        assert source.read_bytes() == before

    def test_nor_is_a_frame(self, detect: Detect, frames: Path) -> None:
        path = frames / "4.png"
        detect(frames, "--json", str(path)).refused(f"{path}: would overwrite {path}")

    def test_both_outputs_in_one_file(self, tmp_path: Path, detect: Detect, frames: Path) -> None:
        path = tmp_path / "a.mp4"
        detect(frames, "-o", str(path), "--json", str(path)).refused(
            f"{path}: would overwrite {path}"
        )


class TestSeveralVideos:
    """Together they give what each gives alone."""

    def run(self, videos: list[Path], folder: Path, *options: str) -> tuple[int, str]:
        folder.mkdir(exist_ok=True)
        outputs = ["-o", str(folder), "--json", str(folder)]
        result = CliRunner().invoke(
            app, ["detect", *map(str, videos), *outputs, *options, *UNTRAINED]
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stderr

    @pytest.mark.parametrize("streams", ["1", "2", "8"])
    def test_what_is_written(self, tmp_path: Path, detect: Detect, streams: str) -> None:
        videos = [
            write_video(tmp_path / "a.mp4", clip(5)),
            write_images(tmp_path / "b", clip(3)),
            write_video(tmp_path / "c.mp4", clip(4, 96, 48)),  # of another size
            write_video(tmp_path / "d.mp4", clip(7)),
        ]
        folder = tmp_path / "out"
        options = ["--method", "dff", "--interval", "3", "--score-threshold", "0.05"]
        status, stderr = self.run(videos, folder, *options, "--streams", streams)
        assert (status, stderr.count("\n")) == (0, 1)
        assert stderr.startswith("19 frames, ")
        for video in videos:
            alone = detect(video, *options).lines()
            together = (folder / f"{video.stem}.jsonl").read_text(encoding="utf-8").splitlines()
            assert [line["key"] for line in map(json.loads, together)] == [
                line["key"] for line in alone
            ]
            for line, expected in zip(map(json.loads, together), alone, strict=True):
                assert line["time"] == expected["time"]
                assert line["labels"] == expected["labels"]
                # float32 sums in another order, rounded as they are written.
                assert np.allclose(line["boxes"], expected["boxes"], atol=0.0201)
                assert np.allclose(line["scores"], expected["scores"], atol=3e-6)
            assert len(read_video(folder / f"{video.stem}.mp4")) == len(together)
        assert len(list(folder.iterdir())) == 8

    def test_those_that_fail(self, tmp_path: Path) -> None:
        text = tmp_path / "text.mp4"
        text.write_text("This is no video.\n")
        images = write_images(tmp_path / "images", clip(4))
        (images / "2.png").write_bytes(b"not an image")
        thin = write_images(tmp_path / "thin", clip(1, 400, 20))
        videos = [text, images, thin, write_images(tmp_path / "good", clip(3))]
        folder = tmp_path / "out"
        status, stderr = self.run(videos, folder, "--streams", "2")
        assert status == 1
        messages = stderr.splitlines()
        assert messages[0].startswith(f"hpvod: error: {text}: cannot be read as a video")
        assert messages[1].startswith(f"hpvod: error: {images}/2.png: cannot be read as an image")
        assert messages[1].endswith("; the results of 2 frames are kept")
        assert messages[2].startswith(f"hpvod: error: {thin}/0.png: frame: 20x400")
        assert messages[3].startswith("5 frames, ")
        assert len(messages) == 4
        lengths = {p.name: len(p.read_text().splitlines()) for p in folder.glob("*.jsonl")}
        assert lengths == {"images.jsonl": 2, "good.jsonl": 3}

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
    def test_a_full_disk_for_one(self, tmp_path: Path) -> None:
        videos = [write_images(tmp_path / name, clip(3)) for name in ("a", "b")]
        folder = tmp_path / "out"
        folder.mkdir()
        (folder / "a.jsonl").symlink_to("/dev/full")
        status, stderr = self.run(videos, folder)
        assert status == 1
        message = f"{folder}/a.jsonl: cannot be written (No space left on device)"
        assert stderr.splitlines()[0] == f"hpvod: error: {message}"
        assert len((folder / "b.jsonl").read_text().splitlines()) == 3

    def test_two_of_one_name(self, tmp_path: Path) -> None:
        for folder in ("x", "y"):
            (tmp_path / folder).mkdir()
        videos = [write_images(tmp_path / folder / "a", clip(1)) for folder in ("x", "y")]
        status, stderr = self.run(videos, tmp_path / "out")
        assert (status, stderr) == (
            1,
            f"hpvod: error: {videos[0]} and {videos[1]}: the results of both would be called a; "
            "run them one after the other\n",
        )

    def test_without_a_folder(self, tmp_path: Path) -> None:
        videos = [str(write_images(tmp_path / name, clip(1))) for name in ("a", "b")]
        target = tmp_path / "out.mp4"
        result = CliRunner().invoke(app, ["detect", *videos, "-o", str(target), *UNTRAINED])
        message = f"hpvod: error: {target}: several videos need a folder, and this is none\n"
        assert (result.exit_code, result.stderr) == (1, message)


class TestSignals:
    def start(self, tmp_path: Path, frames: int) -> tuple[subprocess.Popen[str], Outcome]:
        """A run on a long video, stopped when some frames are done."""
        folder = write_images(tmp_path / "long", clip(frames), ".bmp")
        outcome = Outcome(tmp_path, -1, "")
        command = [sys.executable, "-m", "hpvod", "detect", str(folder), *UNTRAINED]
        command += ["-o", str(outcome.video), "--json", str(outcome.json)]
        process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            text=True,
            # A shell lets what it starts in the background ignore interrupts, and so its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        deadline = time.monotonic() + 60
        while not (outcome.json.exists() and outcome.json.read_bytes().count(b"\n") >= 4):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return process, outcome

    def test_interrupt(self, tmp_path: Path) -> None:
        process, outcome = self.start(tmp_path, 600)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == 130
        lines = outcome.lines()
        assert [line["frame"] for line in lines] == list(range(len(lines)))
        assert 4 <= len(lines) < 600
        kept = int(stderr.removeprefix("hpvod: interrupted; the results of ").split()[0])
        assert stderr == f"hpvod: interrupted; the results of {kept} frames are kept\n"
        # The frame at hand may have reached one file, both or none.
        assert kept <= len(lines) <= kept + 1
        assert kept <= len(read_video(outcome.video)) <= kept + 1

    def test_kill(self, tmp_path: Path) -> None:
        process, outcome = self.start(tmp_path, 600)
        process.kill()
        process.communicate(timeout=30)
        lines = outcome.lines()
        assert [line["frame"] for line in lines] == list(range(len(lines)))
        assert len(read_video(outcome.video)) >= len(lines) - 2
