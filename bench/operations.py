"""How many operations are executed: PyTorch's own counter, which learns of `masked_conv2d_`."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode


def operation_counter() -> FlopCounterMode:
    """A context that counts 2 operations a multiply-add, at listed pixels only where there are.

    It waits for the device at every list.
    """
    mapping = {torch.ops.hpvod.masked_conv2d_: _masked_conv2d}
    return FlopCounterMode(display=False, custom_mapping=mapping)


def _masked_conv2d(
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    pixels: Tensor,
    count: Tensor,
    kernel: list[int],
    *settings: Any,
    **result: Any,
) -> int:
    return 2 * int(count) * out.shape[1] * x.shape[1] * math.prod(kernel)


_masked_conv2d._get_raw = True  # type: ignore[attr-defined]  # tensors are wanted, not their shapes
