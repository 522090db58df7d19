from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def random_image(height: int, width: int, seed: int = 0, batch: int = 1) -> Tensor:
    """A smooth scene with a little noise, as the networks take it: [batch, 3, height, width]."""
    generator = torch.Generator().manual_seed(seed)
    scene = torch.randn(batch, 3, height // 16 + 2, width // 16 + 2, generator=generator)
    scene = F.interpolate(scene, size=(height, width), mode="bilinear")
    return 60 * scene + 10 * torch.randn(batch, 3, height, width, generator=generator)


def randomise_batch_norm(module: torch.nn.Module, seed: int = 0) -> None:
    """Statistics and weights as different between channels as trained ones are."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if name.endswith(("running_var", "bn.weight")):
            tensor.mul_(0.5 + torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype))
        elif name.endswith(("running_mean", "bn.bias")):
            tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype))
