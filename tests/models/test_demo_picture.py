from __future__ import annotations

import numpy as np
import torch

from hpvod.data.clip import Annotation
from hpvod.demo_picture import HEADING, side_by_side
from hpvod.draw import class_colour
from hpvod.frame_result import FrameResult

NAMES = ("dog", "car")
GREY = np.full((60, 80, 3), 100, np.uint8)
WHITE = (255, 255, 255)


def annotation(*boxes: list[float]) -> Annotation:
    return Annotation(
        size=(60, 80),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.zeros(len(boxes), np.int64),
        tracks=np.zeros(len(boxes), np.int64),
        occluded=np.zeros(len(boxes), np.bool_),
    )


def result(boxes: list[list[float]], scores: list[float], mask: torch.Tensor | None) -> FrameResult:
    return FrameResult(
        index=0,
        time=None,
        is_key=False,
        updated=0.25,
        boxes=torch.tensor(boxes).reshape(-1, 4),
        labels=torch.ones(len(boxes), dtype=torch.int64),
        scores=torch.tensor(scores),
        mask=mask,
    )


def test_two_methods_beside_each_other() -> None:
    nothing = result([], [], None)
    found = result([[10, 20, 30, 40], [50, 20, 70, 40]], [0.9, 0.4], None)
    picture = side_by_side(
        GREY, [("left", nothing), ("right", found)], annotation([40, 30, 60, 50]), NAMES, (16, 16)
    )
    assert picture.dtype == np.uint8
    assert picture.shape == (120 + HEADING, 320, 3)
    halves = picture[HEADING:, :160], picture[HEADING:, 160:]
    for half in halves:  # the truth, in thin lines
        for y, x in ((60, 100), (100, 100), (80, 80), (80, 120)):
            assert tuple(half[y, x]) == WHITE
        assert tuple(half[80, 78]) == tuple(half[80, 84]) == (100, 100, 100)
    # Surer than 0.5, and only there where it was found.
    for y, x in ((60, 20), (80, 40)):
        assert tuple(halves[1][y, x]) == class_colour(1)
        assert tuple(halves[0][y, x]) == (100, 100, 100)
    assert tuple(halves[1][60, 140]) == (100, 100, 100)
    for strip in (picture[:HEADING, :160], picture[:HEADING, 160:]):
        assert strip[0, 0].max() < 50
        assert strip.max() > 200


def test_what_was_recomputed_is_tinted() -> None:
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[2, 3] = True
    picture = side_by_side(GREY, [("", result([], [], mask))], annotation(), NAMES, (16.0, 15.0))
    changed = (picture[HEADING:] != 100).any(axis=2)
    expected = np.zeros((120, 160), np.bool_)
    expected[60:90, 96:128] = True
    assert np.array_equal(changed[40:], expected[40:])


def test_a_frame_without_objects() -> None:
    picture = side_by_side(GREY, [("", result([], [], None))], annotation(), NAMES, (16, 16))
    assert (picture[HEADING + 20 :] == 100).all()
