"""Supervised training of the flow network: end-point errors at every level, as FlowNetS has it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hpvod.config import ModelConfig
from hpvod.data import FlyingChairs
from hpvod.networks.flow import FlowNetwork

_UNIT = 40
"""Pixels of the image that a flow of 1 stands for: 20 of the half-resolution input."""
# Strides and weights, coarse to fine. The last level is the fourth one's, pooled; not tuned.
_LEVELS = ((128, 0.25), (64, 0.25), (32, 0.25), (16, 0.5), (16, 1.0))
_MAX_ZOOM = 1.5


@dataclass(frozen=True)
class FlowSample:
    """Two images on the CPU and the flow from the first to the second; or N such.

    Attributes:
        current: RGB, uint8 [3, H, W] or [N, 3, H, W].
        key: likewise.
        flow: float32 [2, H, W] or [N, 2, H, W], in pixels.
    """

    current: Tensor
    key: Tensor
    flow: Tensor


class FlowTask:
    """What the trainer trains: a flow network on pairs with known flow, by Adam.

    The first image is I_i and the second I_k: M_i->k says where what I_i shows lies in I_k.
    """

    terms: tuple[str, ...] = ("total", "end_point_error")

    def __init__(self, network: FlowNetwork, chairs: FlyingChairs, seed: int) -> None:
        self.module: nn.Module = network.to(memory_format=torch.channels_last)
        self.parameters: Sequence[nn.Parameter] = network.pretrained_parameters()
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(
            self.parameters, lr=0.0, weight_decay=4e-4
        )
        self._network = network
        self._chairs = chairs
        self._seed = seed
        self._mean = torch.tensor(ModelConfig.pixel_mean).view(3, 1, 1)

    def read(self, position: int, attempt: int) -> FlowSample:
        """The pair at a position of the sequence, augmented.

        Raises:
            DataError: a file of it cannot be used.
        """
        random = np.random.default_rng(np.random.SeedSequence((self._seed, position, attempt)))
        first, second, flow = self._chairs[int(random.integers(len(self._chairs)))]
        sample = FlowSample(
            *(torch.from_numpy(values).permute(2, 0, 1) for values in (first, second, flow))
        )
        zoom = float(random.uniform(1, _MAX_ZOOM))
        corner = random.uniform(size=2)
        sample = zoomed(sample, zoom, (float(corner[0]), float(corner[1])))
        return mirrored(sample) if random.integers(2) else sample

    def parts(self, samples: Sequence[FlowSample]) -> Iterator[tuple[FlowSample, int]]:
        """Pairs of a size go through the network together: the tiny one's is then twice as fast."""
        by_size: dict[torch.Size, list[FlowSample]] = defaultdict(list)
        for sample in samples:
            by_size[sample.flow.shape].append(sample)
        for alike in by_size.values():
            current, key, flow = (
                torch.stack([getattr(sample, name) for sample in alike])
                for name in ("current", "key", "flow")
            )
            yield FlowSample(current, key, flow), len(alike)

    def losses(self, sample: FlowSample, device: torch.device) -> Tensor:
        """The sum over the levels, and the last level's mean end-point error in pixels; of N."""
        mean = self._mean.to(device)
        flows = self._network.levels(
            *(
                (image.to(device).float() - mean).contiguous(memory_format=torch.channels_last)
                for image in (sample.current, sample.key)
            )
        )
        truth = sample.flow.to(device)
        truths = {stride: at_stride(truth, stride) / _UNIT for stride, _ in _LEVELS}
        errors = [
            (flow.float() - truths[stride]).norm(dim=1).mean()
            for flow, (stride, _) in zip(flows, _LEVELS, strict=True)
        ]
        weights = (weight for _, weight in _LEVELS)
        total = torch.stack([w * e for w, e in zip(weights, errors, strict=True)]).sum()
        return torch.stack((total, _UNIT * errors[-1]))


def at_stride(flow: Tensor, stride: int) -> Tensor:
    """The mean flow around every stride-th pixel: [N, 2, ceil(H / stride), ceil(W / stride)].

    Position p of a feature map lies at pixel p * stride, so the means are centred there.
    """
    return F.avg_pool2d(flow, stride + 1, stride, stride // 2, count_include_pad=False)


def mirrored(sample: FlowSample) -> FlowSample:
    """The sample in a mirror."""
    flow = sample.flow.flip(2) * sample.flow.new_tensor([-1.0, 1.0]).view(2, 1, 1)
    return FlowSample(sample.current.flip(2), sample.key.flip(2), flow)


def zoomed(sample: FlowSample, zoom: float, corner: tuple[float, float]) -> FlowSample:
    """A part of the sample at its full size.

    Args:
        sample: to be cut.
        zoom: 1 or more.
        corner: where the part lies: 0 is at the top (left), 1 at the bottom (right).
    """
    height, width = sample.flow.shape[1:]
    rows, columns = round(height / zoom), round(width / zoom)
    top, left = round(corner[0] * (height - rows)), round(corner[1] * (width - columns))

    def cut(image: Tensor) -> Tensor:
        # Cut first: what lies outside is not worth enlarging.
        part = image[None, :, top : top + rows, left : left + columns]
        return F.interpolate(part, (height, width), mode="bilinear", align_corners=False)[0]

    scale = sample.flow.new_tensor([width / columns, height / rows]).view(2, 1, 1)
    return FlowSample(cut(sample.current), cut(sample.key), cut(sample.flow) * scale)
