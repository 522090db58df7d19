"""The detection loss L_det of Eq. 12: Faster R-CNN's four terms, all of weight 1."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from hpvod.networks.detection import DetectionNetwork, halves
from hpvod.networks.rfcn import RFCNOutput
from hpvod.networks.rpn import RPNOutput
from hpvod.training.rfcn_targets import RFCNTargets, rfcn_targets
from hpvod.training.rpn_targets import BATCH, RPNTargets, rpn_targets

_HARD_ROIS = 128


class DetectionLosses(NamedTuple):
    """Scalars, float32."""

    rpn_class: Tensor
    rpn_box: Tensor
    rcnn_class: Tensor
    rcnn_box: Tensor


def detection_losses(
    network: DetectionNetwork,
    feature: Tensor,
    image_size: tuple[int, int],
    boxes: Tensor,
    labels: Tensor,
    generator: torch.Generator | None,
) -> DetectionLosses:
    """How far N_det(F) of one image is from its objects.

    The RoIs are the RPN's proposals, through which no gradient flows, and the objects themselves.

    Args:
        network: N_det.
        feature: F, [1, channels, h, w].
        image_size: (height, width) of the network's input in pixels.
        boxes: [K, 4] float32, the objects in pixels of the network's input; K may be 0.
        labels: [K] int64, their classes.
        generator: as `rpn_targets` takes it.
    """
    size = (feature.shape[2], feature.shape[3])
    rpn, rfcn = network.rpn, network.rfcn
    rpn_feature, rfcn_feature = halves(feature)
    output = rpn(rpn_feature)
    anchors = rpn.anchors_on(size, feature.device)
    drawn = rpn_targets(anchors, boxes, image_size, rpn.box_std, generator)
    proposals = rpn.propose(output, size, image_size)
    rois = torch.cat((proposals.boxes[0, : int(proposals.counts[0])], boxes))
    targets = rfcn_targets(rois, boxes, labels, network.box_std)
    found = rfcn(rfcn_feature, F.pad(rois, (1, 0)))  # of image 0
    return DetectionLosses(*rpn_losses(output, drawn), *rfcn_losses(found, targets))


def rpn_losses(output: RPNOutput, targets: RPNTargets) -> tuple[Tensor, Tensor]:
    """The RPN's classification loss, a mean over the drawn anchors, and box loss over 256.

    Args:
        output: Of one image.
        targets: Of the same.
    """
    foreground, background = targets.foreground, targets.background
    drawn = torch.cat((foreground, background))
    labels = torch.zeros_like(drawn)
    labels[: len(foreground)] = 1
    logits = output.logits[0, :, drawn].T.float()
    # No anchor may lie within a small image: the loss is then 0.
    class_loss = F.cross_entropy(logits, labels, reduction="sum") / max(len(drawn), 1)
    deltas = output.deltas[0, foreground].float()
    box_loss = F.smooth_l1_loss(deltas, targets.deltas, reduction="sum") / BATCH
    return class_loss, box_loss


def rfcn_losses(output: RFCNOutput, targets: RFCNTargets) -> tuple[Tensor, Tensor]:
    """The R-FCN head's classification and box loss over the 128 RoIs with the largest sum of both.

    This is online hard example mining; only RoIs of objects have a box loss.

    Args:
        output: Of R RoIs.
        targets: Of the same.
    """
    class_loss = F.cross_entropy(output.logits.float(), targets.labels, reduction="none")
    box_loss = F.smooth_l1_loss(output.deltas.float(), targets.deltas, reduction="none").sum(1)
    box_loss = torch.where(targets.labels > 0, box_loss, 0)
    loss = (class_loss + box_loss).detach()
    hard = loss.topk(min(_HARD_ROIS, len(loss))).indices
    return class_loss[hard].mean(), box_loss[hard].sum() / _HARD_ROIS
