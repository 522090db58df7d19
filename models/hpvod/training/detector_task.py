"""The detector as the trainer takes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hpvod.data import Dataset
from hpvod.model import HPVODModel
from hpvod.training.pair import PairLoss, PairLosses, Targets
from hpvod.training.samples import PairReader, PairSample
from hpvod.training.trainable import trainable_parameters
from hpvod.training.trainer import SHARE


class DetectorTask:
    """Eq. 12 on pairs of nearby frames, by SGD with momentum 0.9 and weight decay 5e-4.

    Args:
        model: on the device to train on, changed in place.
        video: clips of video.
        stills: still images, every second sample; or None.
        area_weight: lambda.
        flow_rate: the flow network's learning rate in shares of the others'; its heads for Q and
            the scale, which no pre-training has taught, have the others'.
        seed: of every random choice.
        from_scratch: whether every layer is trained.
    """

    terms: tuple[str, ...] = ("total", "rpn_class", "rpn_box", "rcnn_class", "rcnn_box", "updated")

    def __init__(
        self,
        model: HPVODModel,
        video: Dataset,
        stills: Dataset | None,
        *,
        area_weight: float,
        flow_rate: float,
        seed: int,
        from_scratch: bool,
    ) -> None:
        self.module: nn.Module = model.to(memory_format=torch.channels_last)
        self.parameters: Sequence[nn.Parameter] = trainable_parameters(
            model, from_scratch=from_scratch
        )
        pretrained = set(model.flow.pretrained_parameters())
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.parameters if p not in pretrained]},
            {"params": [p for p in self.parameters if p in pretrained], SHARE: flow_rate},
        ]
        self.optimizer: torch.optim.Optimizer = torch.optim.SGD(
            groups, lr=0.0, momentum=0.9, weight_decay=5e-4
        )
        self.read = PairReader(video, stills, seed, model.config)
        self._loss = PairLoss(model, area_weight=area_weight)

    def parts(self, samples: Sequence[PairSample]) -> Iterator[tuple[PairSample, int]]:
        """Each alone: images differ in size, and the memory is that of one."""
        return ((sample, 1) for sample in samples)

    def losses(self, sample: PairSample, device: torch.device) -> Tensor:
        """Of a pair: the sum, its terms, and the mean of U."""
        pair = sample.pair
        targets = Targets(pair.targets.boxes.to(device), pair.targets.labels.to(device))
        moved = dataclasses.replace(
            pair, key=pair.key.to(device), current=pair.current.to(device), targets=targets
        )
        generator = torch.Generator().manual_seed(sample.seed)
        losses: PairLosses = self._loss(moved, sample.mask, generator)
        return torch.stack((losses.total, *losses[:4], losses.area))
