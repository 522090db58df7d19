"""Gradients of an op that has no kernels for them: those of the PyTorch ops that it is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def gradients_of(
    composition: Callable[[Sequence[Tensor | None]], Tensor],
    inputs: Sequence[Tensor | None],
    needed: Sequence[bool],
    grad_output: Tensor,
) -> list[Tensor | None]:
    """Computes the composition anew and takes its gradients.

    Args:
        composition: the op, as a function of its inputs.
        inputs: the saved ones.
        needed: which of them need a gradient.
        grad_output: the gradient of the op's output.

    Returns:
        A gradient for each input, None where none is needed.
    """
    differentiable = torch.is_grad_enabled()  # the caller's create_graph
    with torch.enable_grad():
        # An input may have been computed from another one: in here each stands for itself.
        own = [
            x if x is None or not need else x.view_as(x) if differentiable else _leaf(x)
            for x, need in zip(inputs, needed, strict=True)
        ]
        wanted = [x for x, need in zip(own, needed, strict=True) if x is not None and need]
        gradients = iter(
            torch.autograd.grad(composition(own), wanted, grad_output, create_graph=differentiable)
        )
    return [
        next(gradients) if x is not None and need else None
        for x, need in zip(own, needed, strict=True)
    ]


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()
