"""Between host and device: a GPU's work goes on while its tensors are on their way."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device; nothing waits for a GPU.

    Args:
        tensor: on the CPU; elsewhere it is copied as PyTorch does.
        device: where to.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors on the CPU: themselves, or copies that are waited for once, all together."""
    if tensors[0].device.type != "cuda":
        return list(tensors)
    copies = [
        torch.empty(each.shape, dtype=each.dtype, pin_memory=True).copy_(each, non_blocking=True)
        for each in tensors
    ]
    arrived = torch.cuda.Event()
    arrived.record()
    arrived.synchronize()
    return copies
