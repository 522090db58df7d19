"""PartialUpdate (Section 3.2, Eq. 6 and 10): line 18 of Algorithm 1, in its three cases.

An update gives one frame's features and embedding. Methods that never update in part take a
`FullUpdate` where U = 1 everywhere and a `Propagation` where U = 0, and keep no layer of a key
frame but its results; the others take a `PartialUpdate` for any U.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from hpvod.model import HPVODModel
from hpvod.networks.flow import FlowOutput
from hpvod.sparse_network import SparseNetwork
from hpvod_ops import UpdatePlan, warp


class Update(Protocol):
    """Line 18 of Algorithm 1 for one frame."""

    def feature(self, image: Tensor) -> Tensor:
        """F̂_i, [1, C, h, w], of I_i, [1, 3, H, W]."""

    def embedding(self, feature: Tensor) -> Tensor:
        """E(F̂_i), [1, E, h, w], of F̂_i."""


class FullUpdate:
    """Computes a key frame from scratch by the dense networks: Q = -inf, U = 1.

    Args:
        model: its feature and embedding networks are run.
    """

    def __init__(self, model: HPVODModel) -> None:
        self._model = model

    def feature(self, image: Tensor) -> Tensor:
        """F_k, [1, C, h, w], of I_k, [1, 3, H, W]."""
        result: Tensor = self._model.features(image)
        return result

    def embedding(self, feature: Tensor) -> Tensor:
        """E(F_k), [1, E, h, w], of F_k."""
        result: Tensor = self._model.embedding(feature)
        return result


class Propagation:
    """Takes all from the key frame by Eq. 1 and runs no network: Q = +inf, U = 0.

    Args:
        feature: F_k, [1, C, h, w].
        embedding: E(F_k), [1, E, h, w], if it is to be propagated as well.
        flow: M_i->k, [1, 2, h, w], and the optional scale map, which multiplies the features.
    """

    def __init__(self, feature: Tensor, embedding: Tensor | None, flow: FlowOutput) -> None:
        self._feature = feature
        self._embedding = embedding
        self._flow = flow

    def feature(self, image: Tensor) -> Tensor:
        """F_k->i, [1, C, h, w]; the image is not read."""
        return warp(self._feature, self._flow.flow, self._flow.scale)

    def embedding(self, feature: Tensor) -> Tensor:
        """E(F_k) warped, [1, E, h, w]; the feature is not read."""
        assert self._embedding is not None
        return warp(self._embedding, self._flow.flow)


class PartialUpdate:
    """Recomputes where U is 1 and takes the rest from the last key frame, layer by layer.

    Args:
        network: holds the key frame's layers, and the results: they are valid as long as it says.
        plan: where U is 1, as `network.plan` or `network.key_plan` has it.
        flow: as for `Propagation`; None for a key frame, with U = 1 everywhere, whose layers are
            kept for the frames after it.
    """

    def __init__(self, network: SparseNetwork, plan: UpdatePlan, flow: FlowOutput | None) -> None:
        self._network = network
        self._plan = plan
        self._flow = None if flow is None else _in_layout(flow)

    def feature(self, image: Tensor) -> Tensor:
        """F̂_i, [1, C, h, w], of I_i, [1, 3, H, W]."""
        return self._network.feature(image, self._plan, self._flow)

    def embedding(self, feature: Tensor) -> Tensor:
        """E(F̂_i), [1, E, h, w], of F̂_i."""
        return self._network.embedding(feature, self._plan, self._flow)


def _in_layout(output: FlowOutput) -> FlowOutput:
    """As `SparseNetwork` takes it, whatever the layout that the flow network runs in."""
    scale = output.scale
    if scale is not None:
        scale = scale.contiguous(memory_format=torch.channels_last)
    return output._replace(flow=output.flow.contiguous(), scale=scale)
