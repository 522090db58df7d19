"""Average precision: cases by hand, and a literal evaluator as second opinion."""

import numpy as np
import pytest

from hpvod.evaluation.average_precision import average_precisions, iou_thresholds
from hpvod.evaluation.columns import Detections, Truth


def truth_of(frames, labels, boxes):
    return Truth(
        np.array(frames, np.int32),
        np.array(labels, np.int16),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(len(frames), np.nan, np.float32),
    )


def detections_of(frames, labels, scores, boxes):
    return Detections(
        np.array(frames, np.int32),
        np.array(labels, np.int16),
        np.array(scores, np.float32),
        np.array(boxes, np.float32).reshape(-1, 4),
    )


def ap(detections, truth, counted=None, classes=1):
    if counted is None:
        counted = np.ones(len(truth.frames), bool)
    return average_precisions(detections, truth, {"it": np.array(counted)}, classes)["it"]


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    shared = max(width, 0) * max(height, 0)
    areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return shared / (sum(areas) - shared)


def weight(detections, truth, counted, row):
    """What a miss counts by FGFA's rule: as much as the box nearest to it, of any class."""
    beside = np.flatnonzero(truth.frames == detections.frames[row])
    if not len(beside):
        return counted.mean()
    near = {True: -1.0, False: -1.0}
    for box in beside:
        overlap = iou([*map(float, detections.boxes[row])], [*map(float, truth.boxes[box])])
        near[bool(counted[box])] = max(near[bool(counted[box])], overlap)
    if near[True] == near[False]:
        return 1 - counted[beside].mean()
    return float(near[True] > near[False])


def literal(detections, truth, counted, label):
    """One detection after the other over all frames; the envelope by its definition."""
    total = sum(counted[truth.labels == label])
    if not total:
        return None
    taken, curve, hits, misses = set(), [], 0, 0
    rows = [row for row in range(len(detections.frames)) if detections.labels[row] == label]
    for row in sorted(rows, key=lambda row: -detections.scores[row]):
        best, greatest = None, -1.0
        for box in range(len(truth.frames)):
            if truth.labels[box] != label or truth.frames[box] != detections.frames[row]:
                continue
            x1, y1, x2, y2 = map(float, truth.boxes[box])
            w, h = x2 - x1 + 1, y2 - y1 + 1
            overlap = iou([*map(float, detections.boxes[row])], (x1, y1, x2, y2))
            enough = overlap >= min(0.5, w * h / ((w + 10) * (h + 10)))
            if enough and box not in taken and overlap > greatest:
                best, greatest = box, overlap
        if best is None:
            misses += weight(detections, truth, counted, row)
        else:
            taken.add(best)
            hits += bool(counted[best])
        if hits:
            curve.append((hits, hits / (hits + misses)))
    return (
        sum(
            max((p for hits, p in curve if hits >= recall), default=0.0)
            for recall in range(1, total + 1)
        )
        / total
    )


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_the_literal_evaluator(seed):
    random = np.random.default_rng(seed)

    def boxes(count):
        corners = random.integers(0, 24, (count, 2))
        return np.concatenate((corners, corners + random.integers(0, 30, (count, 2))), 1)

    truth = truth_of(random.integers(0, 6, 40), random.integers(0, 3, 40), boxes(40))
    near = np.repeat(truth.boxes, 4, 0) + random.integers(-4, 5, (160, 4))
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2])
    frames = np.r_[np.repeat(truth.frames, 4), random.integers(0, 8, 80)]
    labels = np.r_[np.repeat(truth.labels, 4), random.integers(0, 4, 80)]
    scores = random.integers(0, 12, 240) / 12  # many are equal
    detections = detections_of(frames, labels, scores, np.concatenate((near, boxes(80))))
    counted = random.random(40) < 0.6
    found = ap(detections, truth, counted, classes=4)
    assert np.isnan(found[3])
    for label in range(3):
        assert found[label] == pytest.approx(literal(detections, truth, counted, label), abs=1e-12)


def test_thresholds_of_small_boxes():
    # 10 x 10: 100 / 400. 30 x 30: 900 / 1600 is above 0.5.
    found = iou_thresholds(np.array([[5, 5, 14, 14], [0, 0, 29, 29]], np.float32))
    assert found.tolist() == [0.25, 0.5]


@pytest.mark.parametrize(("width", "expected"), [(40, 1.0), (41, 0.0)])
def test_a_small_box_is_found_at_its_own_threshold(width, expected):
    truth = truth_of([0], [0], [[0, 0, 9, 9]])
    detections = detections_of([0], [0], [0.9], [[0, 0, width - 1, 9]])
    assert ap(detections, truth)[0] == expected


def test_a_duplicate_is_a_miss_and_an_ignored_box_neither():
    box, other = [0, 0, 49, 49], [100, 100, 149, 149]
    truth = truth_of([0, 0], [0, 0], [box, other])
    detections = detections_of([0] * 3, [0] * 3, [0.9, 0.8, 0.7], [box, box, other])
    assert ap(detections, truth)[0] == pytest.approx((1 + 2 / 3) / 2)
    # The duplicate is nearest to the ignored box, so it is no miss there.
    assert ap(detections, truth, [False, True])[0] == 1
    assert ap(detections, truth, [True, False])[0] == 1


def test_nothing_found_and_nothing_to_find():
    nothing = detections_of([], [], [], [])
    assert ap(nothing, truth_of([0], [0], [[0, 0, 9, 9]])).tolist() == [0]
    assert np.isnan(ap(nothing, truth_of([], [], []))).all()
