"""PartialUpdate (Section 3.2, Eq. 6 and 10): line 18 of Algorithm 1, in its three cases.

An update gives one frame's features and embedding. U = 1 everywhere is a `FullUpdate`, U = 0 a
`Propagation`, anything between a `PartialUpdate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from hpvod.model import HPVODModel
from hpvod.networks.feature import STRIDE
from hpvod.networks.flow import FlowOutput
from hpvod_ops import warp

FEATURE = "feat_conv"
"""The name under which the feature network's result is updated."""

EMBEDDING = "embed"
"""The name under which the embedding network's result is updated."""

KeyLayers = Mapping[str, Tensor]
"""F_k of every layer that is updated, by name; at least `FEATURE` and, if embedded, `EMBEDDING`."""


class Update(Protocol):
    """Line 18 of Algorithm 1 for one frame."""

    @property
    def layers(self) -> KeyLayers:
        """F_k for the frames after this one."""

    def feature(self, image: Tensor) -> Tensor:
        """F̂_i, [1, C, h, w], of I_i, [1, 3, H, W]."""

    def embedding(self, feature: Tensor) -> Tensor:
        """E(F̂_i), [1, E, h, w], of F̂_i."""


class FullUpdate:
    """Computes a key frame from scratch: Q = -inf, U = 1.

    Args:
        model: its feature and embedding networks are run.
        keep_layers: keep every layer's features, as `PartialUpdate` needs, or the results alone.

    Attributes:
        layers: what was kept, F_k for the frames after this one.
    """

    def __init__(self, model: HPVODModel, *, keep_layers: bool) -> None:
        self.layers: dict[str, Tensor] = {}
        self._model = model
        self._keep_layers = keep_layers

    def feature(self, image: Tensor) -> Tensor:
        """F_k, [1, C, h, w], of I_k, [1, 3, H, W]."""
        result: Tensor = self._model.features(image, self._keep)
        return result

    def embedding(self, feature: Tensor) -> Tensor:
        """E(F_k), [1, E, h, w], of F_k."""
        result: Tensor = self._model.embedding(feature, self._keep)
        return result

    def _keep(self, name: str, feature: Tensor, stride: int) -> Tensor:
        if self._keep_layers or name in (FEATURE, EMBEDDING):
            self.layers[name] = feature
        return feature


class Propagation:
    """Takes all from the key frame by Eq. 1 and runs no network: Q = +inf, U = 0."""

    def __init__(self, layers: KeyLayers, flow: FlowOutput) -> None:
        self.layers = layers
        self._flow = flow

    def feature(self, image: Tensor) -> Tensor:
        """F_k->i, [1, C, h, w]; the image is not read."""
        return warp(self.layers[FEATURE], self._flow.flow, self._flow.scale)

    def embedding(self, feature: Tensor) -> Tensor:
        """E(F_k) warped, [1, E, h, w]; the feature is not read."""
        return warp(self.layers[EMBEDDING], self._flow.flow)


class PartialUpdate:
    """Recomputes where U is 1 and takes the rest from the key frame, layer by layer.

    This is the definition that faster implementations are held to: each layer is computed densely
    from the last layer's blend, F̂(n) = U ? N(n)(F̂(n-1)) : W(F_k(n), M).

    Args:
        model: its feature and embedding networks are run.
        layers: F_k of every layer, from a `FullUpdate` with `keep_layers`.
        flow: M_i->k, [1, 2, h, w] in pixels of the features, and the optional scale map, which
            multiplies the propagated result of the feature network and no other layer.
        mask: U_k->i, bool, [1, 1, h, w].
    """

    def __init__(
        self, model: HPVODModel, layers: KeyLayers, flow: FlowOutput, mask: Tensor
    ) -> None:
        self._model = model
        self.layers = layers
        self._flow = flow
        self._mask = mask
        self._at_stride: dict[int, tuple[Tensor, Tensor]] = {}

    def feature(self, image: Tensor) -> Tensor:
        """F̂_i, [1, C, h, w], of I_i, [1, 3, H, W]."""
        result: Tensor = self._model.features(image, self._blend)
        return result

    def embedding(self, feature: Tensor) -> Tensor:
        """E(F̂_i), [1, E, h, w], of F̂_i."""
        result: Tensor = self._model.embedding(feature, self._blend)
        return result

    def _blend(self, name: str, feature: Tensor, stride: int) -> Tensor:
        if stride not in self._at_stride:
            height, width = feature.shape[2:]
            self._at_stride[stride] = (
                mask_at_stride(self._mask, stride, height, width),
                flow_at_stride(self._flow.flow, stride, height, width),
            )
        mask, flow = self._at_stride[stride]
        scale = self._flow.scale if name == FEATURE else None
        return torch.where(mask, feature, warp(self.layers[name], flow, scale))


def mask_at_stride(mask: Tensor, stride: int, height: int, width: int) -> Tensor:
    """U of a layer of the given stride: nearest neighbour, every pixel repeated 16 / stride times.

    At exactly this ratio the active pixels of one layer are those that a strided convolution of
    the layer before it is centred on.

    Args:
        mask: [N, 1, h, w] at stride 16.
        stride: of the layer, a divisor of 16.
        height: of the layer, in its pixels.
        width: likewise.

    Returns:
        [N, 1, height, width], in the dtype of `mask`.
    """
    y = _clamped(torch.arange(height, device=mask.device) * stride // STRIDE, mask.shape[2])
    x = _clamped(torch.arange(width, device=mask.device) * stride // STRIDE, mask.shape[3])
    return mask[:, :, y[:, None], x]


def flow_at_stride(flow: Tensor, stride: int, height: int, width: int) -> Tensor:
    """The flow of a layer of the given stride: bilinear between pixels, clamped at the border.

    Pixel p of the layer lies at p * stride / 16 of the flow, and a displacement is 16 / stride
    times as many pixels there.

    Args:
        flow: [N, 2, h, w] at stride 16, in pixels of that stride.
        stride: of the layer, a divisor of 16.
        height: of the layer, in its pixels.
        width: likewise.

    Returns:
        [N, 2, height, width] in pixels of the layer, float32 (float64 for a float64 flow).
    """
    ratio = STRIDE // stride
    flow = flow.to(torch.promote_types(flow.dtype, torch.float32))
    rows = _interpolated(flow, dim=2, ratio=ratio, size=height)
    return ratio * _interpolated(rows, dim=3, ratio=ratio, size=width)


def _interpolated(maps: Tensor, dim: int, ratio: int, size: int) -> Tensor:
    position = torch.arange(size, device=maps.device)
    low = position // ratio
    shape = [1] * maps.ndim
    shape[dim] = size
    fraction = (position % ratio).to(maps.dtype).div(ratio).view(shape)
    return torch.lerp(
        maps.index_select(dim, _clamped(low, maps.shape[dim])),
        maps.index_select(dim, _clamped(low + 1, maps.shape[dim])),
        fraction,
    )


def _clamped(index: Tensor, size: int) -> Tensor:
    return index.clamp(max=size - 1)
