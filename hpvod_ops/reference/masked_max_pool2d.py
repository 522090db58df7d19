"""Max pooling at listed pixels in plain PyTorch: dense, then picked."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from hpvod_ops.pixels import PixelList
from hpvod_ops.reference._listed import write_at


def masked_max_pool2d_(
    out: Tensor, x: Tensor, pixels: PixelList, *, kernel: int, stride: int, padding: int
) -> None:
    """`hpvod_ops.masked_max_pool2d_`; any dtype and device."""
    if out.numel() == 0:
        return
    padded = F.pad(x, (padding,) * 4, value=-math.inf)
    write_at(out, F.max_pool2d(padded, kernel, stride), pixels)
