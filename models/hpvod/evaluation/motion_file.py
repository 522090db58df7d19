"""FGFA's file of motion IoUs, imagenet_vid_groundtruth_motion_iou.mat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hpvod.data.clip import BoolArray, FloatArray
from hpvod.evaluation.columns import Truth
from hpvod.evaluation.error import EvaluationError


def read_motion(path: Path, truth: Truth, usable: BoolArray) -> FloatArray:
    """The motion IoUs in a MATLAB file, for the boxes of a data set.

    It holds the cell array "motion_iou": for each frame a column with one value a box, in the
    order of the frames' list and of the annotations; a box without a value counts as 0.

    Args:
        path: Of the file.
        truth: All boxes, as `read_truth` has them: frame by frame.
        usable: bool [frames], as of `read_truth`.

    Returns:
        float32 [G].

    Raises:
        EvaluationError: SciPy is not installed, the file cannot be read, or it is of other frames
            or boxes.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        needed = "needs SciPy to be read; pip install scipy"
        raise EvaluationError(f"{path}: {needed}") from error
    try:
        frames = [_values(cell) for cell in loadmat(path)["motion_iou"][:, 0]]
    except Exception as error:  # whatever reading another file comes to
        raise EvaluationError(f"{path}: cannot be read as motion IoUs ({error})") from error
    if len(frames) != len(usable):
        raise EvaluationError(
            f"{path}: is of {len(frames)} frames, but the data set has {len(usable)}"
        )
    counts = np.bincount(truth.frames, minlength=len(usable))
    for number, values in enumerate(frames):
        if usable[number] and len(values) != counts[number]:
            raise EvaluationError(
                f"{path}: is of {len(values)} boxes in frame {number}, but the data set has "
                f"{counts[number]}"
            )
    wanted = [values for values, use in zip(frames, usable, strict=True) if use]
    return np.concatenate([np.zeros(0, np.float32), *wanted])


def _values(cell: np.ndarray[Any, Any]) -> FloatArray:
    """One value a row of a frame's cell; the values may be cells again."""
    rows = (np.concatenate([np.ravel(item) for item in row]) if len(row) else row for row in cell)
    return np.array([row[0] if len(row) else 0 for row in rows], np.float32)
