"""Section 3.2 by its definition, every layer dense: what the sparse network is held to."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hpvod.model import HPVODModel
from hpvod.networks.feature import STRIDE
from hpvod.networks.flow import FlowOutput
from hpvod_ops.reference.warp import warp


class DenseUpdate:
    """A `LayerUpdate`: F̂(n) = U ? N(n)(F̂(n-1)) : W(F_k(n), M).

    Args:
        layers: F_k of every layer, by name; without them nothing is changed, as on a key frame.
        flow: M_i->k, [N, 2, h, w], and the optional scale map, which multiplies the propagated
            result of the feature network and no other layer.
        mask: U_k->i, bool, [N, 1, h, w].

    Attributes:
        layers: of this frame, by name.
    """

    def __init__(
        self,
        layers: Mapping[str, Tensor] | None = None,
        flow: FlowOutput | None = None,
        mask: Tensor | None = None,
    ) -> None:
        self.layers: dict[str, Tensor] = {}
        self._key, self._flow, self._mask = layers, flow, mask

    def __call__(self, name: str, feature: Tensor, stride: int) -> Tensor:
        if self._key is not None:
            mask = mask_at_stride(self._mask, stride, *feature.shape[2:])
            flow = flow_at_stride(self._flow.flow, stride, *feature.shape[2:])
            scale = self._flow.scale if name == "feat_conv" else None
            feature = torch.where(mask, feature, warp(self._key[name], flow, scale))
        self.layers[name] = feature.clone()
        return feature


@torch.no_grad()
def dense_update(
    model: HPVODModel,
    image: Tensor,
    layers: Mapping[str, Tensor] | None = None,
    flow: FlowOutput | None = None,
    mask: Tensor | None = None,
) -> dict[str, Tensor]:
    """Every layer of a frame, by name; F̂_i is "feat_conv" and E(F̂_i) is "embed"."""
    update = DenseUpdate(layers, flow, mask)
    model.embedding(model.features(image, update), update)
    return update.layers


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
