"""The joint training of Section 3.4: the loss of one pair of nearby frames, Eq. 12."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from hpvod.model import HPVODModel
from hpvod.training.losses import detection_losses
from hpvod.training.partial_update import (
    KeyLayers,
    PartialUpdate,
    at_least_float32,
    propagated,
)
from hpvod_ops import update_mask, warp_aggregate

Mask = Literal["predicted", "zeros", "ones"]
"""U: of the flow network's Q, or enforced."""


@dataclass(frozen=True)
class Targets:
    """The objects of an image; there may be none.

    Attributes:
        boxes: [K, 4] float32: x1, y1, x2, y2 in pixels of the network's input.
        labels: [K] int64, indices into `ModelConfig.classes`.
    """

    boxes: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Pair:
    """One training sample: frames of the same size with the mean subtracted.

    Attributes:
        key: I_k, [3, H, W].
        current: I_i, [3, H, W]; a still image is its own key frame.
        targets: of I_i.
        still: whether the raw feature of I_i is used: a still image, or offset 0.
    """

    key: Tensor
    current: Tensor
    targets: Targets
    still: bool


class PairLosses(NamedTuple):
    """Scalars, float32."""

    rpn_class: Tensor
    rpn_box: Tensor
    rcnn_class: Tensor
    rcnn_box: Tensor
    area: Tensor
    """Mean of U over all positions; 0 for a still pair."""
    total: Tensor
    """What is to be minimised: the first four and lambda times the area."""


class PairLoss(nn.Module):
    """Eq. 12 of a pair: L_det(y_i) + lambda mean_p U(p).

    The area term is a mean over positions and not the paper's sum: lambda then means the same for
    every size of image.

    Args:
        model: the networks.
        area_weight: lambda; the larger, the smaller the areas that are recomputed.

    Raises:
        ValueError: `area_weight` is negative.
    """

    def __init__(self, model: HPVODModel, *, area_weight: float) -> None:
        super().__init__()
        if not area_weight >= 0:
            raise ValueError(f"area_weight must not be negative, but is {area_weight}")
        self.model = model
        self.area_weight = area_weight

    def forward(self, pair: Pair, mask: Mask, generator: torch.Generator | None) -> PairLosses:
        """The losses of a pair; with autocast, what is listed in PyTorch runs in low precision.

        Args:
            pair: on the model's device.
            mask: how U is found; not read for a still pair. The paper enforces zeros and ones a
                third of the time each.
            generator: on the CPU, draws the RPN's anchors; None for PyTorch's own.

        Raises:
            ValueError: the frames are not both [3, H, W].
        """
        if pair.still:
            feature = self.model.features(pair.current[None])
            area = feature.new_zeros((), dtype=torch.float32)
        else:
            feature, area = self._aggregated(pair.key[None], pair.current[None], mask)
        image_size = (pair.current.shape[1], pair.current.shape[2])
        targets = pair.targets
        detection = detection_losses(
            self.model.detection, feature, image_size, targets.boxes, targets.labels, generator
        )
        total = torch.stack(detection).sum() + self.area_weight * area
        return PairLosses(*detection, area, total)

    def _aggregated(self, key: Tensor, current: Tensor, mask: Mask) -> tuple[Tensor, Tensor]:
        """F̄_i of Eq. 7, [1, C, h, w], and the mean of U.

        Args:
            key: I_k, [1, 3, H, W]; it has no key frame before it, so F̄_k is F_k.
            current: I_i, likewise.
            mask: how U is found.
        """
        model, of_key = self.model, KeyLayers()
        key_feature = model.features(key, of_key)
        key_embedding = model.embedding(key_feature, of_key)
        motion = model.flow(current, key)
        flow = at_least_float32(motion.flow)
        if mask == "zeros":  # no layer of I_i is read
            feature = propagated(key_feature, flow, motion.scale)
            embedding = propagated(key_embedding, flow, None)
            area = flow.new_zeros(())
        elif mask == "ones":  # no layer of I_k is read but the result
            feature = model.features(current)
            embedding = model.embedding(feature)
            area = flow.new_ones(())
        else:
            u = update_mask(motion.quality)
            update = PartialUpdate(of_key.layers, motion, u)
            feature = model.features(current, update)
            embedding = model.embedding(feature, update)
            area = u.float().mean()
        return warp_aggregate(key_feature, key_embedding, feature, embedding, flow), area
