"""What partial updating has to do in frames of the drawn clip: their images, motion and Q."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.clip import draw_clip, true_flow
from bench.most_changed import MostChanged
from hpvod.config import ModelConfig
from hpvod.preprocess import Preprocess

SIZE = (600, 1000)  # of the paper's network input
_FIRST = 5  # half an interval of ten frames after the key frame, which is frame 0


@dataclass(frozen=True)
class Updates:
    """Successive frames after one key frame, as a batch on the CPU in float32.

    Attributes:
        key: the key frame's network input, [1, 3, H, W].
        images: the frames', [N, 3, H, W].
        flow: their true motion since the key frame, [N, 2, h, w], in pixels at stride 16.
    """

    key: Tensor
    images: Tensor
    flow: Tensor

    def quality(self, density: float) -> Tensor:
        """Q, [N, 1, h, w]: -1 at round(density * h * w) positions that changed most, else 1."""
        most_changed = MostChanged(density)
        return torch.cat([most_changed(self.key, image, None) for image in self.images.split(1)])


@functools.cache
def updates(batch: int) -> Updates:
    """The frames from the fifth on."""
    config = ModelConfig.preset("resnet101")
    preprocess = Preprocess(dataclasses.replace(config, short_side=SIZE[0], long_side=SIZE[1]))
    frames = list(draw_clip(_FIRST + batch, SIZE))
    key, *images = (
        preprocess(frame, torch.device("cpu"), torch.float32)
        for frame in (frames[0], *frames[_FIRST:])
    )
    height, width = (-(-side // 16) for side in SIZE)
    flows = [true_flow(_FIRST + index, 0, height, width) for index in range(batch)]
    return Updates(key, torch.cat(images), torch.cat(flows))


def at_ratio(mask: Tensor, ratio: int, size: tuple[int, int]) -> Tensor:
    """U of a layer: [N, 1, h, w] by nearest neighbour, every position `ratio` times each way."""
    height, width = size
    repeated = mask.repeat_interleave(ratio, 2).repeat_interleave(ratio, 3)
    return repeated[:, :, :height, :width]
