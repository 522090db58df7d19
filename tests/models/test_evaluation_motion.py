"""Motion IoUs and groups, by hand."""

import numpy as np
import pytest

from hpvod.evaluation.average_precision import average_precisions
from hpvod.evaluation.columns import Detections, Truth
from hpvod.evaluation.motion import motion_groups, motion_iou


def moving(pixels, count):
    """Boxes of 100 x 100 that move to the right by a number of pixels a frame."""
    x = pixels * np.arange(count)
    return np.stack((x, 0 * x, x + 99, 0 * x + 99), 1).astype(np.float32)


def motion_of(boxes, frames=None, tracks=None, clips=None):
    count = len(boxes)
    frames = np.arange(count) if frames is None else np.array(frames)
    tracks = np.zeros(count, np.int64) if tracks is None else np.array(tracks)
    clips = np.zeros(count, np.int64) if clips is None else np.array(clips)
    return motion_iou(clips, tracks, frames, boxes)


@pytest.mark.parametrize(
    ("pixels", "group"), [(1, "slow"), (4, "medium"), (8, "medium"), (12, "fast")]
)
def test_three_frames_of_each_group(pixels, group):
    found = motion_of(moving(pixels, 3))
    near, far = ((100 - k * pixels) / (100 + k * pixels) for k in (1, 2))
    assert found == pytest.approx([(near + far) / 2, near, (near + far) / 2], rel=1e-6)
    groups = motion_groups(found)
    member = [name for name in ("slow", "medium", "fast") if groups[name][0]]
    assert member == [group]


def test_only_ten_frames_before_and_after_count():
    found = motion_of(moving(1, 40))
    expected = np.mean([(100 - k) / (100 + k) for k in range(1, 11)])
    assert found[10:30] == pytest.approx(expected, rel=1e-6)
    assert found[0] == pytest.approx(expected, rel=1e-6)
    # In the second frame one more box is near.
    assert found[1] == pytest.approx((10 * expected + 99 / 101) / 11, rel=1e-6)


def test_gaps_other_objects_and_other_clips():
    box, other = [0, 0, 99, 99], [0, 0, 49, 99]
    boxes = np.array([box, other, box, box, other, box], np.float32)
    found = motion_of(
        boxes,
        frames=[0, 10, 21, 0, 1, 40],
        tracks=[7, 7, 7, 8, -1, 7],
        clips=[0, 0, 0, 0, 0, 1],
    )
    # Frame 21 is not within 10 of frame 10; an object that is nowhere near counts as fast.
    assert np.array_equal(found, np.float32([0.5, 0.5, 0, 0, np.nan, 0]), equal_nan=True)
    groups = motion_groups(found)
    assert groups["all"].all()
    assert groups["fast"].tolist() == [True, True, True, True, False, True]
    assert not groups["slow"].any() and not groups["medium"].any()


def test_the_bounds_belong_to_medium():
    groups = motion_groups(np.array([0.7, 0.9]).astype(np.float32))
    assert groups["medium"].tolist() == [True, True]


def test_average_precision_of_each_group():
    """A slow, a medium and a fast box side by side; and a miss beside each."""
    boxes = np.array([[0, 0, 99, 99], [200, 0, 299, 99], [400, 0, 499, 99]], np.float32)
    frames, labels = np.zeros(3, np.int32), np.zeros(3, np.int16)
    truth = Truth(frames, labels, boxes, np.array([0.95, 0.8, 0.5], np.float32))
    beside = boxes + np.float32([0, 60, 0, 60])  # IoU 0.25
    detections = Detections(
        frames=np.zeros(5, np.int32),
        labels=np.zeros(5, np.int16),
        scores=np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32),
        boxes=np.stack((beside[2], boxes[0], beside[1], boxes[1], boxes[2])),
    )
    found = average_precisions(detections, truth, motion_groups(truth.motion), 1)
    # In order: a miss of the fast one, slow, a miss of the medium one, medium, fast.
    assert {name: ap[0] for name, ap in found.items()} == pytest.approx(
        {"all": (3 / 5 + 3 / 5 + 3 / 5) / 3, "slow": 1, "medium": 1 / 2, "fast": 1 / 2}
    )
