from __future__ import annotations

import torch
from torch.nn import functional as F

from hpvod.config import ModelConfig
from hpvod.networks.rfcn import RFCNHead

from . import literal_boxes


def test_equals_a_literal_transcription() -> None:
    torch.manual_seed(0)
    config = ModelConfig(classes=("cat", "dog"), feature_channels=12, groups=3)
    head = RFCNHead(config).double()
    feature = torch.randn(2, 6, 6, 8, dtype=torch.float64)
    rois = torch.tensor([[0, 3.2, 5, 90, 70], [1, 0, 0, 127, 95], [1, 40, 40, 41, 41]])
    with torch.no_grad():
        logits, deltas = head(feature, rois)
        cls = F.conv2d(feature, head.cls.weight, head.cls.bias).numpy()
        box = F.conv2d(feature, head.box.weight, head.box.bias).numpy()
    scores = literal_boxes.ps_roi_pool(cls, rois.numpy(), 3, 16).mean((2, 3))
    boxes = literal_boxes.ps_roi_pool(box, rois.numpy(), 3, 16).mean((2, 3))
    assert boxes.shape == (3, 8)
    torch.testing.assert_close(logits, torch.from_numpy(scores), rtol=0, atol=1e-12)
    torch.testing.assert_close(deltas, torch.from_numpy(boxes[:, 4:8]), rtol=0, atol=1e-12)


def test_gradient_reaches_both_layers() -> None:
    torch.manual_seed(0)
    head = RFCNHead(ModelConfig(feature_channels=12))
    feature = torch.randn(1, 6, 6, 8, requires_grad=True)
    logits, deltas = head(feature, torch.tensor([[0.0, 3, 5, 90, 70]]))
    assert logits.shape == (1, 31)
    (logits.square().sum() + deltas.square().sum()).backward()
    for tensor in (feature, head.cls.weight, head.box.weight):
        assert tensor.grad is not None
        assert tensor.grad.abs().sum() > 0


def test_paper_size() -> None:
    with torch.device("meta"):
        head = RFCNHead(ModelConfig())
    assert head.cls.weight.shape == (31 * 49, 512, 1, 1)
    assert head.box.weight.shape == (8 * 49, 512, 1, 1)
