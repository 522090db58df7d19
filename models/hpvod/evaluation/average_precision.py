"""Average precision by ImageNet VID's protocol."""

from __future__ import annotations

import numpy as np

from hpvod.data.clip import BoolArray, FloatArray, IntArray
from hpvod.evaluation.columns import Detections, Int32Array, Truth
from hpvod.evaluation.frame_pairs import frame_pairs
from hpvod.evaluation.miss_weights import MissWeights
from hpvod.evaluation.overlap import DoubleArray, rowwise_iou


def iou_thresholds(boxes: FloatArray) -> DoubleArray:
    """The IoU at which ground-truth boxes [G, 4] are found: float64 [G].

    min(0.5, w h / ((w + 10) (h + 10))): small boxes are forgiven 5 pixels on every side.
    """
    size = boxes[:, 2:].astype(np.float64) - boxes[:, :2] + 1
    forgiven: DoubleArray = size.prod(1) / (size + 10).prod(1)
    return forgiven.clip(max=0.5)


class ClassMatches:
    """The detections of one class, and what each of them found.

    In a frame the detections choose one after the other by falling score (at equal scores in the
    order given): each takes, of the boxes that are left and that it overlaps by their threshold,
    the one of greatest IoU (at equal IoUs the first).

    Attributes:
        rows: int64 [D], the indices of the class's detections, as given: in the order of the frames
            they are found fastest.
        found: int64 [D], the index in the `Truth` of the box that a detection took; -1 where none.
        truth: int64, the indices in the `Truth` of the class's boxes.
    """

    def __init__(self, detections: Detections, rows: IntArray, truth: Truth, label: int) -> None:
        """Matches the detections of the class.

        Args:
            detections: Of all classes.
            rows: int64 [D], which of them are of the class.
            truth: Of all classes.
            label: The class.
        """
        self.rows = rows
        self._by_score: IntArray = np.argsort(-detections.scores[rows], kind="stable")
        boxes = np.flatnonzero(truth.labels == label)
        self.truth: IntArray = boxes[np.argsort(truth.frames[boxes], kind="stable")]
        self.found: IntArray = np.full(len(rows), -1, np.int64)
        frames, found_boxes = detections.frames[rows], detections.boxes[rows]
        pairs = []
        for which, place in frame_pairs(frames, truth.frames[self.truth]):
            other = self.truth[place]
            iou = rowwise_iou(found_boxes[which], truth.boxes[other])
            near = iou >= iou_thresholds(truth.boxes[other])
            pairs.append((which[near], other[near], iou[near]))
        self._choose(frames, *(np.concatenate(column) for column in zip(*pairs, strict=True)))

    def _choose(
        self, frames: Int32Array, which: IntArray, other: IntArray, iou: DoubleArray
    ) -> None:
        """Lets the detections choose, in each round one of every frame."""
        rank = np.empty_like(self._by_score)
        rank[self._by_score] = np.arange(len(rank))
        order = np.lexsort((other, -iou, rank[which], frames[which]))
        which, other = which[order], other[order]
        taken = np.zeros(0 if not len(self.truth) else int(self.truth.max()) + 1, np.bool_)
        while len(which):
            frame = frames[which]
            chooses = np.flatnonzero(np.r_[True, frame[1:] != frame[:-1]])
            self.found[which[chooses]] = other[chooses]
            taken[other[chooses]] = True
            left = ~taken[other] & (self.found[which] < 0)
            which, other = which[left], other[left]

    def average_precision(self, counted: BoolArray, misses: DoubleArray) -> float:
        """Area under the monotone envelope of precision over recall, at all points.

        Args:
            counted: bool [G], of the whole `Truth`: boxes that are not are ignored, and so are the
                detections that found one.
            misses: float64, how much each of the detections that found nothing counts, in the order
                of `rows`.

        Returns:
            0 to 1; NaN where no box of the class is counted.
        """
        total = int(counted[self.truth].sum())
        if not total:
            return float("nan")
        true = self.found >= 0
        false = np.zeros(len(true))
        false[~true] = misses
        true[true] = counted[self.found[true]]
        true, false = true[self._by_score], false[self._by_score]
        hits = np.cumsum(true)[true]
        precision = hits / (hits + np.cumsum(false)[true])
        # Recall grows by 1 / total at each hit, and nowhere else.
        envelope = np.maximum.accumulate(precision[::-1])
        return float(envelope.sum() / total)


def average_precisions(
    detections: Detections, truth: Truth, groups: dict[str, BoolArray], classes: int
) -> dict[str, DoubleArray]:
    """The average precision of every class, for each group of boxes.

    What found nothing counts in a group as `MissWeights` says: fully where all boxes count.

    Args:
        detections: Of all frames.
        truth: Likewise.
        groups: bool [G] each, the boxes that count; the others are ignored.
        classes: Number of classes.

    Returns:
        float64 [classes] for each group; NaN where the group has no box of the class.
    """
    by_class = np.argsort(detections.labels, kind="stable")
    bounds = np.searchsorted(detections.labels, np.arange(classes + 1), sorter=by_class)
    weights = MissWeights(truth, groups)
    found: dict[str, DoubleArray] = {name: np.full(classes, np.nan) for name in groups}
    for label in range(classes):
        rows = by_class[bounds[label] : bounds[label + 1]]
        matches = ClassMatches(detections, rows, truth, label)
        missed = matches.rows[matches.found < 0]
        misses = weights.of(detections.frames[missed], detections.boxes[missed])
        for name, counted in groups.items():
            found[name][label] = matches.average_precision(counted, misses[name])
    return found
