from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from hpvod.draw import class_colour, draw
from hpvod.frame_result import FrameResult

from .clips import RGB

NAMES = ("dog", "car")
AMBER = (255, 193, 7)


def grey(width: int = 200, height: int = 150) -> RGB:
    return np.full((height, width, 3), 100, np.uint8)


def result(
    boxes: list[list[float]],
    labels: list[int] | None = None,
    scores: list[float] | None = None,
    key: bool = False,
    mask: torch.Tensor | None = None,
) -> FrameResult:
    return FrameResult(
        index=3,
        time=0.5,
        is_key=key,
        updated=0.25,
        boxes=torch.tensor(boxes).reshape(-1, 4),
        labels=torch.tensor(labels or [0] * len(boxes), dtype=torch.int64),
        scores=torch.tensor(scores or [0.9] * len(boxes)),
        mask=mask,
    )


def changed(before: RGB, after: RGB) -> np.ndarray:
    return (before != after).any(axis=2)


def test_nothing_to_draw() -> None:
    frame = grey()
    drawn = draw(frame, result([]), NAMES)
    assert drawn.dtype == np.uint8
    assert np.array_equal(drawn, frame)


def test_a_box_and_its_label() -> None:
    frame = grey()
    drawn = draw(frame, result([[40, 60, 120, 130]], labels=[1]), NAMES)
    assert np.array_equal(frame, grey())
    for y, x in ((60, 100), (130, 100), (100, 40), (100, 120)):
        assert tuple(drawn[y, x]) == class_colour(1)
    area = changed(frame, drawn)
    assert not area[70:120, 50:110].any()
    rows, columns = np.nonzero(area)
    assert (rows.max(), columns.max()) == (131, 121)
    # The label's plate stands on the box and carries black or white letters.
    plate = drawn[45:58, 42:60].reshape(-1, 3)
    assert (plate == class_colour(1)).all(axis=1).mean() > 0.4
    assert np.abs(plate.astype(int) - class_colour(1)).max() > 100


@pytest.mark.parametrize(
    "box",
    [[-30, -20, 20, 10], [190, 140, 260, 190], [0, 0, 199, 149], [50, 50, 50, 50], [60, 2, 90, 3]],
)
def test_boxes_at_the_border_and_without_area(box: list[float]) -> None:
    drawn = draw(grey(), result([box]), NAMES)
    area = changed(grey(), drawn)
    assert area.any()
    # The label is inside the frame, so its whole width can be read.
    width = np.nonzero((drawn == class_colour(0)).all(axis=2).any(axis=0))[0]
    assert np.ptp(width) > 40


def test_the_surest_box_lies_on_top() -> None:
    boxes = [[40.0, 60.0, 120.0, 130.0], [40.0, 60.0, 120.0, 130.0]]
    drawn = draw(grey(), result(boxes, labels=[0, 1], scores=[0.8, 0.3]), NAMES)
    assert tuple(drawn[130, 100]) == class_colour(0)


def test_a_key_frame_is_marked() -> None:
    drawn = draw(grey(), result([], key=True), NAMES)
    for edge in (drawn[0, :100], drawn[-1], drawn[:, 0], drawn[-30:, -1]):
        assert (edge == AMBER).all()
    assert not changed(grey(), drawn)[30:-5, 5:-5].any()
    # "KEY" is written in the top right corner.
    corner = drawn[:15, -20:].reshape(-1, 3)
    assert (corner == AMBER).all(axis=1).any()
    assert (corner.sum(axis=1) < 100).any()


def test_the_mask_is_tinted_where_it_is_on() -> None:
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[1, 2] = True
    mask[2, 3] = True
    # Cells of 60 by 55 pixels: the last column and row reach beyond the frame.
    drawn = draw(grey(), result([], mask=mask), NAMES, mask_cell=(60.0, 55.0))
    expected = np.zeros((150, 200), bool)
    expected[55:110, 120:180] = True
    expected[110:, 180:] = True
    area = changed(grey(), drawn)
    assert np.array_equal(area[20:], expected[20:])
    assert tuple(drawn[60, 130]) == (60, 136, 162)  # 0.6 * 100 + 0.4 * (0, 190, 255)


def test_the_mask_is_left_out_unless_asked_for() -> None:
    mask = torch.ones(3, 4, dtype=torch.bool)
    assert np.array_equal(draw(grey(), result([], mask=mask), NAMES), grey())


def test_a_propagated_frame_has_no_tint() -> None:
    drawn = draw(grey(), result([]), NAMES, mask_cell=(60.0, 55.0))
    assert not changed(grey(), drawn)[20:].any()


@pytest.mark.parametrize("size", [(32, 32), (1, 1), (1920, 1080)])
def test_any_size_of_frame(size: tuple[int, int]) -> None:
    frame = grey(*size)
    drawn = draw(frame, result([[0, 0, 20, 20]], key=True), NAMES)
    assert drawn.shape == frame.shape


def test_class_colours_differ() -> None:
    colours = [class_colour(label) for label in range(30)]
    distance = min(
        sum(abs(a - b) for a, b in zip(first, second, strict=True))
        for first, second in combinations(colours, 2)
    )
    assert distance > 20


def test_what_there_is_lies_below_what_was_found() -> None:
    truth = [[40.0, 60.0, 120.0, 130.0]]
    drawn = draw(grey(400, 400), result([[60, 60, 120, 130]]), NAMES, truth=truth)
    assert (drawn[61:130, 40] == (255, 255, 255)).all()
    assert tuple(drawn[100, 41]) == (0, 0, 0)  # the dark edge of a line of one pixel
    assert tuple(drawn[100, 42]) == (100, 100, 100)
    assert tuple(drawn[100, 120]) == class_colour(0)
