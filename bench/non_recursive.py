"""Figure 4's alternative to c1: a key frame aggregated with the last key frames' own features."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from hpvod.frame_result import FrameResult
from hpvod.model import HPVODModel
from hpvod.operations import PerNetwork
from hpvod.packed_flow import PackedFlow
from hpvod.preprocess import Frame, Preprocess
from hpvod_ops import aggregate, warp, warp_aggregate


class NonRecursive:
    """c1 with Eq. 2 over the last key frames on its key frames, in place of Eq. 4's recursion.

    Other frames are c1's: the propagated feature of the last key frame, aggregated with what that
    key frame made of it (line 20 of Algorithm 1).

    Args:
        model: the networks, in evaluation mode; it runs on their device and in their dtype.
        interval: frames from one key frame to the next.
        keys: how many key frames are aggregated, the current one included; 1 aggregates nothing,
            and 2 looks back as far as c1 does in one step.
    """

    def __init__(self, model: HPVODModel, interval: int, keys: int) -> None:
        self._model = model
        self._interval = interval
        self._preprocess = Preprocess(model.config)
        self._parameter = next(model.parameters())
        self._flow = PackedFlow(model.flow) if self._parameter.device.type == "cpu" else model.flow
        self._keys: deque[_Key] = deque(maxlen=keys)
        self._aggregated = self._embedding = torch.empty(0)
        self._count = 0

    def reset(self) -> None:
        """Forgets the video: the next frame is frame 0 of a new one."""
        self._keys.clear()
        self._count = 0

    @torch.inference_mode()
    def step(self, frame: Frame) -> FrameResult:
        """Takes the next frame of the video, as `VideoDetector.step` does.

        Raises:
            ValueError: `frame` is no image, or of another size than those before it.
        """
        image = self._preprocess(frame, self._parameter.device, self._parameter.dtype)
        if self._keys and image.shape != self._keys[-1].image.shape:
            raise ValueError(f"frame {self._count}: of another size than those before it")
        is_key = self._count % self._interval == 0
        feature = self._of_key(image) if is_key else self._propagated(image)
        size = (image.shape[2], image.shape[3])
        found = self._model.detection(feature, size).of_image(0)
        y, x = frame.shape[0] / size[0], frame.shape[1] / size[1]
        self._count += 1
        return FrameResult(
            index=self._count - 1,
            time=None,
            is_key=is_key,
            updated=float(is_key),
            boxes=found.boxes * torch.tensor((x, y, x, y)),
            labels=found.labels,
            scores=found.scores,
            mask=None,
        )

    def _of_key(self, image: Tensor) -> Tensor:
        """Eq. 2 for a key frame, over those before it and itself."""
        feature = self._model.features(image)
        self._keys.append(_Key(image, feature, self._model.embedding(feature)))
        *others, current = self._keys
        features, embeddings = [], []
        if others:
            images = torch.cat([key.image for key in others])
            flows = self._flow(image.expand_as(images), images).flow.split(1)
            for key, flow in zip(others, flows, strict=True):
                features.append(warp(key.feature, flow))
                embeddings.append(warp(key.embedding, flow))
        self._aggregated = aggregate([*features, current.feature], [*embeddings, current.embedding])
        self._embedding = self._model.embedding(self._aggregated)
        return self._aggregated

    def _propagated(self, image: Tensor) -> Tensor:
        """Lines 18 and 20 with U = 0 everywhere."""
        key = self._keys[-1]
        output = self._flow(image, key.image)
        flow = output.flow.contiguous()
        return warp_aggregate(
            self._aggregated,
            self._embedding,
            key.feature,
            key.embedding,
            flow,
            mask=torch.zeros_like(flow[:, :1], dtype=torch.bool),
            own_feature=key.feature,
            own_embedding=key.embedding,
            scale=output.scale,
        )


def runs_a_frame(interval: int, keys: int, clips: list[int]) -> PerNetwork:
    """How often each network runs on a frame, on the mean, as `hpvod.operations` counts.

    Args:
        interval: as of `NonRecursive`; likewise the next.
        keys: how many key frames are aggregated.
        clips: how many frames each clip has.
    """
    key_frames = flows = 0
    for count in clips:
        here = -(-count // interval)
        key_frames += here
        flows += count - here + sum(min(number, keys - 1) for number in range(here))
    frames = sum(clips)
    return PerNetwork(key_frames / frames, 2 * key_frames / frames, flows / frames, 1)


@dataclass(frozen=True)
class _Key:
    """A key frame: its image, and its own features and their embedding."""

    image: Tensor
    feature: Tensor
    embedding: Tensor
