"""How much a detection that found nothing counts in a group of boxes: FGFA's rule."""

from __future__ import annotations

import numpy as np

from hpvod.data.clip import BoolArray, FloatArray
from hpvod.evaluation.columns import Int32Array, Truth
from hpvod.evaluation.frame_pairs import frame_pairs
from hpvod.evaluation.overlap import DoubleArray, rowwise_iou


class MissWeights:
    """Weights by the box, of any class and found or not, that a miss overlaps most.

    It counts if that box does, and not at all if it is ignored. A tie of both kinds, as where it
    overlaps none, counts by the share of the frame's boxes that are ignored (sic: so FGFA's figures
    were made), and in a frame without boxes by the share of all boxes that count.

    Args:
        truth: Of all frames.
        groups: bool [G] each, the boxes that count; the others are ignored.
    """

    def __init__(self, truth: Truth, groups: dict[str, BoolArray]) -> None:
        order = np.argsort(truth.frames, kind="stable")
        self._frames, self._boxes = truth.frames[order], truth.boxes[order]
        self._groups = {name: counted[order] for name, counted in groups.items()}
        self._some_ignored = {
            name: counted for name, counted in self._groups.items() if not counted.all()
        }

    def of(self, frames: Int32Array, boxes: FloatArray) -> dict[str, DoubleArray]:
        """The weights of misses.

        Args:
            frames: int32 [M].
            boxes: float32 [M, 4].

        Returns:
            float64 [M], 0 to 1, for each group.
        """
        total = max(len(self._frames), 1)
        weights: dict[str, DoubleArray] = {
            name: np.full(len(frames), counted.sum() / total)
            for name, counted in self._groups.items()
        }
        if not self._some_ignored:
            return weights
        for which, other in frame_pairs(frames, self._frames):
            if not len(which):
                continue
            iou = rowwise_iou(boxes[which], self._boxes[other])
            starts = np.flatnonzero(np.r_[True, which[1:] != which[:-1]])
            sizes = np.diff(np.r_[starts, len(which)])
            for name, group in self._some_ignored.items():
                counted = group[other]
                near = np.maximum.reduceat(np.where(counted, iou, -1), starts)
                ignored = np.maximum.reduceat(np.where(counted, -1, iou), starts)
                share = 1 - np.add.reduceat(counted, starts, dtype=np.int64) / sizes
                share[near > ignored] = 1
                share[near < ignored] = 0
                weights[name][which[starts]] = share
        return weights
