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


class ToHost:
    """Tensors on their way to the CPU, all together; nothing waits before they are asked for.

    Args:
        tensors: of one device. Those of a GPU are copied in the order of its stream, so what comes
            after may overwrite them; those of the CPU are passed on as they are.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._copies = list(tensors)
        self._arrived: torch.cuda.Event | None = None
        if tensors[0].device.type == "cuda":
            self._copies = [
                torch.empty(each.shape, dtype=each.dtype, pin_memory=True).copy_(
                    each, non_blocking=True
                )
                for each in tensors
            ]
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def wait(self) -> list[Tensor]:
        """The tensors on the CPU, once they are there."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._copies
