"""How a run went, frame by frame: what was recomputed, and how long it took."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpvod.data.clip import BoolArray, FloatArray
from hpvod.evaluation.columns import Int32Array


@dataclass(frozen=True, slots=True, eq=False)
class RunStatistics:
    """Of the N frames that were detected in, in any order.

    Attributes:
        numbers: int32 [N], of the frames, counted through all clips of the data set.
        is_key: bool [N], whether the frame was a key frame.
        updates: float32 [N], mean of U: 1 on a key frame, 0 where all was propagated.
        durations: float32 [N], milliseconds from the decoded image to its boxes, frame by frame.
    """

    numbers: Int32Array
    is_key: BoolArray
    updates: FloatArray
    durations: FloatArray

    @property
    def frames(self) -> int:
        """Number of frames detected in."""
        return len(self.numbers)

    @property
    def key_frames(self) -> int:
        """Number of key frames among them."""
        return int(self.is_key.sum())

    @property
    def updated(self) -> float:
        """Mean of U over all frames; NaN without any."""
        return float(self.updates.mean(dtype=np.float64)) if self.frames else float("nan")

    @property
    def milliseconds(self) -> float:
        """Time a frame: medians of key frames and of the others, weighted by their shares.

        A mean would follow the first frame, which packs the weights, and whatever else the machine
        was doing; one median would leave out key frames altogether. NaN without a frame.
        """
        if not self.frames:
            return float("nan")
        total = 0.0
        for kind in (self.durations[self.is_key], self.durations[~self.is_key]):
            if len(kind):
                total += float(np.median(kind)) * len(kind)
        return total / self.frames

    def covered(self, frames: int) -> BoolArray:
        """Which of the data set's frames were detected in: bool [frames]."""
        covered = np.zeros(frames, np.bool_)
        covered[self.numbers] = True
        return covered
