"""A convolution at listed pixels (Section 3.2) in plain PyTorch: dense, then picked."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hpvod_ops.pixels import PixelList
from hpvod_ops.reference._listed import write_at


def masked_conv2d_(
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    pixels: PixelList,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    relu: bool = False,
) -> None:
    """`hpvod_ops.masked_conv2d_`, of a weight [O, I, kh, kw]; any dtype and device."""
    if out.numel() == 0:
        return
    accumulate = torch.float64 if x.dtype == torch.float64 else torch.float32
    padded = F.pad(x.to(accumulate), (padding,) * 4)
    with torch.backends.cudnn.flags(enabled=False):  # it may round float32 to TF32
        result = F.conv2d(padded, weight.to(accumulate), bias, stride, dilation=dilation)
    if residual is not None:
        result = result + residual.to(accumulate)
    if relu:
        result = result.relu()
    write_at(out, result, pixels)
