"""The detection network N_det: RPN and R-FCN on shared feature maps (Section 3.5)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hpvod.boxes import clip_boxes, decode_boxes, nms
from hpvod.config import ModelConfig
from hpvod.networks.feature import STRIDE
from hpvod.networks.rfcn import RFCNHead
from hpvod.networks.rpn import RPN


class Detections(NamedTuple):
    """Objects of one image, best first."""

    boxes: Tensor
    """[K, 4] float32: x1, y1, x2, y2 in pixels of the network's input."""
    scores: Tensor
    """[K] float32."""
    labels: Tensor
    """[K] int64, indices into `ModelConfig.classes`."""


class DetectionNetwork(nn.Module):
    """Features to detections: the first half of the channels proposes, the second decides."""

    def __init__(self, config: ModelConfig) -> None:
        """Build RPN and R-FCN."""
        super().__init__()
        self.score_threshold = config.score_threshold
        self.nms = config.nms
        self.max_detections = config.max_detections
        self.box_std = config.box_std
        self.rpn = RPN(config)
        self.rfcn = RFCNHead(config)

    def forward(self, feature: Tensor, image_size: tuple[int, int]) -> list[Detections]:
        """The detections y = N_det(F).

        Args:
            feature: [N, channels, h, w].
            image_size: (height, width) of the network's input in pixels.

        Returns:
            One `Detections` for each of the N images.

        Raises:
            ValueError: `image_size` is not that of images with such features.
        """
        size = (feature.shape[-2], feature.shape[-1])
        if size != (-(-image_size[0] // STRIDE), -(-image_size[1] // STRIDE)):
            raise ValueError(f"image_size {image_size} does not fit a feature map of size {size}")
        # Dense halves: each of the two convolutions that read one would make its own copy.
        last = feature.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        rpn_feature, rfcn_feature = (
            half.contiguous(memory_format=layout) for half in feature.chunk(2, dim=1)
        )
        proposals = self.rpn.propose(self.rpn(rpn_feature), size, image_size)
        rois = torch.cat(
            [nn.functional.pad(boxes, (1, 0), value=i) for i, boxes in enumerate(proposals)]
        )
        logits, deltas = self.rfcn(rfcn_feature, rois)
        scores = logits.float().softmax(1)[:, 1:]
        boxes = clip_boxes(decode_boxes(rois[:, 1:], deltas.float(), self.box_std), image_size)
        counts = [len(p) for p in proposals]
        return [
            self._select(b, s)
            for b, s in zip(torch.split(boxes, counts), torch.split(scores, counts), strict=True)
        ]

    def _select(self, boxes: Tensor, scores: Tensor) -> Detections:
        """Threshold, NMS by class and cap: boxes [R, 4] and scores [R, classes] of one image."""
        roi, label = (scores > self.score_threshold).nonzero(as_tuple=True)
        boxes, scores = boxes[roi], scores[roi, label]
        kept = nms(boxes, scores, label, self.nms, self.max_detections)
        return Detections(boxes[kept], scores[kept], label[kept])
