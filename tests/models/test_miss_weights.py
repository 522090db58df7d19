"""FGFA's rule for misses in a group of boxes, by hand."""

import numpy as np
import pytest

from hpvod.evaluation.columns import Truth
from hpvod.evaluation.miss_weights import MissWeights

COUNTED, IGNORED, SECOND = [0, 0, 49, 49], [100, 0, 149, 49], [200, 0, 249, 49]
# Frame 0 has one box that counts and two that do not; frame 2 only one that does, frame 3 only one
# that does not; frame 1 has none.
TRUTH = Truth(
    frames=np.array([3, 0, 0, 2, 0], np.int32),
    labels=np.array([0, 1, 0, 1, 1], np.int16),
    boxes=np.array([IGNORED, COUNTED, IGNORED, COUNTED, SECOND], np.float32),
    motion=np.zeros(5, np.float32),
)
GROUP = np.array([False, True, False, True, False])


@pytest.mark.parametrize(
    ("frame", "box", "weight"),
    [
        (0, [5, 0, 54, 49], 1),
        (0, [95, 0, 144, 49], 0),
        (0, [40, 0, 109, 49], 2 / 3),  # overlaps one of each by 10 columns
        (0, [40, 0, 110, 49], 0),
        (0, [39, 0, 109, 49], 1),
        (0, [300, 300, 309, 309], 2 / 3),
        (1, [0, 0, 9, 9], 2 / 5),
        (2, [300, 300, 309, 309], 1),
        (3, [300, 300, 309, 309], 0),
        (4, [0, 0, 9, 9], 2 / 5),
    ],
)
def test_a_miss(frame, box, weight):
    weights = MissWeights(TRUTH, {"it": GROUP, "all": np.ones(5, bool)})
    found = weights.of(np.array([frame], np.int32), np.array([box], np.float32))
    assert found["it"] == pytest.approx([weight])
    assert found["all"].tolist() == [1]


def test_misses_in_any_order():
    frames = np.array([3, 0, 1, 0, 2], np.int32)
    boxes = np.array([IGNORED, IGNORED, IGNORED, COUNTED, SECOND], np.float32)
    found = MissWeights(TRUTH, {"it": GROUP}).of(frames, boxes)["it"]
    assert found == pytest.approx([0, 0, 2 / 5, 1, 1])


def test_no_misses_and_no_boxes():
    nothing = np.zeros(0, np.int32), np.zeros((0, 4), np.float32)
    assert MissWeights(TRUTH, {"it": GROUP}).of(*nothing)["it"].shape == (0,)
    truth = Truth(nothing[0], np.zeros(0, np.int16), nothing[1], np.zeros(0, np.float32))
    weights = MissWeights(truth, {"it": np.zeros(0, bool)})
    assert weights.of(np.array([0], np.int32), np.array([COUNTED], np.float32))["it"] == [0]
