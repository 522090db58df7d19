"""How many multiply-adds a frame takes: speed without a machine."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from hpvod.config import ModelConfig
from hpvod.method import Method
from hpvod.model import HPVODModel


@dataclass(frozen=True)
class PerNetwork:
    """A number for each of the four networks of Section 3.5.

    Attributes:
        features: of N_feat.
        embedding: of the embedding network.
        flow: of N_flow.
        detection: of N_det.
    """

    features: float
    embedding: float
    flow: float
    detection: float

    def dot(self, other: PerNetwork) -> float:
        """The sum of the products of both."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return float(sum(number * times for number, times in pairs))


@functools.cache
def multiply_adds(config: ModelConfig, image_size: tuple[int, int]) -> PerNetwork:
    """The multiply-adds of the dense networks' convolutions on one image.

    Args:
        config: of the model.
        image_size: (height, width) of the networks' input in pixels.
    """
    with FakeTensorMode():  # shapes alone
        model = HPVODModel(config).eval()
        image = torch.empty(1, 3, *image_size)
        feature = model.features(image)
        return PerNetwork(
            features=_counted(lambda: model.features(image)),
            embedding=_counted(lambda: model.embedding(feature)),
            flow=_counted(lambda: model.flow(image, image)),
            detection=_counted(lambda: model.detection(feature, image_size)),
        )


def runs_a_frame(
    method: Method, clips: Sequence[int], key_share: float, updated: float
) -> PerNetwork:
    """How often each network runs on a frame, on the mean; in a part of a frame counts as a part.

    Times `multiply_adds` it is what Algorithm 1 computes. Warping and aggregating, which take far
    below a hundredth of it, are left out, and so is the stem's rim around what is updated.

    Args:
        method: the row of Table 1.
        clips: how many frames each clip has.
        key_share: key frames a frame.
        updated: mean of U, which is 1 on key frames.
    """
    first = len(clips) / sum(clips)
    if method.window:
        radius = method.window
        flows = [
            min(i + radius, count - 1) - max(i - radius, 0) for count in clips for i in range(count)
        ]
        return PerNetwork(1, 1, sum(flows) / len(flows), 1)
    if method.keys_only:
        return PerNetwork(1, 0, 0, 1)
    reads_only_others = method.key == "every" and not method.do_aggr
    return PerNetwork(
        features=updated,
        # Of a key frame once more: line 20 compares what it made of it.
        embedding=updated + key_share if method.do_aggr else 0,
        flow=1 - key_share if reads_only_others else 1 - first,
        detection=1,
    )


def _counted(run: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops() / 2)  # it counts a multiply-add as two
