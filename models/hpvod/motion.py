"""What line 9 of Algorithm 1 tells of a frame: its motion and consistency (Eq. 5)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property

import torch
from torch import Tensor

from hpvod.networks.flow import FlowOutput

Stages = Callable[[str], AbstractContextManager[object]]
"""A context around each stage of a frame: "preprocess", "flow", "plan", "features", "embedding",
"aggregation", "detection". A frame may enter a stage not at all or more than once."""

Consistency = Callable[[Tensor, Tensor, FlowOutput], Tensor]
"""Q_k->i [1, 1, h, w] from I_k and I_i, both [1, 3, H, W], and the flow network's output. What it
is given is valid during the call."""


class Motion:
    """M_i->k and Q_k->i of a batch of frames, evaluated when first read.

    Some frames read neither: a key frame of a fixed schedule that is not aggregated with another.

    Args:
        network: the flow network, called with I_i and I_k.
        k: the key frames I_k, [N, 3, H, W].
        i: the current frames I_i, likewise.
        consistency: computes Q of each frame in place of the network's Q head.
        stages: entered around each evaluation, as "flow".
    """

    def __init__(
        self,
        network: Callable[[Tensor, Tensor], FlowOutput],
        k: Tensor,
        i: Tensor,
        *,
        consistency: Consistency | None,
        stages: Stages,
    ) -> None:
        self._network = network
        self._k = k
        self._i = i
        self._consistency = consistency
        self._stages = stages

    @cached_property
    def flow(self) -> FlowOutput:
        """The flow network's output, Eq. 5."""
        with self._stages("flow"):
            output: FlowOutput = self._network(self._i, self._k)
        return output

    @cached_property
    def quality(self) -> Tensor:
        """Q_k->i, [N, 1, h, w].

        Raises:
            ValueError: `consistency` gave a Q of another shape.
        """
        output = self.flow
        if self._consistency is None:
            return output.quality
        wanted = output.quality[:1].shape
        qualities = []
        with self._stages("flow"):
            for number in range(len(self._k)):
                one = slice(number, number + 1)
                scale = None if output.scale is None else output.scale[one]
                of_one = FlowOutput(output.flow[one], output.quality[one], scale)
                quality = self._consistency(self._k[one], self._i[one], of_one)
                if quality.shape != wanted:
                    raise ValueError(
                        f"consistency: expected Q of shape {list(wanted)}, got "
                        f"{list(quality.shape)}"
                    )
                qualities.append(quality)
            return torch.cat(qualities)
