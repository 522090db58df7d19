"""The R-FCN head: position-sensitive score maps, pooled for each RoI and averaged."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from hpvod.config import ModelConfig
from hpvod.networks.feature import STRIDE
from hpvod_ops import ps_roi_pool


class RFCNOutput(NamedTuple):
    """Raw outputs for R RoIs."""

    logits: Tensor
    """[R, 1 + classes], the background first."""
    deltas: Tensor
    """[R, 4], the same for all classes, divided by `ModelConfig.box_std`."""


class RFCNHead(nn.Module):
    """Classifies RoIs and moves them."""

    def __init__(self, config: ModelConfig) -> None:
        """Build the head for half of `config.feature_channels`."""
        super().__init__()
        self.groups = config.groups
        channels, bins = config.feature_channels // 2, config.groups**2
        self.cls = nn.Conv2d(channels, (1 + len(config.classes)) * bins, 1)
        self.box = nn.Conv2d(channels, 8 * bins, 1)

    def forward(self, feature: Tensor, rois: Tensor) -> RFCNOutput:
        """Raw outputs for RoIs; this is what the losses take.

        Args:
            feature: [N, channels, h, w].
            rois: [R, 5] float32 of (image index, x1, y1, x2, y2) in image pixels.
        """
        # Boxes are regressed for background and object; only the object's four are ever read.
        object_maps = slice(4 * self.groups**2, None)
        assert self.box.bias is not None
        box_maps = F.conv2d(feature, self.box.weight[object_maps], self.box.bias[object_maps])
        logits = ps_roi_pool(self.cls(feature), rois, self.groups, STRIDE)
        deltas = ps_roi_pool(box_maps, rois, self.groups, STRIDE)
        bins = self.groups**2
        return RFCNOutput(logits.sum((2, 3)) / bins, deltas.sum((2, 3)) / bins)
