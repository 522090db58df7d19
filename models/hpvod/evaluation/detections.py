"""Saved detections, so that an evaluation can be repeated without the model."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hpvod.evaluation.columns import Detections
from hpvod.evaluation.error import EvaluationError

_FORMAT = "hpvod detections 1"
_COLUMNS = {"frames": "int32", "labels": "int16", "scores": "float32", "boxes": "float32"}


@dataclass(frozen=True)
class Origin:
    """What detections are of: parts with an equal origin belong together.

    Attributes:
        classes: Names that the labels are indices into.
        clips: Number of clips of the data set.
        frames: Number of frames of all of them.
        method: Name of the method of Table 1.
    """

    classes: tuple[str, ...]
    clips: int
    frames: int
    method: str


def save_detections(path: Path, detections: Detections, origin: Origin) -> None:
    """Writes a .safetensors file; an older one is replaced once the new one is whole.

    Raises:
        EvaluationError: The file cannot be written.
    """
    columns = {name: np.ascontiguousarray(getattr(detections, name)) for name in _COLUMNS}
    metadata = {"format": _FORMAT, "origin": json.dumps(dataclasses.asdict(origin))}
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    try:
        save_file(columns, unfinished, metadata)
        unfinished.replace(path)
    except (OSError, SafetensorError) as error:
        unfinished.unlink(missing_ok=True)
        raise EvaluationError(f"{path}: cannot be written ({error})") from error


def load_detections(path: Path) -> tuple[Detections, Origin]:
    """The detections in a file of `save_detections`.

    Raises:
        EvaluationError: It cannot be read, or does not hold what such a file holds.
    """
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT or set(file.keys()) != set(_COLUMNS):
                raise EvaluationError(f"{path}: is not a file of detections")
            columns = {name: file.get_tensor(name) for name in _COLUMNS}
    except (OSError, SafetensorError) as error:
        raise EvaluationError(f"{path}: cannot be read as detections ({error})") from error
    try:
        origin = _origin(metadata.get("origin", ""))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise EvaluationError(f"{path}: does not say what its detections are of") from error
    count = len(columns["frames"]) if columns["frames"].ndim else -1
    for name, dtype in _COLUMNS.items():
        shape = (count, 4) if name == "boxes" else (count,)
        if columns[name].dtype != dtype or columns[name].shape != shape:
            raise EvaluationError(f"{path}: {name} must be {dtype} of shape {shape}")
    for name, limit in (("frames", origin.frames), ("labels", len(origin.classes))):
        column = columns[name]
        if count and not (column.min() >= 0 and column.max() < limit):
            raise EvaluationError(f"{path}: {name} must be from 0 to {limit - 1}")
    for name in ("scores", "boxes"):
        if not np.isfinite(columns[name]).all():
            raise EvaluationError(f"{path}: {name} must be finite")
    boxes = columns["boxes"]
    if not ((boxes[:, 2:] - boxes[:, :2]) > -1).all():
        raise EvaluationError(f"{path}: has a box without an area")
    return Detections(**columns), origin


def merge_detections(paths: Sequence[Path]) -> tuple[Detections, Origin]:
    """The detections in all of the files, which are parts of one run.

    Raises:
        EvaluationError: As of `load_detections`; or a part is of something else than the first.
    """
    parts = [load_detections(path) for path in paths]
    origin = parts[0][1]
    for path, (_, other) in zip(paths, parts, strict=True):
        if other != origin:
            raise EvaluationError(f"{path}: is of another run than {paths[0]}")
    columns = {
        name: np.concatenate([getattr(part, name) for part, _ in parts]) for name in _COLUMNS
    }
    return Detections(**columns), origin


def _origin(text: str) -> Origin:
    values = json.loads(text)
    origin = Origin(**{**values, "classes": tuple(values["classes"])})
    names_right = all(type(name) is str for name in (*origin.classes, origin.method))
    if not names_right or type(origin.clips) is not int or type(origin.frames) is not int:
        raise TypeError("a value of another type")
    return origin
