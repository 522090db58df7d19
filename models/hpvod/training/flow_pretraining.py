"""Supervised training of the flow network: end-point errors at every level, as FlowNet has it."""

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
from hpvod.training.flow_target import at_stride, flow_target

_UNIT = 40
"""Pixels of the image that a flow of 1 stands for."""
_WEIGHTS = (0.25, 0.25, 0.25, 0.5, 1.0)
"""Of the levels, coarse to fine. The last is made of what the fourth is; not tuned."""
_MATCHES_WEIGHT = 0.5  # likewise
_CUT = 5 / 6  # of either side: about what FlowNet's training cuts out of its images


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
        sample = cut(sample, random.uniform(), random.uniform())
        for axis in (0, 1):
            if random.integers(2):
                sample = mirrored(sample, axis)
        return recoloured(sample, random.permutation(3).tolist())

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
        """The sum over the levels, and the last level's mean end-point error in pixels; of N.

        Both are against `flow_target`, not against the flow itself. What the matches say is
        compared with the flow: what is around an object is found where it has gone itself.
        """
        mean = self._mean.to(device)
        flows, matched = self._network.levels(
            *(
                (image.to(device).float() - mean).contiguous(memory_format=torch.channels_last)
                for image in (sample.current, sample.key)
            )
        )
        flow = sample.flow.to(device)
        target = flow_target(flow) / _UNIT
        errors = [
            (found.float() - at_stride(target, stride)).norm(dim=1).mean()
            for found, stride in zip(flows, self._network.level_strides, strict=True)
        ]
        total = torch.stack([w * e for w, e in zip(_WEIGHTS, errors, strict=True)]).sum()
        if matched is not None:
            exact = F.avg_pool2d(flow, 17, 16, 8, count_include_pad=False) / _UNIT
            total = total + _MATCHES_WEIGHT * (matched.float() - exact).norm(dim=1).mean()
        return torch.stack((total, _UNIT * errors[-1]))


def mirrored(sample: FlowSample, axis: int) -> FlowSample:
    """The sample in a mirror: left is right (axis 0), or up is down (axis 1)."""
    sign = sample.flow.new_ones(2, 1, 1)
    sign[axis] = -1
    dim = 2 - axis
    return FlowSample(sample.current.flip(dim), sample.key.flip(dim), sample.flow.flip(dim) * sign)


def recoloured(sample: FlowSample, channels: list[int]) -> FlowSample:
    """The sample with the images' R, G and B taken from those channels."""
    return FlowSample(sample.current[channels], sample.key[channels], sample.flow)


def cut(sample: FlowSample, down: float, right: float) -> FlowSample:
    """A part of the sample.

    Args:
        sample: to be cut.
        down: where the part lies: 0 is at the top, 1 at the bottom.
        right: likewise, from the left.
    """
    height, width = sample.flow.shape[1:]
    rows, columns = round(height * _CUT), round(width * _CUT)
    top, left = round(down * (height - rows)), round(right * (width - columns))
    where = (..., slice(top, top + rows), slice(left, left + columns))
    return FlowSample(
        sample.current[where].clone(), sample.key[where].clone(), sample.flow[where].clone()
    )
