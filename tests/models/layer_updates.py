from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn


class Recorder:
    """A `LayerUpdate` that changes nothing and remembers what it saw."""

    def __init__(self) -> None:
        self.layers: dict[str, Tensor] = {}
        self.strides: dict[str, int] = {}

    def __call__(self, name: str, feature: Tensor, stride: int) -> Tensor:
        assert name not in self.layers
        self.layers[name] = feature.clone()
        self.strides[name] = stride
        return feature


def at_size(mask: Tensor, height: int, width: int, ratio: int) -> Tensor:
    """The mask [h, w] at a stride that is 1 / ratio of its own."""
    y = (torch.arange(height) // ratio).clamp(max=mask.shape[0] - 1)
    x = (torch.arange(width) // ratio).clamp(max=mask.shape[1] - 1)
    return mask[y[:, None], x]


class Blend:
    """A `LayerUpdate` that keeps active pixels and takes the others from `base`."""

    def __init__(
        self, mask: Tensor, base: Mapping[str, Tensor], skip: Collection[str] = ()
    ) -> None:
        self._mask = mask
        self._base = base
        self._skip = skip

    def __call__(self, name: str, feature: Tensor, stride: int) -> Tensor:
        if name in self._skip:
            return feature
        active = at_size(self._mask, feature.shape[2], feature.shape[3], 16 // stride)
        return torch.where(active, feature, self._base[name])


def poison(network: nn.Module, modules: Collection[str], mask: Tensor) -> None:
    """Make every output of the modules NaN where the mask is False."""

    def hook(_module: nn.Module, _arguments: object, output: Tensor) -> Tensor:
        ratio = round(output.shape[2] / mask.shape[0])
        active = at_size(mask, output.shape[2], output.shape[3], ratio)
        return torch.where(active, output, torch.nan)

    for name in modules:
        network.get_submodule(name).register_forward_hook(hook)
