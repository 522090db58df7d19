"""masked_max_pool2d: max pooling at listed pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hpvod_ops import reference
from hpvod_ops.backends import choose_backend
from hpvod_ops.ops.checks import (
    check_map,
    check_pixels,
    refuse_gradients,
)
from hpvod_ops.ops.overloads import define_triton, register_fake
from hpvod_ops.pixels import PixelList


def masked_max_pool2d_(
    out: Tensor, x: Tensor, pixels: PixelList, *, kernel: int, stride: int, padding: int
) -> Tensor:
    """Max pooling at listed pixels, in place; the other pixels of `out` stay as they are.

    ``out[n, c, y, x] = max over i, j < kernel of x[n, c, stride * y - padding + i, ... + j]``,
    as torch.nn.functional.max_pool2d: pixels outside the map are not read, NaN is the largest
    number. Inference only.

    Args:
        out: [N, C, H', W'], H' = (H + 2 * padding - kernel) // stride + 1; x's dtype; dense in
            channels_last.
        x: [N, C, H, W]; float32, float16, bfloat16 or float64; dense in channels_last.
        pixels: of `out`, all different.
        kernel: side of the window; this and the next two are the same in both directions.
        stride: pixels of x a pixel of out.
        padding: pixels around x, at most half the kernel.

    Returns:
        `out`.

    Raises:
        TypeError: an argument has another dtype.
        ValueError: an argument has another shape, layout, device or range.
        RuntimeError: a map requires grad, or no backend can run here, or the one asked for cannot.
    """
    refuse_gradients("masked_max_pool2d_", out=out, x=x)
    backend = choose_backend(x.device, x.dtype)
    check_map("x", x, x, "x")
    check_map("out", out, x, "x")
    if kernel < 1 or stride < 1:
        raise ValueError(f"kernel and stride must be at least 1, not {kernel} and {stride}")
    if not 0 <= 2 * padding <= kernel:
        raise ValueError(
            f"padding must be at least 0 and at most half the kernel, {kernel}, not {padding}"
        )
    batch, channels, height, width = x.shape
    down, across = (
        (height + 2 * padding - kernel) // stride,
        (width + 2 * padding - kernel) // stride,
    )
    expected = (batch, channels, max(down + 1, 0), max(across + 1, 0))
    if out.shape != expected:
        raise ValueError(
            f"out must be {list(expected)} for an x of {list(x.shape)}, not {list(out.shape)}"
        )
    if out.numel() > 0 and x.numel() == 0:
        raise ValueError(f"x has no pixels: it is {list(x.shape)}")
    check_pixels(pixels, x, "x")
    if backend == "reference":
        reference.masked_max_pool2d_(out, x, pixels, kernel=kernel, stride=stride, padding=padding)
        return out
    (_triton_op if backend == "triton" else _op)(
        out, x, pixels.indices, pixels.count, kernel, stride, padding
    )
    return out


def _triton(*arguments: Any) -> None:
    from hpvod_ops.triton.masked_max_pool2d import masked_max_pool2d as kernels

    kernels(*arguments)


def _fake(*arguments: Any) -> None:
    pass


define_triton("masked_max_pool2d_", _triton)
register_fake("masked_max_pool2d_", _fake)
_op = torch.ops.hpvod.masked_max_pool2d_.default
_triton_op = torch.ops.hpvod.masked_max_pool2d_.triton
