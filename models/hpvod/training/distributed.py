"""One training run in several processes, as torchrun starts them.

An explicit sum of all gradients in one flat tensor, and not DistributedDataParallel: which
parameters have a gradient differs between the processes with the mask that each has drawn, and one
iteration has several backward passes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch import distributed as dist


def sum_gradients(parameters: Sequence[nn.Parameter], values: Tensor) -> Tensor:
    """Sums the gradients, in place, and `values` over all processes.

    A parameter without a gradient gets zeros: the optimizer then treats it alike in every process.

    Args:
        parameters: the same in every process.
        values: [n] float32, on the device of the parameters.

    Returns:
        The sum of the values.
    """
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return values
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([*(gradient.flatten().float() for gradient in gradients), values])
    dist.all_reduce(flat)
    start = 0
    for gradient in gradients:
        end = start + gradient.numel()
        gradient.copy_(flat[start:end].view_as(gradient))
        start = end
    return flat[start:]


def wait_for_others() -> None:
    """Returns when every process of the run has called it."""
    if dist.is_initialized():
        dist.barrier()
