"""Eq. 6's U with its straight-through gradient, in plain PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def update_mask(q: Tensor, tau: float = 0.0) -> Tensor:
    """`hpvod_ops.update_mask`, any dtype and device."""
    result: Tensor = _StraightThrough.apply(q, tau)
    return result


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, tau: float) -> Tensor:
        ctx.save_for_backward(q)
        ctx.tau = tau
        return (q <= tau).to(q.dtype)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (q,) = ctx.saved_tensors
        return torch.where((q - ctx.tau).abs() <= 1, -grad_output, 0), None
