"""What line 9 of Algorithm 1 tells of a frame: its motion and consistency (Eq. 5, 6 and 9)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property

from torch import Tensor

from hpvod.networks.flow import FlowNetwork, FlowOutput

Stages = Callable[[str], AbstractContextManager[object]]
"""A context around each stage of a frame: "preprocess", "flow", "features", "embedding",
"aggregation", "detection". A frame may enter a stage not at all or more than once."""

Consistency = Callable[[Tensor, Tensor, FlowOutput], Tensor]
"""Q_k->i [1, 1, h, w] from I_k and I_i, both [1, 3, H, W], and the flow network's output."""


class Motion:
    """M_i->k and Q_k->i, each evaluated when first read.

    Some frames read neither: a key frame of a fixed schedule that is not aggregated with another.
    Only adaptive schedules and partial updates read Q.

    Args:
        network: the flow network.
        k: the key frame I_k, [1, 3, H, W].
        i: the current frame I_i, likewise.
        tau: of Eq. 6.
        consistency: computes Q in place of the network's Q head.
        stages: entered around both evaluations, as "flow".
    """

    def __init__(
        self,
        network: FlowNetwork,
        k: Tensor,
        i: Tensor,
        *,
        tau: float,
        consistency: Consistency | None,
        stages: Stages,
    ) -> None:
        self._network = network
        self._k = k
        self._i = i
        self._tau = tau
        self._consistency = consistency
        self._stages = stages

    @cached_property
    def flow(self) -> FlowOutput:
        """The flow network's output, Eq. 5."""
        with self._stages("flow"):
            output: FlowOutput = self._network(self._i, self._k)
        return output

    @cached_property
    def mask(self) -> Tensor:
        """U_k->i of Eq. 6, bool [1, 1, h, w].

        Raises:
            ValueError: `consistency` gave a Q of another shape.
        """
        quality = self.flow.quality
        if self._consistency is not None:
            wanted = quality.shape
            with self._stages("flow"):
                quality = self._consistency(self._k, self._i, self.flow)
            if quality.shape != wanted:
                raise ValueError(
                    f"consistency: expected Q of shape {list(wanted)}, got {list(quality.shape)}"
                )
        return quality <= self._tau

    @cached_property
    def updated(self) -> float:
        """The share of positions where U is 1: what Eq. 9 compares with gamma."""
        # Counted, since a float32 mean can exceed a gamma that the true share only equals.
        return int(self.mask.sum()) / self.mask.numel()
