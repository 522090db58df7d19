"""FGFA's file of motion IoUs."""

import sys

import numpy as np
import pytest

from hpvod.evaluation.columns import Truth
from hpvod.evaluation.error import EvaluationError
from hpvod.evaluation.motion_file import read_motion

# Boxes in frames 0, 2 and 3; frame 1 has none.
TRUTH = Truth(
    frames=np.array([0, 0, 2, 3], np.int32),
    labels=np.zeros(4, np.int16),
    boxes=np.zeros((4, 4), np.float32),
    motion=np.full(4, np.nan, np.float32),
)
USABLE = np.ones(4, bool)


def cells(*values):
    """A column of cells, as MATLAB has them."""
    column = np.empty((len(values), 1), object)
    for row, value in enumerate(values):
        column[row, 0] = value
    return column


@pytest.fixture
def save(tmp_path):
    io = pytest.importorskip("scipy.io")

    def save(*frames, name="motion_iou"):
        path = tmp_path / "motion.mat"
        io.savemat(path, {name: cells(*frames)})
        return path

    return save


def test_columns_of_numbers(save):
    path = save(np.array([[0.5], [0.75]]), np.zeros((0, 0)), np.zeros((1, 0)), np.array([[1.0]]))
    assert read_motion(path, TRUTH, USABLE).tolist() == [0.5, 0.75, 0, 1]


def test_columns_of_cells(save):
    one, none = np.array([[0.5]]), np.zeros((0, 0))
    path = save(cells(one, none), np.zeros((0, 0)), cells(none), cells(one))
    found = read_motion(path, TRUTH, USABLE)
    assert found.tolist() == [0.5, 0, 0, 0.5]
    assert found.dtype == np.float32


def test_a_frame_whose_annotation_was_not_read(save):
    truth = Truth(
        *(column[[0, 1, 3]] for column in (TRUTH.frames, TRUTH.labels, TRUTH.boxes)),
        motion=TRUTH.motion[:3],
    )
    path = save(np.ones((2, 1)), np.zeros((0, 0)), np.ones((5, 1)), np.array([[0.25]]))
    usable = np.array([True, True, False, True])
    assert read_motion(path, truth, usable).tolist() == [1, 1, 0.25]


def test_of_other_frames_or_boxes(save):
    with pytest.raises(EvaluationError, match=r"motion\.mat: is of 1 frames, .* has 4"):
        read_motion(save(np.ones((2, 1))), TRUTH, USABLE)
    path = save(*[np.ones((2, 1))] * 4)
    with pytest.raises(EvaluationError, match=r"is of 2 boxes in frame 1, .* has 0"):
        read_motion(path, TRUTH, USABLE)


def test_no_such_file(tmp_path, save):
    with pytest.raises(EvaluationError, match=r"none: cannot be read as motion IoUs"):
        read_motion(tmp_path / "none", TRUTH, USABLE)
    with pytest.raises(EvaluationError, match=r"motion\.mat: cannot be read as motion IoUs"):
        read_motion(save(np.ones((2, 1)), name="other"), TRUTH, USABLE)


def test_without_scipy(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(EvaluationError, match=r"a\.mat: needs SciPy to be read; pip install scipy"):
        read_motion(tmp_path / "a.mat", TRUTH, USABLE)
