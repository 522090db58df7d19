"""Annotations as columns."""

from pathlib import Path

import numpy as np
import pytest

from hpvod.data import Annotation, Clip, DataError, Frame, Skipped, SkippedWarning
from hpvod.evaluation.truth import read_truth


class Given:
    classes = ("cat", "dog")

    def __init__(self, clips):
        self.clips = clips

    def annotation(self, frame):
        if isinstance(frame.annotation, Path):
            raise DataError(f"{frame.annotation}: is damaged")
        return frame.annotation


def frame(*labels):
    boxes = np.array([[0, 0, 9, 9]] * len(labels), np.float32).reshape(-1, 4)
    numbers = np.array(labels, np.int64)
    annotation = Annotation((20, 20), boxes, numbers, numbers, numbers > 5)
    return Frame(Path("image"), annotation)


def test_frames_are_counted_through_the_clips_and_damaged_ones_named():
    damaged = Frame(Path("image"), Path("a.xml"))
    dataset = Given([Clip("x", (frame(0, 1), damaged, frame(1))), Clip("y", (frame(), frame(1)))])
    skipped = Skipped()
    with pytest.warns(SkippedWarning, match=r"a\.xml"):
        truth, usable = read_truth(dataset, skipped)
    assert truth.frames.tolist() == [0, 0, 2, 4]
    assert truth.labels.tolist() == [0, 1, 1, 1]
    # The dog is in frames 0 and 2 of the first clip; that of the second is another.
    assert truth.motion.tolist() == [0, 1, 1, 0]
    assert usable.tolist() == [True, False, True, True, True]
    assert skipped.messages == ["a.xml: is damaged"]


def test_a_data_set_without_objects():
    truth, usable = read_truth(Given([Clip("x", (frame(),))]), Skipped())
    assert truth.boxes.shape == (0, 4)
    assert usable.tolist() == [True]
