"""Saved detections, so that an evaluation can be repeated without the model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from hpvod.data.clip import Dataset
from hpvod.evaluation.columns import Detections
from hpvod.evaluation.error import EvaluationError
from hpvod.evaluation.statistics import RunStatistics
from hpvod.whole_file import whole_file

_FORMAT = "hpvod detections 2"
_DETECTIONS = {"frames": "int32", "labels": "int16", "scores": "float32", "boxes": "float32"}
_STATISTICS = {"numbers": "int32", "is_key": "bool", "updates": "float32", "durations": "float32"}


@dataclass(frozen=True)
class Origin:
    """What detections are of: parts with an equal origin belong together.

    Attributes:
        classes: Names that the labels are indices into.
        clips: Number of clips of the data set.
        frames: Number of frames of all of them.
        method: What results call the method.
    """

    classes: tuple[str, ...]
    clips: int
    frames: int
    method: str

    @classmethod
    def of(cls, dataset: Dataset, method: str) -> Origin:
        """Of detections in a data set by what is called `method`."""
        frames = sum(len(clip.frames) for clip in dataset.clips)
        return cls(tuple(dataset.classes), len(dataset.clips), frames, method)


@dataclass(frozen=True)
class Run:
    """What was detected, how, and in what.

    Attributes:
        detections: Of the frames that `statistics` names.
        statistics: Of these frames.
        origin: The whole of which they are a part.
    """

    detections: Detections
    statistics: RunStatistics
    origin: Origin


def save_run(path: Path, run: Run) -> None:
    """Writes a .safetensors file; an older one is replaced once the new one is whole.

    Raises:
        EvaluationError: The file cannot be written.
    """
    columns = {name: getattr(run.detections, name) for name in _DETECTIONS}
    columns |= {name: getattr(run.statistics, name) for name in _STATISTICS}
    columns = {name: np.ascontiguousarray(column) for name, column in columns.items()}
    metadata = {"format": _FORMAT, "origin": json.dumps(dataclasses.asdict(run.origin))}
    try:
        with whole_file(path) as unfinished:
            # safetensors' own writer would make a file that no other user may read.
            unfinished.write_bytes(save(columns, metadata))
    except (OSError, SafetensorError) as error:
        raise EvaluationError(f"{path}: cannot be written ({error})") from error


def load_run(path: Path) -> Run:
    """What is in a file of `save_run`.

    Raises:
        EvaluationError: It cannot be read, or does not hold what such a file holds.
    """
    dtypes = _DETECTIONS | _STATISTICS
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT or set(file.keys()) != set(dtypes):
                raise EvaluationError(f"{path}: is not a file of detections")
            columns = {name: file.get_tensor(name) for name in dtypes}
    except (OSError, SafetensorError) as error:
        raise EvaluationError(f"{path}: cannot be read as detections ({error})") from error
    try:
        origin = _origin(metadata.get("origin", ""))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise EvaluationError(f"{path}: does not say what its detections are of") from error
    detections = {name: columns[name] for name in _DETECTIONS}
    statistics = {name: columns[name] for name in _STATISTICS}
    try:
        for part, of in ((detections, _DETECTIONS), (statistics, _STATISTICS)):
            _check_shapes(part, of)
        _check_range("frames", detections["frames"], origin.frames)
        _check_range("labels", detections["labels"], len(origin.classes))
        _check_range("numbers", statistics["numbers"], origin.frames)
        for name in ("scores", "boxes"):
            if not np.isfinite(detections[name]).all():
                raise ValueError(f"{name} must be finite")
        boxes = detections["boxes"]
        if not ((boxes[:, 2:] - boxes[:, :2]) > -1).all():
            raise ValueError("has a box without an area")
    except ValueError as error:
        raise EvaluationError(f"{path}: {error}") from error
    return Run(Detections(**detections), RunStatistics(**statistics), origin)


def load_run_of(dataset: Dataset, path: Path) -> Run:
    """`load_run` of a run on a data set.

    Raises:
        EvaluationError: As of `load_run`; or it was on another data set.
    """
    run = load_run(path)
    expected = Origin.of(dataset, run.origin.method)
    for name in ("classes", "clips", "frames"):
        if getattr(run.origin, name) != getattr(expected, name):
            raise EvaluationError(f"{path}: is of a data set with other {name}")
    return run


def merge_runs(paths: Sequence[Path]) -> Run:
    """The whole of which the files hold the parts.

    Raises:
        EvaluationError: As of `load_run`; or a part is of something else than the first, or has a
            frame that another one has.
    """
    runs = [load_run(path) for path in paths]
    origin = runs[0].origin
    covered = np.zeros(origin.frames, np.bool_)
    for path, run in zip(paths, runs, strict=True):
        if run.origin != origin:
            raise EvaluationError(f"{path}: is of another run than {paths[0]}")
        if covered[run.statistics.numbers].any():
            raise EvaluationError(f"{path}: has frames of another part")
        covered[run.statistics.numbers] = True

    def joined(name: str, parts: Sequence[object]) -> np.ndarray[Any, Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    detections = [run.detections for run in runs]
    statistics = [run.statistics for run in runs]
    return Run(
        Detections(**{name: joined(name, detections) for name in _DETECTIONS}),
        RunStatistics(**{name: joined(name, statistics) for name in _STATISTICS}),
        origin,
    )


def _origin(text: str) -> Origin:
    values = json.loads(text)
    origin = Origin(**{**values, "classes": tuple(values["classes"])})
    names_right = all(type(name) is str for name in (*origin.classes, origin.method))
    if not names_right or type(origin.clips) is not int or type(origin.frames) is not int:
        raise TypeError("a value of another type")
    return origin


def _check_shapes(columns: dict[str, np.ndarray[Any, Any]], dtypes: dict[str, str]) -> None:
    first = next(iter(columns.values()))
    count = len(first) if first.ndim else -1
    for name, dtype in dtypes.items():
        shape = (count, 4) if name == "boxes" else (count,)
        if columns[name].dtype != dtype or columns[name].shape != shape:
            raise ValueError(f"{name} must be {dtype} of shape {shape}")


def _check_range(name: str, column: np.ndarray[Any, Any], limit: int) -> None:
    if len(column) and not (column.min() >= 0 and column.max() < limit):
        raise ValueError(f"{name} must be from 0 to {limit - 1}")
