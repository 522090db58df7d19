"""Motion IoU and the groups made of it."""

import numpy as np
import pytest

from hpvod.evaluation.motion import motion_groups, motion_iou


def moving(step, count=3):
    """A box of 100 x 10 that moves by `step` pixels a frame."""
    x = np.arange(count) * step
    zeros = np.zeros(count)
    boxes = np.stack((x, zeros, x + 99, zeros + 9), 1).astype(np.float32)
    return motion_iou(zeros.astype(int), zeros.astype(int), np.arange(count), boxes)


@pytest.mark.parametrize(("step", "group"), [(2, "slow"), (8, "medium"), (40, "fast")])
def test_groups(step, group):
    found = moving(step)
    one, two = (100 - step) / (100 + step), max(100 - 2 * step, 0) / (100 + 2 * step)
    assert found == pytest.approx([(one + two) / 2, one, (one + two) / 2])
    groups = motion_groups(found)
    assert groups.pop("all").all()
    assert {name for name, boxes in groups.items() if boxes.any()} == {group}


def test_reach_is_ten_frames_and_one_object():
    same = np.zeros((4, 4), np.float32)
    number = np.zeros(4, int)
    assert motion_iou(number, number, np.array([0, 10, 21, 40]), same)[:2].tolist() == [1, 1]
    assert not motion_iou(number, number, np.array([0, 11, 22, 33]), same).any()
    assert not motion_iou(number, np.arange(4), np.arange(4), same).any()
    assert not motion_iou(np.arange(4), number, np.arange(4), same).any()
    assert np.isnan(motion_iou(number, number - 1, np.arange(4), same)).all()
    assert not any(groups.any() for name, groups in unknown() if name != "all")


def unknown():
    return motion_groups(np.full(2, np.nan, np.float32)).items()
