from __future__ import annotations

import math

import pytest
import torch

from hpvod.boxes import base_anchors, clip_boxes, decode_boxes, grid_anchors, picked
from hpvod_ops import batched_nms

from . import literal_boxes

UNIT = (1.0, 1.0, 1.0, 1.0)


def test_anchors_are_faster_rcnns() -> None:
    table = [
        [-84, -40, 99, 55],
        [-176, -88, 191, 103],
        [-360, -184, 375, 199],
        [-56, -56, 71, 71],
        [-120, -120, 135, 135],
        [-248, -248, 263, 263],
        [-36, -80, 51, 95],
        [-80, -168, 95, 183],
        [-168, -344, 183, 359],
    ]
    assert base_anchors(16, (8, 16, 32), (0.5, 1, 2)).tolist() == table


def test_grid_goes_along_rows_and_the_anchors_of_a_cell_are_neighbours() -> None:
    base = torch.tensor([[0.0, 0.0, 15.0, 15.0], [-8.0, 0.0, 23.0, 15.0]])
    anchors = grid_anchors(base, 2, 3, 16).reshape(2, 3, 2, 4)
    for y in range(2):
        for x in range(3):
            shift = torch.tensor([16 * x, 16 * y, 16 * x, 16 * y])
            assert torch.equal(anchors[y, x], base + shift)


@pytest.mark.parametrize(
    ("box", "delta", "expected"),
    [
        ([10, 20, 29, 59], [0, 0, 0, 0], [10, 20, 29, 59]),
        # A box 20 wide and 40 high moves by half its width and a quarter of its height.
        ([10, 20, 29, 59], [0.5, -0.25, 0, 0], [20, 10, 39, 49]),
        # Doubled around its centre (19.5, 39.5): 40 wide, so from 0 to 39.
        ([10, 20, 29, 59], [0, 0, math.log(2), 0], [0, 20, 39, 59]),
        ([5, 5, 5, 5], [1, 0, 0, math.log(3)], [6, 4, 6, 6]),
    ],
)
def test_decode(box: list[float], delta: list[float], expected: list[float]) -> None:
    boxes, deltas, moved = torch.tensor([[box], [delta], [expected]], dtype=torch.float64)
    torch.testing.assert_close(decode_boxes(boxes, deltas, UNIT), moved, rtol=0, atol=1e-12)


def test_decode_takes_the_targets_standard_deviation() -> None:
    box = torch.tensor([[0.0, 0.0, 9.0, 9.0]], dtype=torch.float64)
    found = decode_boxes(box, torch.ones(1, 4, dtype=torch.float64), (0.1, 0.2, 0.3, 0.4))
    expected = literal_boxes.decode([0, 0, 9, 9], UNIT, (0.1, 0.2, 0.3, 0.4))
    assert found[0].tolist() == pytest.approx(expected, abs=1e-12)


def test_clip_keeps_corners_on_pixels_of_the_image() -> None:
    boxes = torch.tensor([[[-5.0, -6.0, 200.0, 100.0], [3.0, 99.0, 4.0, 120.0]]])
    expected = torch.tensor([[[0.0, 0.0, 149.0, 99.0], [3.0, 99.0, 4.0, 99.0]]])
    assert torch.equal(clip_boxes(boxes, (100, 150)), expected)


@pytest.mark.parametrize("most", [1, 7, 50, 2000])
@pytest.mark.parametrize("count", [1, 50, 1500])
def test_batched_nms_equals_a_loop_over_labels(count: int, most: int) -> None:
    generator = torch.Generator().manual_seed(count)
    corner = 100 * torch.rand(count, 2, generator=generator)
    boxes = torch.cat((corner, corner + 60 * torch.rand(count, 2, generator=generator)), 1)
    # Some scores are equal: among those, the order given holds.
    scores = torch.randint(0, 3 * count, (count,), generator=generator) / (3 * count)
    labels = torch.randint(0, 4, (count,), generator=generator)
    expected = []
    for label in range(4):
        of_label = (labels == label).nonzero()[:, 0].tolist()
        kept = literal_boxes.nms(boxes[of_label].tolist(), scores[of_label].tolist(), 0.3)
        expected += [of_label[i] for i in kept]
    expected.sort(key=lambda i: (-scores[i], i))
    indices, counts = batched_nms(boxes[None], scores[None], labels[None], 0.3, most)
    assert indices[0, : int(counts)].tolist() == expected[:most]


def test_what_was_picked_is_followed_by_zeros() -> None:
    values = torch.arange(1, 9).reshape(2, 4)
    indices, counts = torch.tensor([[2, 0, 0], [3, 1, 2]]), torch.tensor([1, 3])
    assert picked(values, indices, counts).tolist() == [[3, 0, 0], [8, 6, 7]]
    pairs = torch.stack((values, -values), 2)
    expected = [[[3, -3], [0, 0], [0, 0]], [[8, -8], [6, -6], [7, -7]]]
    assert picked(pairs, indices, counts).tolist() == expected


def test_nothing_of_what_was_not_picked_is_seen() -> None:
    values = torch.full((1, 2), math.nan)
    nothing = torch.zeros(1, 3, dtype=torch.int64)
    assert picked(values, nothing, torch.tensor([0])).tolist() == [[0, 0, 0]]
