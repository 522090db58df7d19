"""Boxes of a whole data set as columns: millions of detections without an object for each."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from hpvod.data.clip import BoolArray, FloatArray

Int32Array = np.ndarray[tuple[int, ...], np.dtype[np.int32]]
Int16Array = np.ndarray[tuple[int, ...], np.dtype[np.int16]]


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """D detections, in any order.

    Attributes:
        frames: int32 [D], numbers of the frames, counted through all clips of the data set.
        labels: int16 [D], indices into the classes.
        scores: float32 [D].
        boxes: float32 [D, 4], corners (x1, y1, x2, y2) in pixels of the image, both inclusive.
    """

    frames: Int32Array
    labels: Int16Array
    scores: FloatArray
    boxes: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """G annotated boxes, in any order.

    Attributes:
        frames, labels, boxes: As of `Detections`.
        motion: float32 [G], the motion IoU of `motion_iou`; NaN where unknown.
    """

    frames: Int32Array
    labels: Int16Array
    boxes: FloatArray
    motion: FloatArray


_Columns = TypeVar("_Columns", Detections, Truth)


def select(columns: _Columns, rows: BoolArray) -> _Columns:
    """The rows for which `rows`, bool [D] or [G], is true."""
    names = [field.name for field in dataclasses.fields(columns)]
    return dataclasses.replace(columns, **{name: getattr(columns, name)[rows] for name in names})
