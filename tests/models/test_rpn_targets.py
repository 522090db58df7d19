from __future__ import annotations

import pytest
import torch

from hpvod.boxes import decode_boxes, encode_boxes, pairwise_iou
from hpvod.training.rfcn_targets import rfcn_targets
from hpvod.training.rpn_targets import rpn_targets

from . import literal_boxes

STD = (0.1, 0.1, 0.4, 0.4)
SIZE = (100, 120)
NO_BOXES = torch.empty(0, 4)
NO_LABELS = torch.empty(0, dtype=torch.int64)


def boxes_of(*rows):
    return torch.tensor(rows, dtype=torch.float32)


def drawn(anchors, boxes, seed=0):
    return rpn_targets(anchors, boxes, SIZE, STD, torch.Generator().manual_seed(seed))


def random_boxes(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 60
    return torch.cat((corner, corner + 40 * torch.rand(count, 2, generator=generator)), 1)


def test_encoding_is_undone_by_decoding():
    boxes, targets = random_boxes(50).double(), random_boxes(50, seed=1).double()
    deltas = encode_boxes(boxes, targets, STD)
    torch.testing.assert_close(decode_boxes(boxes, deltas, STD), targets, rtol=0, atol=1e-10)


def test_iou_counts_both_corners_as_pixels():
    boxes, others = random_boxes(20), random_boxes(30, seed=1)
    expected = [[literal_boxes.iou(a, b) for b in others.tolist()] for a in boxes.tolist()]
    torch.testing.assert_close(pairwise_iou(boxes, others), torch.tensor(expected))
    pixel = boxes_of([5, 5, 5, 5])
    assert pairwise_iou(pixel, pixel).item() == 1


def test_by_hand():
    # Against a box of 10 x 10 pixels, anchors of 10 x n within it or around it: IoU n / 10 or
    # 10 / n.
    box = boxes_of([20, 20, 29, 29])
    anchors = boxes_of(
        [20, 20, 29, 29],  # 1
        [20, 20, 29, 26],  # 0.7: foreground
        [20, 20, 29, 25],  # 0.6: neither
        [20, 20, 29, 22],  # 0.3: neither
        [20, 20, 29, 21],  # 0.2: background
        [60, 60, 69, 69],  # 0
        [-1, 20, 29, 29],  # crosses the border
        [110, 60, 120, 69],  # by one pixel
        [110, 60, 119, 99],  # ends at it
    )
    targets = drawn(anchors, box)
    assert targets.foreground.tolist() == [0, 1]
    assert targets.background.tolist() == [4, 5, 8]
    # The second is 7 high, its centre at 23 and not 24.5.
    second = [0, 1.5 / 7 / 0.1, 0, torch.tensor(10 / 7).log().item() / 0.4]
    expected = torch.tensor([[0, 0, 0, 0], second])
    torch.testing.assert_close(targets.deltas, expected)


def test_the_best_anchors_of_a_box_are_foreground():
    box = boxes_of([20, 20, 29, 29], [60, 60, 79, 79])
    anchors = boxes_of(
        [20, 20, 29, 23],  # 0.4, as
        [20, 26, 29, 29],  # this one
        [20, 20, 29, 21],  # 0.2
        [60, 60, 79, 62],  # 0.15, and none is better
        [60, 60, 79, 60],  # 0.05
    )
    targets = drawn(anchors, box)
    assert targets.foreground.tolist() == [0, 1, 3]
    assert targets.background.tolist() == [2, 4]


def test_a_box_that_no_anchor_overlaps_has_none():
    targets = drawn(boxes_of([0, 0, 9, 9], [10, 0, 19, 9]), boxes_of([60, 60, 79, 79]))
    assert not len(targets.foreground) and not len(targets.deltas)
    assert targets.background.tolist() == [0, 1]


@pytest.mark.parametrize("objects", [0, 5, 127, 128, 129, 300])
def test_half_of_256_at_most_is_foreground(objects):
    box = boxes_of([20, 20, 29, 29])
    anchors = torch.cat((box.expand(objects, 4), boxes_of([60, 60, 69, 69]).expand(300, 4)))
    targets = drawn(anchors, box)
    assert len(targets.foreground) == len(targets.deltas) == min(objects, 128)
    assert len(targets.foreground) + len(targets.background) == 256
    assert (targets.foreground < objects).all() and (targets.background >= objects).all()
    assert len(targets.background.unique()) == len(targets.background)


def test_draws_are_the_generators():
    anchors = boxes_of([60, 60, 69, 69]).expand(2000, 4)
    draws = [drawn(anchors, NO_BOXES, seed).background for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_no_box_and_no_anchor_inside():
    inside, outside = boxes_of([0, 0, 9, 9]), boxes_of([-1, 0, 9, 9])
    assert drawn(inside, NO_BOXES).background.tolist() == [0]
    for boxes in (NO_BOXES, inside):
        assert not any(len(part) for part in drawn(outside, boxes))


def test_a_box_smaller_than_a_pixel_has_finite_targets():
    box = boxes_of([20.2, 20.2, 20.3, 20.3])
    targets = drawn(boxes_of([0, 0, 63, 63], [16, 16, 31, 31]), box)
    assert targets.foreground.tolist() == [1]
    assert targets.deltas.isfinite().all()


def test_rois_by_hand():
    boxes, labels = boxes_of([20, 20, 29, 29], [20, 20, 29, 31]), torch.tensor([4, 2])
    rois = boxes_of(
        [20, 20, 29, 29],
        [20, 20, 29, 31],
        [20, 20, 29, 24],  # 0.5 with the first, 5 / 12 with the second
        [20, 20, 29, 23],  # 0.4
        [60, 60, 69, 69],
    )
    targets = rfcn_targets(rois, boxes, labels, STD)
    assert targets.labels.tolist() == [5, 3, 5, 0, 0]
    half = [0, 2.5 / 5 / 0.1, 0, torch.tensor(2.0).log().item() / 0.4]
    expected = torch.tensor([[0.0] * 4, [0.0] * 4, half, [0.0] * 4, [0.0] * 4])
    torch.testing.assert_close(targets.deltas, expected)


def test_rois_without_boxes_are_background():
    targets = rfcn_targets(random_boxes(7), NO_BOXES, NO_LABELS, STD)
    assert targets.labels.tolist() == [0] * 7
    assert not targets.deltas.any()
