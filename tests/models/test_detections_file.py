"""Saved detections: read back, merged, and refused where they are wrong."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from hpvod.evaluation.columns import Detections
from hpvod.evaluation.detections import Origin, load_detections, merge_detections, save_detections
from hpvod.evaluation.error import EvaluationError

ORIGIN = Origin(("cat", "dog"), clips=2, frames=5, method="c3")
GOOD = {
    "frames": np.array([4, 0], np.int32),
    "labels": np.array([1, 0], np.int16),
    "scores": np.array([0.5, 0.25], np.float32),
    "boxes": np.array([[0, 1, 2, 3], [4, 5, 4, 5]], np.float32),
}


def test_read_back_and_merged(tmp_path):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    first.write_bytes(b"older")
    for path in (first, second):
        save_detections(path, Detections(**GOOD), ORIGIN)
    read, origin = load_detections(first)
    merged, _ = merge_detections([first, second])
    assert origin == ORIGIN
    for name, column in GOOD.items():
        assert np.array_equal(getattr(read, name), column)
        assert getattr(read, name).dtype == column.dtype
        assert np.array_equal(getattr(merged, name), np.concatenate((column, column)))
    assert sorted(tmp_path.iterdir()) == [first, second]


def test_parts_of_different_runs(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    save_detections(paths[0], Detections(**GOOD), ORIGIN)
    save_detections(paths[1], Detections(**GOOD), Origin(("cat", "dog"), 2, 5, "dff"))
    with pytest.raises(EvaluationError, match=r"b: is of another run than .*a"):
        merge_detections(paths)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("frames", [5, 0], "frames must be from 0 to 4"),
        ("frames", [-1, 0], "frames must be from 0 to 4"),
        ("labels", [2, 0], "labels must be from 0 to 1"),
        ("labels", [0], "labels must be int16 of shape"),
        ("scores", [np.nan, 0], "scores must be finite"),
        ("boxes", [[0, 0, np.inf, 1]] * 2, "boxes must be finite"),
        ("boxes", [[3, 0, 2, 1]] * 2, "has a box without an area"),
    ],
)
def test_wrong_columns(tmp_path, name, value, message):
    path = tmp_path / "wrong"
    columns = {**GOOD, name: np.array(value, GOOD[name].dtype)}
    save_detections(path, Detections(**columns), ORIGIN)
    with pytest.raises(EvaluationError, match=f"wrong: {message}"):
        load_detections(path)


@pytest.mark.parametrize("origin", ["", "[]", "{}", json.dumps({"classes": 1})])
def test_wrong_origin(tmp_path, origin):
    path = tmp_path / "wrong"
    save_file(GOOD, path, {"format": "hpvod detections 1", "origin": origin})
    with pytest.raises(EvaluationError, match="wrong: does not say"):
        load_detections(path)


@pytest.mark.parametrize("content", [b"", b"\xff" * 64])
def test_not_detections(tmp_path, content):
    path = tmp_path / "wrong"
    path.write_bytes(content)
    with pytest.raises(EvaluationError, match="wrong: cannot be read"):
        load_detections(path)
    save_file(GOOD, path)
    with pytest.raises(EvaluationError, match="wrong: is not a file of detections"):
        load_detections(path)


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(EvaluationError, match="cannot be written"):
        save_detections(tmp_path / "none" / "a", Detections(**GOOD), ORIGIN)
