"""IoU of boxes row by row."""

from __future__ import annotations

import numpy as np

from hpvod.data.clip import FloatArray

DoubleArray = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def rowwise_iou(boxes: FloatArray, others: FloatArray) -> DoubleArray:
    """Intersection over union of each of the boxes [N, 4] with the other of its row: float64 [N].

    Corners are inclusive: a box is x2 - x1 + 1 wide.
    """
    a, b = boxes.astype(np.float64), others.astype(np.float64)
    shared = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]) + 1
    intersection = shared.clip(min=0).prod(1)
    areas = (a[:, 2:] - a[:, :2] + 1).prod(1) + (b[:, 2:] - b[:, :2] + 1).prod(1)
    iou: DoubleArray = intersection / (areas - intersection)
    return iou
