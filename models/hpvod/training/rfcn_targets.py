"""What the R-FCN head should say of RoIs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from hpvod.boxes import encode_boxes, pairwise_iou

_FOREGROUND_IOU = 0.5


class RFCNTargets(NamedTuple):
    """Of R RoIs of one image."""

    labels: Tensor
    """[R] int64, 0 for the background and 1 + the class for an object."""
    deltas: Tensor
    """[R, 4] float32, what moves a RoI onto its object, divided by the std; 0 for background."""


def rfcn_targets(rois: Tensor, boxes: Tensor, labels: Tensor, std: Sequence[float]) -> RFCNTargets:
    """Gives each RoI the box that it overlaps most, from an IoU of 0.5, or the background.

    Args:
        rois: [R, 4] float32.
        boxes: [K, 4] float32, the objects; K may be 0.
        labels: [K] int64, their classes.
        std: `ModelConfig.box_std`.
    """
    # A box that overlaps nothing: there may be none other.
    highest, box = F.pad(pairwise_iou(rois, boxes), (0, 1)).max(1)
    foreground = (highest >= _FOREGROUND_IOU).nonzero()[:, 0]
    box = box[foreground]
    label = torch.zeros(len(rois), dtype=torch.int64, device=rois.device)
    label[foreground] = 1 + labels[box]
    deltas = torch.zeros_like(rois)
    deltas[foreground] = encode_boxes(rois[foreground], boxes[box], std)
    return RFCNTargets(label, deltas)
