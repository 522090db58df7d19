"""Saved detections: read back, merged, and refused where they are wrong."""

import dataclasses
import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from hpvod.evaluation.columns import Detections
from hpvod.evaluation.detections import (
    Origin,
    Run,
    load_run,
    load_run_of,
    merge_runs,
    save_run,
)
from hpvod.evaluation.error import EvaluationError
from hpvod.evaluation.statistics import RunStatistics

ORIGIN = Origin(("cat", "dog"), clips=2, frames=5, method="c3")
FOUND = {
    "frames": np.array([4, 0], np.int32),
    "labels": np.array([1, 0], np.int16),
    "scores": np.array([0.5, 0.25], np.float32),
    "boxes": np.array([[0, 1, 2, 3], [4, 5, 4, 5]], np.float32),
}
WENT = {
    "numbers": np.array([0, 3, 4], np.int32),
    "is_key": np.array([True, False, True]),
    "updates": np.array([1, 0.25, 1], np.float32),
    "durations": np.array([9, 4, 11], np.float32),
}


def run_of(origin=ORIGIN, **changed):
    columns = {
        name: np.array(changed.get(name, column), column.dtype)
        for name, column in (FOUND | WENT).items()
    }
    return Run(
        Detections(**{name: columns[name] for name in FOUND}),
        RunStatistics(**{name: columns[name] for name in WENT}),
        origin,
    )


def columns_of(run):
    for part in (run.detections, run.statistics):
        for field in dataclasses.fields(part):
            yield field.name, getattr(part, field.name)


def test_read_back(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"older")
    save_run(path, run_of())
    read = load_run(path)
    assert read.origin == ORIGIN
    for name, column in columns_of(read):
        assert np.array_equal(column, (FOUND | WENT)[name])
        assert column.dtype == (FOUND | WENT)[name].dtype
    assert list(tmp_path.iterdir()) == [path]


def test_merged(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    save_run(paths[0], run_of())
    save_run(paths[1], run_of(numbers=[1, 2, 2], frames=[1, 2]))
    merged = dict(columns_of(merge_runs(paths)))
    assert merged["frames"].tolist() == [4, 0, 1, 2]
    assert merged["numbers"].tolist() == [0, 3, 4, 1, 2, 2]
    assert merged["boxes"].shape == (4, 4)


def test_parts_that_do_not_belong_together(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    save_run(paths[0], run_of())
    save_run(paths[1], run_of(Origin(("cat", "dog"), 2, 5, "dff")))
    with pytest.raises(EvaluationError, match=r"b: is of another run than .*a"):
        merge_runs(paths)
    save_run(paths[1], run_of(numbers=[1, 2, 4]))
    with pytest.raises(EvaluationError, match="b: has frames of another part"):
        merge_runs(paths)


class Given:
    classes = ("cat", "dog")
    clips = tuple(type("Clip", (), {"frames": [0] * count}) for count in (2, 3))


def test_of_a_data_set(tmp_path):
    path = tmp_path / "a"
    assert Origin.of(Given, "c3") == ORIGIN
    save_run(path, run_of())
    assert load_run_of(Given, path).origin == ORIGIN
    for name, value in (("classes", ("dog", "cat")), ("clips", 3), ("frames", 6)):
        save_run(path, run_of(dataclasses.replace(ORIGIN, **{name: value})))
        with pytest.raises(EvaluationError, match=f"a: is of a data set with other {name}"):
            load_run_of(Given, path)


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
        ("numbers", [0, 3, 5], "numbers must be from 0 to 4"),
        ("is_key", [True], "is_key must be bool of shape"),
    ],
)
def test_wrong_columns(tmp_path, name, value, message):
    path = tmp_path / "wrong"
    save_run(path, run_of(**{name: value}))
    with pytest.raises(EvaluationError, match=f"wrong: {message}"):
        load_run(path)


@pytest.mark.parametrize("origin", ["", "[]", "{}", json.dumps({"classes": 1})])
def test_wrong_origin(tmp_path, origin):
    path = tmp_path / "wrong"
    save_file(FOUND | WENT, path, {"format": "hpvod detections 2", "origin": origin})
    with pytest.raises(EvaluationError, match="wrong: does not say"):
        load_run(path)


@pytest.mark.parametrize("content", [b"", b"\xff" * 64])
def test_not_detections(tmp_path, content):
    path = tmp_path / "wrong"
    path.write_bytes(content)
    with pytest.raises(EvaluationError, match="wrong: cannot be read"):
        load_run(path)
    save_file(FOUND, path)
    with pytest.raises(EvaluationError, match="wrong: is not a file of detections"):
        load_run(path)


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(EvaluationError, match="cannot be written"):
        save_run(tmp_path / "none" / "a", run_of())


class TestStatistics:
    def test_by_hand(self):
        statistics = RunStatistics(**WENT)
        assert (statistics.frames, statistics.key_frames) == (3, 2)
        assert statistics.updated == pytest.approx(0.75)
        # The median of 9 and 11 for two frames of three, and 4 for the third.
        assert statistics.milliseconds == pytest.approx((2 * 10 + 4) / 3)
        assert statistics.covered(6).tolist() == [True, False, False, True, True, False]

    def test_of_no_frames(self):
        statistics = RunStatistics(**{name: column[:0] for name, column in WENT.items()})
        assert (statistics.frames, statistics.key_frames) == (0, 0)
        assert np.isnan([statistics.updated, statistics.milliseconds]).all()
