"""Detection in the clips of a data set."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpvod.data import Annotation, Clip, DataError, Frame, Skipped, SkippedWarning
from hpvod.detector import VideoDetector
from hpvod.evaluation.run import detect_clips, read_frame
from hpvod.method import PRESETS
from hpvod.model import HPVODModel

from .clips import clip

CLASSES = ("zebra", "cat", "airplane")  # the model knows the first and the last


class Given:
    """Two clips of a few frames in PNG files."""

    classes = CLASSES

    def __init__(self, folder: Path) -> None:
        self.clips = []
        for name, count in (("a", 3), ("b", 6)):
            paths = [folder / f"{name}{number}.png" for number in range(count)]
            for path, image in zip(paths, clip(count), strict=True):
                Image.fromarray(image).save(path)
            self.clips.append(Clip(name, tuple(Frame(path, path) for path in paths)))

    def annotation(self, frame: Frame) -> Annotation:
        if frame.image.name == "a1.png":
            raise DataError("a1.xml: is damaged")
        nothing = np.zeros(0, np.int64)
        boxes = np.zeros((0, 4), np.float32)
        return Annotation((48, 64), boxes, nothing, nothing, nothing.astype(bool))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Given:
    return Given(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def model(tiny_model: HPVODModel) -> HPVODModel:
    small = HPVODModel(tiny_model.config)
    small.load_state_dict(tiny_model.state_dict())
    small.config = dataclasses.replace(tiny_model.config, short_side=48, score_threshold=0.01)
    return small.eval()


@pytest.mark.parametrize("name", ["c2", "fgfa"])
def test_as_the_detector_finds_it(dataset: Given, model: HPVODModel, name: str) -> None:
    method = dataclasses.replace(PRESETS[name], interval=2) if name == "c2" else PRESETS[name]
    told: list[int] = []
    skipped = Skipped()
    detections, statistics = detect_clips(model, method, dataset, [1], skipped, told.append)
    assert sum(told) == 6 and not len(skipped)
    results = list(VideoDetector(model, method).run(clip(6)))
    assert statistics.numbers.tolist() == list(range(3, 9))
    assert statistics.is_key.tolist() == [result.is_key for result in results]
    assert statistics.updates == pytest.approx([result.updated for result in results])
    assert (statistics.durations > 0).all()
    known = {
        model.config.classes.index(name): CLASSES.index(name) for name in CLASSES if name != "cat"
    }
    expected = [
        (3 + result.index, known[label], score, *box)
        for result in results
        for label, score, box in zip(
            result.labels.tolist(), result.scores.tolist(), result.boxes.tolist(), strict=True
        )
        if label in known
    ]
    found = [
        (frame, label, score, *box)
        for frame, label, score, box in zip(
            *(
                getattr(detections, column).tolist()
                for column in ("frames", "labels", "scores", "boxes")
            ),
            strict=True,
        )
    ]
    assert expected and found == expected
    assert detections.labels.dtype == np.int16 and detections.frames.dtype == np.int32


def test_no_clips(dataset: Given, model: HPVODModel) -> None:
    detections, statistics = detect_clips(model, PRESETS["dff"], dataset, [], Skipped())
    assert detections.boxes.shape == (0, 4)
    assert statistics.frames == 0


@pytest.mark.parametrize("name", ["dff", "fgfa"])
def test_frames_that_cannot_be_used(tmp_path: Path, model: HPVODModel, name: str) -> None:
    dataset = Given(tmp_path)
    (tmp_path / "b0.png").write_bytes(b"none")
    Image.fromarray(clip(1, 80, 48)[0]).save(tmp_path / "b3.png")
    Image.fromarray(clip(1, 80, 48)[0]).save(tmp_path / "a1.png")  # its annotation is damaged
    skipped = Skipped()
    with pytest.warns(SkippedWarning):
        _, statistics = detect_clips(model, PRESETS[name], dataset, [1, 0], skipped)
    assert statistics.numbers.tolist() == [4, 5, 7, 8, 0, 2]
    assert [statistics.covered(9).sum(), statistics.key_frames] == [6, 2 if name == "dff" else 6]
    image, size, other = skipped.messages
    assert image.startswith(f"{tmp_path / 'b0.png'}: cannot be read as an image")
    assert size == f"{tmp_path / 'b3.png'}: is 80 x 48 pixels, but its annotation is of 64 x 48"
    assert other.startswith(f"{tmp_path / 'a1.png'}: frame 1: size changed from 48x64 to 48x80")


def test_a_frame_without_annotation_is_read(dataset: Given) -> None:
    frame = dataset.clips[0].frames[1]
    assert np.array_equal(read_frame(dataset, frame), clip(3)[1])
