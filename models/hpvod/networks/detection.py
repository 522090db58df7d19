"""The detection network N_det: RPN and R-FCN on shared feature maps (Section 3.5)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hpvod.boxes import clip_boxes, decode_boxes, live_rows, picked
from hpvod.config import ModelConfig
from hpvod.networks.feature import STRIDE
from hpvod.networks.rfcn import RFCNHead
from hpvod.networks.rpn import RPN
from hpvod_ops import batched_nms


class ImageDetections(NamedTuple):
    """Objects of one image, best first, on the CPU."""

    boxes: Tensor
    """[K, 4] float32: x1, y1, x2, y2 in pixels of the network's input."""
    scores: Tensor
    """[K] float32."""
    labels: Tensor
    """[K] int64, indices into `ModelConfig.classes`."""


class Detections(NamedTuple):
    """At most D = `ModelConfig.max_detections` objects an image, best first; of a fixed size.

    How many there are stays on the device: nothing waits for it. Behind an image's count, rows
    are zeros.
    """

    boxes: Tensor
    """[N, D, 4] float32: x1, y1, x2, y2 in pixels of the network's input."""
    scores: Tensor
    """[N, D] float32."""
    labels: Tensor
    """[N, D] int64, indices into `ModelConfig.classes`."""
    counts: Tensor
    """[N] int32."""

    def of_image(self, n: int) -> ImageDetections:
        """Those of one image; waits for the device."""
        count = int(self.counts[n])
        boxes, scores, labels = (each[n, :count].cpu() for each in self[:3])
        return ImageDetections(boxes, scores, labels)


def halves(feature: Tensor) -> tuple[Tensor, Tensor]:
    """The channels that RPN reads and those that R-FCN does, of features [N, channels, h, w]."""
    # Dense halves: each of the two convolutions that read one would make its own copy.
    last = feature.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    first, second = feature.chunk(2, dim=1)
    return first.contiguous(memory_format=layout), second.contiguous(memory_format=layout)


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

    def forward(self, feature: Tensor, image_size: tuple[int, int]) -> Detections:
        """The detections y = N_det(F).

        Args:
            feature: [N, channels, h, w].
            image_size: (height, width) of the network's input in pixels.

        Returns:
            The detections of all N images.

        Raises:
            ValueError: `image_size` is not that of images with such features.
        """
        size = (feature.shape[-2], feature.shape[-1])
        if size != (-(-image_size[0] // STRIDE), -(-image_size[1] // STRIDE)):
            raise ValueError(f"image_size {image_size} does not fit a feature map of size {size}")
        rpn_feature, rfcn_feature = halves(feature)
        proposals = self.rpn.propose(self.rpn(rpn_feature), size, image_size)
        # Rows behind an image's count are pooled like others, so that nothing need know it.
        image = torch.arange(len(feature), device=feature.device, dtype=torch.float32)
        image = image[:, None, None].expand(-1, proposals.boxes.shape[1], 1)
        rois = torch.cat((image, proposals.boxes), 2).flatten(0, 1)
        logits, deltas = self.rfcn(rfcn_feature, rois)
        scores = logits.float().softmax(1)[:, 1:].unflatten(0, proposals.boxes.shape[:2])
        deltas = deltas.float().unflatten(0, proposals.boxes.shape[:2])
        boxes = clip_boxes(decode_boxes(proposals.boxes, deltas, self.box_std), image_size)
        return self._select(boxes, scores, live_rows(boxes.shape[1], proposals.counts))

    def _select(self, boxes: Tensor, scores: Tensor, live: Tensor) -> Detections:
        """Threshold, NMS by class and cap.

        Args:
            boxes: [N, P, 4], the same for all classes.
            scores: [N, P, classes].
            live: bool [N, P]: which rows are proposals at all.
        """
        classes = scores.shape[2]
        boxes = boxes[:, :, None].expand(-1, -1, classes, -1).flatten(1, 2)
        labels = torch.arange(classes, device=scores.device).expand(scores.shape).flatten(1)
        valid = ((scores > self.score_threshold) & live[..., None]).flatten(1)
        scores = scores.flatten(1)
        indices, counts = batched_nms(
            boxes, scores, labels, self.nms, self.max_detections, valid=valid
        )
        return Detections(
            picked(boxes, indices, counts),
            picked(scores, indices, counts),
            picked(labels, indices, counts),
            counts,
        )
