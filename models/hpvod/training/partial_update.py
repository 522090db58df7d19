"""Partial feature updating for training: Eq. 6 layer by layer, dense and differentiable.

`SparseNetwork` computes the same features where they are read.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from hpvod.networks.feature import STRIDE
from hpvod.networks.flow import FlowOutput
from hpvod_ops import warp


class KeyLayers:
    """A `LayerUpdate` that changes nothing and keeps a key frame's layers.

    Attributes:
        layers: F_k of every layer, by name.
    """

    def __init__(self) -> None:
        self.layers: dict[str, Tensor] = {}

    def __call__(self, name: str, feature: Tensor, stride: int) -> Tensor:
        """Keeps the layer."""
        self.layers[name] = feature
        return feature


class PartialUpdate:
    """A `LayerUpdate`: F̂(n) = U N(n)(F̂(n-1)) + (1 - U) W(F_k(n), M).

    Differentiable in the layers, the flow and U.

    Args:
        layers: F_k of every layer, by name.
        motion: M_i->k, [N, 2, h, w], and the scale map, where the flow network has one. It
            multiplies the propagated result of the feature network and no other layer.
        mask: U_k->i, [N, 1, h, w], of values 0 and 1.
    """

    def __init__(self, layers: Mapping[str, Tensor], motion: FlowOutput, mask: Tensor) -> None:
        self._layers = layers
        self._motion = motion
        self._mask = mask
        self._at_stride: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, name: str, feature: Tensor, stride: int) -> Tensor:
        """The layer, partially updated."""
        if stride not in self._at_stride:
            height, width = feature.shape[2:]
            self._at_stride[stride] = (
                _mask_at(self._mask, stride, height, width),
                _flow_at(self._motion.flow, stride, height, width),
            )
        mask, flow = self._at_stride[stride]
        mask = mask.to(feature.dtype)
        scale = self._motion.scale if name == "feat_conv" else None
        return mask * feature + (1 - mask) * propagated(self._layers[name], flow, scale)


def propagated(key_feature: Tensor, flow: Tensor, scale: Tensor | None) -> Tensor:
    """F_k->i of Eq. 1, in the dtype of F_k, whatever mixed precision has made of the others.

    Args:
        key_feature: F_k, [N, C, h, w].
        flow: M_i->k, [N, 2, h, w], in pixels of F_k.
        scale: like F_k, multiplied onto the result; or None.
    """
    if scale is not None:
        scale = scale.to(key_feature.dtype)
    return warp(key_feature, at_least_float32(flow), scale)


def _mask_at(mask: Tensor, stride: int, height: int, width: int) -> Tensor:
    """U of a layer of that stride and size: nearest neighbour, as in Section 3.2."""
    ratio = STRIDE // stride
    repeated = mask.repeat_interleave(ratio, dim=2).repeat_interleave(ratio, dim=3)
    return repeated[..., :height, :width]


def _flow_at(flow: Tensor, stride: int, height: int, width: int) -> Tensor:
    """M of a layer of that stride and size, in its pixels: bilinear, constant at the far border.

    Pixel p of the layer lies at p * stride / 16 of the flow.
    """
    ratio = STRIDE // stride
    rows, columns = flow.shape[2:]
    bordered = F.pad(at_least_float32(flow), (0, 1, 0, 1), mode="replicate")
    size = (rows * ratio + 1, columns * ratio + 1)
    fine = F.interpolate(bordered, size, mode="bilinear", align_corners=True)
    return ratio * fine[..., :height, :width]


def at_least_float32(flow: Tensor) -> Tensor:
    """The flow in no less than float32: half a unit of 16 bits may be a pixel of the image."""
    return flow.to(torch.promote_types(flow.dtype, torch.float32))
