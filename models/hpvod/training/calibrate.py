"""Batch normalisation for training from scratch: statistics measured once, scale and bias trained.

Statistics of 1 and 0, as of a model that nobody has trained, leave each channel at a scale and
offset of chance. Measured once and written where trained ones would be, they change nothing
about inference.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from hpvod.networks.feature import FeatureNetwork


@torch.no_grad()
def calibrate_batch_norm_(features: FeatureNetwork, images: Tensor) -> None:
    """Writes into every normalisation the statistics of its inputs, one layer after the other.

    Each layer is measured on what those before it make of the images with their own new statistics.

    Args:
        features: the feature network, changed in place.
        images: [N, 3, h, w], as the network takes them; a batch of typical ones.
    """

    def measure(module: nn.Module, arguments: tuple[Tensor]) -> None:
        (x,) = arguments
        assert isinstance(module, FrozenBatchNorm2d)
        variance, mean = torch.var_mean(x.float(), dim=(0, 2, 3))
        module.running_mean.copy_(mean)
        module.running_var.copy_(variance)

    hooks = [
        module.register_forward_pre_hook(measure)
        for module in features.modules()
        if isinstance(module, FrozenBatchNorm2d)
    ]
    try:
        features(images)
    finally:
        for hook in hooks:
            hook.remove()


def train_batch_norm_(features: FeatureNetwork) -> None:
    """Makes parameters of the normalisations' scales and biases; the statistics stay frozen.

    Their names in the state dict stay as they are. Without this, a network from scratch has no
    bias that it could learn in any layer but its last.
    """
    for module in features.modules():
        if isinstance(module, FrozenBatchNorm2d):
            for name in ("weight", "bias"):
                value = getattr(module, name)
                delattr(module, name)
                module.register_parameter(name, nn.Parameter(value))
