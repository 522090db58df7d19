"""FGFA's dense aggregation (Eq. 2): a window of frames whose features are computed once each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hpvod.motion import Stages
from hpvod.networks.flow import FlowOutput
from hpvod_ops import aggregate, warp


@dataclass(frozen=True)
class WindowFrame:
    """A frame of the window: [1, 3, H, W], and its features and embedding, [1, C, h, w]."""

    index: int
    image: Tensor
    feature: Tensor
    embedding: Tensor


class DenseWindow:
    """The frames i - r to i + r of a stream.

    Args:
        radius: r; 0 is no window at all.
    """

    def __init__(self, radius: int) -> None:
        self._radius = radius
        self._frames: deque[WindowFrame] = deque(maxlen=2 * radius + 1)

    def clear(self) -> None:
        """Forgets the stream."""
        self._frames.clear()

    def add(self, frame: WindowFrame) -> None:
        """Takes the stream's next frame."""
        self._frames.append(frame)

    def aggregate(
        self, centre: int, network: Callable[[Tensor, Tensor], FlowOutput], stages: Stages
    ) -> Tensor:
        """F̄_i of Eq. 2 in place of line 20, [1, C, h, w]; repetition pads the stream at its ends.

        Args:
            centre: i, whose window has been read, as far as the stream goes.
            network: the flow network, called with I_i and I_j.
            stages: entered around what it does, as "flow" and "aggregation".
        """
        frames = {frame.index: frame for frame in self._frames}
        i, last = frames[centre], self._frames[-1].index
        # The current frame comes last.
        offsets = (*range(-self._radius, 0), *range(1, self._radius + 1), 0)
        window = [min(max(centre + offset, 0), last) for offset in offsets]
        others = sorted(set(window) - {centre})
        features, embeddings = {centre: i.feature}, {centre: i.embedding}
        if others:
            with stages("flow"):
                keys = torch.cat([frames[j].image for j in others])
                flows = network(i.image.expand_as(keys), keys).flow
            with stages("aggregation"):
                # Eq. 1; DFF's scale map is for the propagated F_k->i of line 18 alone.
                for j, flow in zip(others, flows.split(1), strict=True):
                    features[j] = warp(frames[j].feature, flow)
                    embeddings[j] = warp(frames[j].embedding, flow)
        with stages("aggregation"):
            return aggregate([features[j] for j in window], [embeddings[j] for j in window])
