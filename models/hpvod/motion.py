"""What line 9 of Algorithm 1 tells of a frame: its motion and consistency (Eq. 5, 6 and 9)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property

from torch import Tensor

from hpvod.networks.flow import FlowOutput
from hpvod_ops import UpdatePlan, update_plan

Stages = Callable[[str], AbstractContextManager[object]]
"""A context around each stage of a frame: "preprocess", "flow", "plan", "features", "embedding",
"aggregation", "detection". A frame may enter a stage not at all or more than once."""

Consistency = Callable[[Tensor, Tensor, FlowOutput], Tensor]
"""Q_k->i [1, 1, h, w] from I_k and I_i, both [1, 3, H, W], and the flow network's output."""


class Motion:
    """M_i->k and what Q_k->i decides, each evaluated when first read.

    Some frames read neither: a key frame of a fixed schedule that is not aggregated with another.
    Only adaptive schedules and partial updates read Q.

    Args:
        network: the flow network, called with I_i and I_k.
        k: the key frame I_k, [1, 3, H, W].
        i: the current frame I_i, likewise.
        tau: of Eq. 6.
        gamma: of Eq. 9; 1 for a schedule that does not ask Q.
        out: the plan to refill, where pixels are updated by it.
        consistency: computes Q in place of the network's Q head.
        stages: entered around each evaluation, as "flow" and "plan".
    """

    def __init__(
        self,
        network: Callable[[Tensor, Tensor], FlowOutput],
        k: Tensor,
        i: Tensor,
        *,
        tau: float,
        gamma: float,
        out: UpdatePlan | None,
        consistency: Consistency | None,
        stages: Stages,
    ) -> None:
        self._network = network
        self._k = k
        self._i = i
        self._tau = tau
        self._gamma = gamma
        self._out = out
        self._consistency = consistency
        self._stages = stages

    @cached_property
    def flow(self) -> FlowOutput:
        """The flow network's output, Eq. 5."""
        with self._stages("flow"):
            output: FlowOutput = self._network(self._i, self._k)
        return output

    @cached_property
    def plan(self) -> UpdatePlan:
        """U_k->i of Eq. 6, and whether it makes the frame a key frame by Eq. 9.

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
        with self._stages("plan"):
            if self._out is None:
                return update_plan(quality, self._tau, self._gamma, sets=())
            return update_plan(quality, self._tau, self._gamma, out=self._out)
