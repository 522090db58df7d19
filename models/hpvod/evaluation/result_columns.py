"""Results of single frames put together as columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hpvod.evaluation.columns import Detections
from hpvod.evaluation.statistics import RunStatistics

if TYPE_CHECKING:
    from hpvod.frame_result import FrameResult

_FRAME = [("number", "i4"), ("is_key", "?"), ("updated", "f4"), ("milliseconds", "f4")]


class ResultColumns:
    """Takes results in any order.

    Labels are turned into the data set's by the classes' names; a detection of a class that the
    data set does not know is left out.

    Args:
        known: Names of the model's classes.
        wanted: Names of the data set's.
    """

    def __init__(self, known: Sequence[str], wanted: Sequence[str]) -> None:
        label_of = {name: label for label, name in enumerate(wanted)}
        self._labels = np.array([label_of.get(name, -1) for name in known], np.int16)
        nothing = (
            np.zeros(0, np.int32),
            np.zeros(0, np.int16),
            np.zeros(0, np.float32),
            np.zeros((0, 4), np.float32),
        )
        self._found: list[tuple[np.ndarray[Any, Any], ...]] = [nothing]
        self._frames: list[tuple[int, bool, float, float]] = []

    def add(self, number: int, result: FrameResult, milliseconds: float) -> None:
        """Appends a frame's result.

        Args:
            number: Of the frame, counted through all clips of the data set.
            result: Its boxes in pixels of the image.
            milliseconds: That it took from the decoded image on.
        """
        labels = self._labels[result.labels.numpy()]
        known = labels >= 0
        numbers = np.full(int(known.sum()), number, np.int32)
        scores, boxes = result.scores.float().numpy(), result.boxes.float().numpy()
        self._found.append((numbers, labels[known], scores[known], boxes[known]))
        self._frames.append((number, result.is_key, result.updated, milliseconds))

    def detections(self) -> Detections:
        """What was found in all of the frames."""
        return Detections(*map(np.concatenate, zip(*self._found, strict=True)))

    def statistics(self) -> RunStatistics:
        """How the frames were processed."""
        frames = np.array(self._frames, _FRAME)
        return RunStatistics(*(np.ascontiguousarray(frames[name]) for name, _ in _FRAME))
