"""What the RPN should say of its anchors: Faster R-CNN's assignment and sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from hpvod.boxes import encode_boxes, pairwise_iou

BATCH = 256
"""Anchors drawn an image; fewer where there are not as many."""
_MOST_FOREGROUND = 128
_FOREGROUND_IOU = 0.7
_BACKGROUND_IOU = 0.3


class RPNTargets(NamedTuple):
    """The drawn anchors of one image."""

    foreground: Tensor
    """[F] int64, indices of the anchors that are objects."""
    background: Tensor
    """[B] int64, of those that are not."""
    deltas: Tensor
    """[F, 4] float32, what moves the foreground onto its objects, divided by the std."""


def rpn_targets(
    anchors: Tensor,
    boxes: Tensor,
    image_size: tuple[int, int],
    std: Sequence[float],
    generator: torch.Generator | None,
) -> RPNTargets:
    """Draws the anchors of an image that the RPN is trained on.

    Anchors that cross the image's border are never drawn. An anchor is foreground from an IoU of
    0.7 with a box, or if no other anchor overlaps a box more, and background below an IoU of 0.3
    with all boxes.

    Args:
        anchors: [A, 4] float32.
        boxes: [K, 4] float32, the objects; K may be 0.
        image_size: (height, width) in pixels.
        std: `ModelConfig.rpn_box_std`.
        generator: on the CPU, draws where there are too many; None for PyTorch's own.
    """
    height, width = image_size
    within = (anchors[:, :2] >= 0).all(1) & (anchors[:, 2] < width) & (anchors[:, 3] < height)
    inside = within.nonzero()[:, 0]
    # An anchor and a box that overlap nothing: there may be none other.
    iou = F.pad(pairwise_iou(anchors[inside], boxes), (0, 1, 0, 1))
    highest, box = iou.max(1)
    closest = ((iou == iou.amax(0)) & (iou > 0)).any(1)
    foreground = ((highest >= _FOREGROUND_IOU) | closest)[:-1]
    background = (highest[:-1] < _BACKGROUND_IOU) & ~foreground
    objects = _drawn(foreground, _MOST_FOREGROUND, generator)
    others = _drawn(background, BATCH - len(objects), generator)
    deltas = encode_boxes(anchors[inside[objects]], boxes[box[objects]], std)
    return RPNTargets(inside[objects], inside[others], deltas)


def _drawn(candidates: Tensor, most: int, generator: torch.Generator | None) -> Tensor:
    """At most as many of the indices at which `candidates` [A] is true, each as likely."""
    indices = candidates.nonzero()[:, 0]
    if len(indices) <= most:
        return indices
    # On the CPU: the same draw whatever the device.
    order = torch.randperm(len(indices), generator=generator, device="cpu")
    return indices[order[:most].to(indices.device)]
