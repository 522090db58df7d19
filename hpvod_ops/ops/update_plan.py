"""update_plan: what a batch of frames recomputes and reads, Eq. 6 and 9."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hpvod_ops import reference
from hpvod_ops.backends import choose_backend
from hpvod_ops.ops.checks import refuse_gradients
from hpvod_ops.ops.overloads import define_triton, register_fake
from hpvod_ops.pixels import PixelSet, UpdatePlan


def update_plan(
    q: Tensor,
    tau: float,
    gamma: float,
    *,
    sets: Sequence[PixelSet] | None = None,
    out: UpdatePlan | None = None,
    key: Tensor | None = None,
) -> UpdatePlan:
    """U, the key decision, and the pixels of each layer that are computed or read.

    ``U = 1`` where ``Q <= tau``, Eq. 6. A frame is a key frame where the share of these positions
    is larger than gamma, Eq. 9; then U = 1 everywhere. Of each set, the pixels are listed in rising
    order. All of it stays on the device: nothing waits for it. Inference only.

    Args:
        q: Q, [N, 1, h, w]; float32, float16, bfloat16 or float64; contiguous (other strides cost a
            copy).
        tau: Eq. 6's threshold; compared in q's dtype.
        gamma: Eq. 9's share, from 0 to 1.
        sets: what to list; allocates a plan.
        out: a plan for q's shape to refill, in place of `sets`; nothing is allocated.
        key: bool, [N]: which frames are key frames, in place of Eq. 9.

    Returns:
        `out`, or a new plan.

    Raises:
        TypeError: an argument has another dtype, or not one of `sets` and `out` is given.
        ValueError: an argument has another shape or device, or a set is not one.
        RuntimeError: q requires grad, or no backend can run here, or the one asked for cannot.
    """
    if q.dim() != 4 or q.shape[1] != 1:
        raise ValueError(f"q must be [N, 1, h, w], not {list(q.shape)}")
    refuse_gradients("update_plan", q=q)
    backend = choose_backend(q.device, q.dtype)
    if out is None:
        if sets is None:
            raise TypeError("update_plan needs sets, to list, or out, a plan to refill")
        out = UpdatePlan.empty(q.shape[0], q.shape[2], q.shape[3], sets, q.device)
    else:
        _check_out(out, sets, q)
    if key is not None:
        _check_key(key, q)
    tau = _in_dtype(tau, q.dtype)
    if backend == "reference":
        reference.update_plan(q, tau, gamma, key, out)
        return out
    op = torch.ops.hpvod.update_plan
    (op.triton if backend == "triton" else op.default)(
        q.contiguous(),
        tau,
        gamma,
        None if key is None else key.contiguous(),
        out.layout,
        out.mask,
        out.is_key,
        out.changed,
        out.pixels,
        out.counts,
    )
    return out


def _check_out(out: UpdatePlan, sets: Sequence[PixelSet] | None, q: Tensor) -> None:
    if sets is not None:
        raise TypeError("update_plan takes sets, to list, or out, a plan to refill, not both")
    if out.mask.shape != q.shape:
        raise ValueError(f"out is a plan for a q of {list(out.mask.shape)}, not {list(q.shape)}")
    if out.mask.device != q.device:
        raise ValueError(f"out is on {out.mask.device}, but q is on {q.device}")


def _check_key(key: Tensor, q: Tensor) -> None:
    if key.dtype != torch.bool:
        raise TypeError(f"key must be torch.bool, not {key.dtype}")
    if key.shape != q.shape[:1]:
        raise ValueError(f"key must be [{q.shape[0]}], as many frames as q, not {list(key.shape)}")
    if key.device != q.device:
        raise ValueError(f"key is on {key.device}, but q is on {q.device}")


@functools.cache
def _in_dtype(tau: float, dtype: torch.dtype) -> float:
    """The number that PyTorch compares with: then no backend sees a Q between the two."""
    return float(torch.tensor(tau, dtype=dtype))


def _triton(*arguments: Any) -> None:
    from hpvod_ops.triton.update_plan import update_plan as kernels

    kernels(*arguments)


def _fake(*arguments: Any) -> None:
    pass


define_triton("update_plan", _triton)
register_fake("update_plan", _fake)
