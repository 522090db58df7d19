"""The region proposal network of Faster R-CNN, here a single 1x1 convolution an output."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hpvod.boxes import base_anchors, clip_boxes, decode_boxes, grid_anchors, picked
from hpvod.config import ModelConfig
from hpvod.networks.feature import STRIDE
from hpvod_ops import batched_nms


class RPNOutput(NamedTuple):
    """Raw outputs for A anchors a cell, in the order of `grid_anchors`."""

    logits: Tensor
    """[N, 2, h * w * A]: background, then object."""
    deltas: Tensor
    """[N, h * w * A, 4], divided by `ModelConfig.rpn_box_std`."""


class Proposals(NamedTuple):
    """At most P = `ModelConfig.proposals` boxes an image, best first; of a fixed size.

    How many there are stays on the device: nothing waits for it.
    """

    boxes: Tensor
    """[N, P, 4] float32: x1, y1, x2, y2 in image pixels; zeros behind the image's count."""
    counts: Tensor
    """[N] int32."""


class RPN(nn.Module):
    """Scores and moves anchors, and picks the proposals."""

    def __init__(self, config: ModelConfig) -> None:
        """Build the network for half of `config.feature_channels`."""
        super().__init__()
        self.before_nms = config.proposals_before_nms
        self.proposals = config.proposals
        self.nms = config.proposal_nms
        self.box_std = config.rpn_box_std
        # Not a buffer: anchors stay float32 in a model cast to bfloat16.
        self.anchors = base_anchors(STRIDE, config.anchor_scales, config.anchor_ratios)
        channels = config.feature_channels // 2
        self.cls = nn.Conv2d(channels, 2 * len(self.anchors), 1)
        self.box = nn.Conv2d(channels, 4 * len(self.anchors), 1)

    def forward(self, feature: Tensor) -> RPNOutput:
        """Raw outputs for the features [N, channels, h, w]; this is what the losses take."""
        # Channels of `cls` are (class, anchor), of `box` (anchor, coordinate).
        logits = self.cls(feature).unflatten(1, (2, -1)).permute(0, 1, 3, 4, 2)
        deltas = self.box(feature).unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2)
        return RPNOutput(logits.flatten(2), deltas.flatten(1, 3))

    def anchors_on(self, feature_size: tuple[int, int], device: torch.device) -> Tensor:
        """All anchors of features of (h, w): [h * w * A, 4] float32, as `grid_anchors` orders."""
        self.anchors = self.anchors.to(device)
        return grid_anchors(self.anchors, *feature_size, STRIDE)

    def propose(
        self, output: RPNOutput, feature_size: tuple[int, int], image_size: tuple[int, int]
    ) -> Proposals:
        """The best anchors, moved, clipped and thinned out; no gradient flows through them.

        Args:
            output: Of `forward`.
            feature_size: (h, w) of the features.
            image_size: (height, width) of the images in pixels.

        Returns:
            The proposals of each image.
        """
        anchors = self.anchors_on(feature_size, output.logits.device)
        objectness = output.logits.detach().float().softmax(1)[:, 1]
        count = min(self.before_nms, len(anchors))
        scores, best = objectness.topk(count, dim=1)
        deltas = output.deltas.detach().float().take_along_dim(best[..., None], dim=1)
        boxes = clip_boxes(decode_boxes(anchors[best], deltas, self.box_std), image_size)
        one_class = torch.zeros_like(best)
        indices, counts = batched_nms(boxes, scores, one_class, self.nms, self.proposals)
        return Proposals(picked(boxes, indices, counts), counts)
