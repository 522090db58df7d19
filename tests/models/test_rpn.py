from __future__ import annotations

import copy

import numpy as np
import torch

from hpvod.boxes import base_anchors, clip_boxes, grid_anchors
from hpvod.config import ModelConfig
from hpvod.model import HPVODModel
from hpvod.networks.rpn import RPN, RPNOutput

from . import literal_boxes


def small_rpn(proposals_before_nms: int = 60, proposals: int = 8) -> RPN:
    torch.manual_seed(0)
    config = ModelConfig(
        feature_channels=16,
        anchor_scales=(2.0, 4.0),
        proposals_before_nms=proposals_before_nms,
        proposals=proposals,
    )
    return RPN(config)


def test_outputs_are_in_the_order_of_the_anchors() -> None:
    rpn = small_rpn()
    with torch.no_grad():
        for layer in (rpn.cls, rpn.box):
            layer.weight.zero_()
            layer.bias.copy_(torch.arange(len(layer.bias)))
            layer.weight[:, 0] = 1
    # The features' first channel numbers the cells by thousands.
    feature = torch.zeros(1, 8, 2, 3)
    feature[0, 0] = 1000 * torch.arange(6).reshape(2, 3)
    output = rpn(feature)
    for cell in range(6):
        for anchor in range(6):
            place = 6 * cell + anchor
            scores = [1000 * cell + anchor, 1000 * cell + 6 + anchor]
            assert output.logits[0, :, place].tolist() == scores
            first = 1000 * cell + 4 * anchor
            assert output.deltas[0, place].tolist() == [first, first + 1, first + 2, first + 3]


def test_proposals_equal_a_literal_transcription() -> None:
    rpn = small_rpn()
    with torch.no_grad():
        for layer in (rpn.cls, rpn.box):
            layer.weight.mul_(6)
        feature = torch.randn(2, 8, 5, 7)
        output = rpn(feature)
        found = rpn.propose(output, (5, 7), (75, 110))
        raw_cls, raw_box = rpn.cls(feature).numpy(), rpn.box(feature).numpy()
    base = base_anchors(16, (2, 4), (0.5, 1, 2)).tolist()
    for image in range(2):
        boxes, scores = [], []
        for y in range(5):
            for x in range(7):
                for a, anchor in enumerate(base):
                    shift = np.array([16 * x, 16 * y, 16 * x, 16 * y])
                    delta = raw_box[image, 4 * a : 4 * a + 4, y, x].tolist()
                    box = literal_boxes.decode(anchor + shift, delta, (0.1, 0.1, 0.4, 0.4))
                    boxes.append(literal_boxes.clip(box, 75, 110))
                    background, foreground = raw_cls[image, [a, 6 + a], y, x].astype(np.float64)
                    scores.append(literal_boxes.softmax(np.array([background, foreground]))[1])
        best = sorted(range(len(boxes)), key=lambda i: -scores[i])[:60]
        kept = literal_boxes.nms([boxes[i] for i in best], [scores[i] for i in best], 0.7)
        expected = torch.tensor([boxes[best[i]] for i in kept[:8]], dtype=torch.float32)
        # float32 coordinates of up to 110 pixels.
        assert found.counts[image] == 8
        torch.testing.assert_close(found.boxes[image], expected, rtol=0, atol=1e-4)


def test_fewer_anchors_than_the_limits() -> None:
    rpn = small_rpn(proposals_before_nms=6000, proposals=300)
    output = rpn(torch.randn(1, 8, 2, 2))
    boxes, counts = rpn.propose(output, (2, 2), (32, 32))
    assert boxes.shape == (1, 300, 4)
    assert 0 < counts.item() <= 24
    assert boxes[0, : int(counts)].any(1).all()
    assert not boxes[0, int(counts) :].any()


def test_no_gradient_flows_through_proposals() -> None:
    rpn = small_rpn()
    output = rpn(torch.randn(1, 8, 4, 4))
    assert output.logits.requires_grad and output.deltas.requires_grad
    assert not rpn.propose(output, (4, 4), (64, 64)).boxes.requires_grad


def test_anchors_stay_exact_in_a_bfloat16_model(tiny_model: HPVODModel) -> None:
    rpn = copy.deepcopy(tiny_model.detection.rpn).bfloat16()
    anchors = grid_anchors(base_anchors(16, (4, 8, 16), (0.5, 1, 2)), 20, 30, 16)
    logits = torch.zeros(1, 2, len(anchors), dtype=torch.bfloat16)
    output = RPNOutput(logits, torch.zeros(1, len(anchors), 4, dtype=torch.bfloat16))
    every = rpn.propose(output, (20, 30), (320, 480))
    assert every.boxes.dtype == torch.float32
    boxes = every.boxes[0, : int(every.counts)]
    known = {tuple(box) for box in clip_boxes(anchors, (320, 480)).tolist()}
    assert all(tuple(box) in known for box in boxes.tolist())


def test_paper_size() -> None:
    with torch.device("meta"):
        rpn = RPN(ModelConfig())
    assert rpn.cls.weight.shape == (18, 512, 1, 1)
    assert rpn.box.weight.shape == (36, 512, 1, 1)
