from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch

from hpvod.boxes import pairwise_iou
from hpvod.config import ModelConfig
from hpvod.networks.detection import DetectionNetwork
from hpvod.networks.rfcn import RFCNOutput
from hpvod.networks.rpn import RPNOutput
from hpvod.training.losses import detection_losses, rfcn_losses, rpn_losses
from hpvod.training.rfcn_targets import RFCNTargets
from hpvod.training.rpn_targets import RPNTargets

SIZE = (96, 128)
CONFIG = dataclasses.replace(
    ModelConfig.preset("tiny"),
    classes=("cat", "dog"),
    feature_channels=16,
    groups=3,
    anchor_scales=(1.0, 2.0, 3.0),
)
NO_OBJECTS = (torch.empty(0, 4), torch.empty(0, dtype=torch.int64))
TWO_OBJECTS = (torch.tensor([[8.0, 8, 50, 40], [60, 30, 99, 90]]), torch.tensor([1, 0]))
SMALL_OBJECT = (torch.tensor([[8.25, 8.25, 8.5, 8.5]]), torch.tensor([1]))


def network():
    torch.manual_seed(0)
    return DetectionNetwork(CONFIG)


def feature():
    return torch.randn(1, 16, 6, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)


def losses_of(detection, features, objects, size=SIZE):
    generator = torch.Generator().manual_seed(0)
    return detection_losses(detection, features, size, *objects, generator)


def log_loss(logits, label):
    return math.log(sum(math.exp(logit) for logit in logits)) - logits[label]


def test_rpn_by_hand():
    logits = torch.tensor([[[0.0, 1.0, 2.0, 3.0], [1.0, 0.0, 5.0, -1.0]]])
    deltas = torch.zeros(1, 4, 4)
    deltas[0, 2] = torch.tensor([0.5, -3.0, 0.0, 1.0])
    targets = RPNTargets(
        foreground=torch.tensor([2]),
        background=torch.tensor([0, 3]),
        deltas=torch.tensor([[0.0, 1.0, 0.0, 0.0]]),
    )
    class_loss, box_loss = rpn_losses(RPNOutput(logits, deltas), targets)
    expected = log_loss([2, 5], 1) + log_loss([0, 1], 0) + log_loss([3, -1], 0)
    assert class_loss.item() == pytest.approx(expected / 3)
    assert box_loss.item() == pytest.approx((0.5 * 0.5**2 + 3.5 + 0.5) / 256)


def test_rfcn_by_hand():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 3.0, 0.5], [1.0, 1.0, 1.0]])
    deltas = torch.tensor([[0.0, 0.0, 0.0, 2.0], [9.0, 9.0, 9.0, 9.0], [0.0, 0.0, 0.0, 0.0]])
    targets = RFCNTargets(torch.tensor([1, 0, 2]), torch.zeros(3, 4))
    class_loss, box_loss = rfcn_losses(RFCNOutput(logits, deltas), targets)
    expected = log_loss([2, 0, -1], 1) + log_loss([0, 3, 0.5], 0) + log_loss([1, 1, 1], 2)
    assert class_loss.item() == pytest.approx(expected / 3)
    assert box_loss.item() == pytest.approx(1.5 / 128)  # what of the background is moved is free


def test_only_the_hardest_128_rois_count():
    # Half the RoIs are objects that are classified right, of which some lie far off.
    logits = torch.zeros(400, 2)
    logits[:200, 1] = 20
    logits[200:, 0] = torch.linspace(-3, 6, 200)
    deltas = torch.zeros(400, 4)
    deltas[:40, 0] = 11
    logits.requires_grad_()
    deltas.requires_grad_()
    labels = (torch.arange(400) < 200).long()
    class_loss, box_loss = rfcn_losses(
        RFCNOutput(logits, deltas), RFCNTargets(labels, torch.zeros(400, 4))
    )
    (class_loss + box_loss).backward()
    hard = {*range(40), *range(200, 288)}
    counted = logits.grad.ne(0).any(1).nonzero()[:, 0].tolist()
    assert set(counted) - set(range(40)) == set(range(200, 288))
    assert deltas.grad.ne(0).any(1).nonzero()[:, 0].tolist() == list(range(40))
    expected = sum(log_loss(logits[roi].tolist(), int(labels[roi])) for roi in hard) / 128
    assert class_loss.item() == pytest.approx(expected, rel=1e-5)
    assert box_loss.item() == pytest.approx(40 * 10.5 / 128)


@pytest.mark.parametrize("objects", [NO_OBJECTS, TWO_OBJECTS, SMALL_OBJECT])
def test_finite_and_gradients_reach_both_heads(objects):
    detection, features = network(), feature()
    losses = losses_of(detection, features, objects)
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses)
    sum(losses).backward()
    assert features.grad.isfinite().all()
    for half in features.grad.chunk(2, dim=1):
        assert half.any()
    for layer in (detection.rpn.cls, detection.rfcn.cls):
        assert layer.weight.grad.any()
    anything = bool(len(objects[0]))
    for layer in (detection.rpn.box, detection.rfcn.box):
        assert layer.weight.grad.any() == anything
    assert (losses.rpn_box > 0) == anything and (losses.rcnn_box > 0) == anything


def test_the_objects_themselves_are_rois():
    detection = network()
    with torch.no_grad():  # the proposals all lie in a corner
        detection.rpn.box.bias.copy_(torch.tensor([-40.0, -40, -5, -5]).repeat(9))
    rois = []
    detection.rfcn.register_forward_pre_hook(lambda _, arguments: rois.append(arguments[1]))
    losses = losses_of(detection, feature(), TWO_OBJECTS)
    assert rois[0][-2:].tolist() == [[0, *box] for box in TWO_OBJECTS[0].tolist()]
    assert pairwise_iou(rois[0][:-2, 1:], TWO_OBJECTS[0]).max() < 0.5
    assert losses.rcnn_box > 0


def test_an_image_in_which_no_anchor_lies():
    features = torch.randn(1, 16, 1, 1, requires_grad=True)
    losses = losses_of(network(), features, NO_OBJECTS, (9, 9))
    assert losses.rpn_class == 0 and losses.rpn_box == 0
    sum(losses).backward()
    assert features.grad.isfinite().all()


def test_falls_to_nothing_on_what_is_found():
    # R-FCN says with certainty what the targets say: no loss is left.
    labels = torch.tensor([1, 0, 2])
    deltas = torch.randn(3, 4)
    logits = 100 * torch.nn.functional.one_hot(labels, 3).float()
    class_loss, box_loss = rfcn_losses(
        RFCNOutput(logits, deltas), RFCNTargets(labels, deltas * (labels > 0)[:, None])
    )
    assert class_loss == 0 and box_loss == 0


def test_inference_is_not_changed_by_training():
    detection, features = network().eval(), feature()
    before = detection(features.detach(), SIZE)
    state = copy.deepcopy(detection.state_dict())
    losses_of(detection, features, TWO_OBJECTS)
    assert all(torch.equal(state[name], value) for name, value in detection.state_dict().items())
    for found, expected in zip(detection(features.detach(), SIZE), before, strict=True):
        assert torch.equal(found, expected)
