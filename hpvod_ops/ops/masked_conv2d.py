"""masked_conv2d: a convolution only where U is 1, Section 3.2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hpvod_ops import reference
from hpvod_ops.backends import choose_backend
from hpvod_ops.ops.checks import (
    check_devices,
    check_map,
    check_pixels,
    refuse_gradients,
)
from hpvod_ops.ops.layout import memory_format_of
from hpvod_ops.ops.overloads import define_triton, register_fake
from hpvod_ops.pixels import PixelList


@dataclass(frozen=True, eq=False)
class PackedConv2d:
    """A convolution's weights as one backend reads them; made by `pack_conv2d`.

    Attributes:
        weight: cpu: opaque, one-dimensional, in the accumulation type; cuda and triton:
            [O, kh, kw, I]; reference: [O, I, kh, kw].
        bias: [O] in float32 (float64 for float64 weights), or None.
        out_channels: O.
        in_channels: I.
        kernel: (kh, kw).
        dtype: of the maps that it convolves.
        backend: that reads it.
    """

    weight: Tensor
    bias: Tensor | None
    out_channels: int
    in_channels: int
    kernel: tuple[int, int]
    dtype: torch.dtype
    backend: str


def pack_conv2d(weight: Tensor, bias: Tensor | None = None) -> PackedConv2d:
    """Packs a convolution's weights, once, for the backend that is chosen now.

    Args:
        weight: [O, I, kh, kw], nothing of it empty; float32, float16, bfloat16 or float64, as the
            maps will be.
        bias: [O], weight's dtype or float32.

    Raises:
        TypeError: bias has another dtype.
        ValueError: an argument has another shape or device.
        RuntimeError: an argument requires grad, or no backend can run here, or the one asked for
            cannot.
    """
    refuse_gradients("pack_conv2d", weight=weight, bias=bias)
    backend = choose_backend(weight.device, weight.dtype)
    _check_weight(weight, bias)
    out_channels, in_channels, height, width = weight.shape
    if backend == "cpu":
        packed = torch.ops.hpvod.pack_conv2d_weight(weight)
    elif backend == "reference":
        packed = weight.clone()
    else:
        packed = weight.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)
    if bias is not None:
        wide = torch.float64 if weight.dtype == torch.float64 else torch.float32
        bias = bias.to(wide, copy=True).contiguous()
    return PackedConv2d(
        weight=packed,
        bias=bias,
        out_channels=out_channels,
        in_channels=in_channels,
        kernel=(height, width),
        dtype=weight.dtype,
        backend=backend,
    )


def masked_conv2d_(
    out: Tensor,
    x: Tensor,
    weight: PackedConv2d,
    pixels: PixelList,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    relu: bool = False,
    residual: Tensor | None = None,
) -> Tensor:
    """A convolution at listed pixels, in place; the other pixels of `out` stay as they are.

    At a listed p, ``out[p] = act(conv(x)[p] + bias + residual[p])``, N(n)(F̂(n-1)) of Section 3.2;
    act is the ReLU, or nothing. Of x, the pixels under the kernel at listed pixels are read and no
    others. Accumulates in float32 (float64 for float64 maps). Inference only.

    Args:
        out: [N, O, H', W'], H' = (H + 2 * padding - dilation * (kh - 1) - 1) // stride + 1; x's
            dtype; dense in channels_last; not x.
        x: [N, I, H, W]; float32, float16, bfloat16 or float64; dense in channels_last.
        weight: from `pack_conv2d`, with weights in x's dtype.
        pixels: of `out`, all different.
        stride: pixels of x a pixel of out; this and the next two are the same in both directions.
        padding: zeros around x.
        dilation: pixels of x from one tap to the next.
        relu: end in a ReLU.
        residual: as `out`, and may be `out` itself: added before the ReLU.

    Returns:
        `out`.

    Raises:
        TypeError: an argument has another dtype.
        ValueError: an argument has another shape, layout, device or range.
        RuntimeError: a map requires grad, or the weight was packed for another backend than the one
            chosen now, or no backend can run here, or the one asked for cannot.
    """
    refuse_gradients("masked_conv2d_", out=out, x=x, residual=residual)
    backend = choose_backend(x.device, x.dtype)
    if weight.backend != backend:
        raise RuntimeError(
            f"weight was packed for {weight.backend}, but {backend} is chosen now; pack it again "
            "with pack_conv2d"
        )
    if weight.dtype != x.dtype or weight.out_channels != out.shape[1] or backend != "cpu":
        _check(out, x, weight, pixels, stride, padding, dilation, residual)
    if backend == "reference":
        reference.masked_conv2d_(
            out,
            x,
            weight.weight,
            weight.bias,
            residual,
            pixels,
            stride=stride,
            padding=padding,
            dilation=dilation,
            relu=relu,
        )
        return out
    try:
        (_triton_op if backend == "triton" else _op)(
            out,
            x,
            weight.weight,
            weight.bias,
            residual,
            pixels.indices,
            pixels.count,
            weight.kernel,
            stride,
            padding,
            dilation,
            relu,
        )
    except RuntimeError:
        # On the CPU, looking first would take as long as the convolution of a few pixels.
        _check(out, x, weight, pixels, stride, padding, dilation, residual)
        raise
    return out


def _check(
    out: Tensor,
    x: Tensor,
    weight: PackedConv2d,
    pixels: PixelList,
    stride: int,
    padding: int,
    dilation: int,
    residual: Tensor | None,
) -> None:
    """Names the argument of `masked_conv2d_` that is wrong."""
    check_map("x", x, x, "x")
    if weight.dtype != x.dtype:
        raise TypeError(f"weight must be {x.dtype}, as x is, not {weight.dtype}")
    if weight.weight.device != x.device:
        raise ValueError(f"weight is on {weight.weight.device}, but x is on {x.device}")
    if x.shape[1] != weight.in_channels:
        raise ValueError(
            f"x must have the weight's {weight.in_channels} channels, not {list(x.shape)}"
        )
    check_map("out", out, x, "x")
    expected = _output_shape(x, weight.out_channels, weight.kernel, stride, padding, dilation)
    if out.shape != expected:
        raise ValueError(_wrong_shape("out", out, expected, x))
    if residual is not None and residual is not out:
        check_map("residual", residual, x, "x")
        if residual.shape != expected:
            raise ValueError(_wrong_shape("residual", residual, expected, x))
    check_pixels(pixels, x, "x")


def masked_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor,
    base: Tensor,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    relu: bool = False,
    residual: Tensor | None = None,
) -> Tensor:
    """A convolution where a mask is set, and `base` elsewhere: a layer of Section 3.2.

    ``F̂(n) = U * N(n)(F̂(n-1)) + (1 - U) * base``, and base, there, is the propagated feature; with
    N(n) as in `masked_conv2d_`. This form packs the weight, lists the mask's pixels and copies the
    base each time; a network calls `pack_conv2d` once, `update_plan` once a frame, and
    `masked_conv2d_`. Nothing waits for the device. Inference only.

    Args:
        x: [N, I, H, W]; float32, float16, bfloat16 or float64; channels_last (other layouts cost a
            copy, of every map).
        weight: [O, I, kh, kw], x's dtype.
        bias: [O], x's dtype or float32; or None.
        mask: U of the output, bool, [N, 1, H', W'], with H' and W' as in `masked_conv2d_`.
        base: [N, O, H', W'], x's dtype.
        stride: pixels of x a pixel of the output; this and the next two hold in both directions.
        padding: zeros around x.
        dilation: pixels of x from one tap to the next.
        relu: end in a ReLU.
        residual: as `base`, and may be `base` itself: added before the ReLU.

    Returns:
        [N, O, H', W'], in base's dtype and memory layout.

    Raises:
        TypeError: an argument has another dtype.
        ValueError: an argument has another shape, device or range.
        RuntimeError: an argument requires grad, or no backend can run here, or the one asked for
            cannot.
    """
    refuse_gradients("masked_conv2d", x=x, weight=weight, bias=bias, base=base, residual=residual)
    if x.dim() != 4:
        raise ValueError(f"x must be [N, I, H, W], not {list(x.shape)}")
    packed = pack_conv2d(weight, bias)
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be torch.bool, not {mask.dtype}")
    if mask.device != x.device:
        raise ValueError(f"mask is on {mask.device}, but x is on {x.device}")
    expected = _output_shape(x, packed.out_channels, packed.kernel, stride, padding, dilation)
    expected_mask = (expected[0], 1, *expected[2:])
    if mask.shape != expected_mask:
        raise ValueError(_wrong_shape("mask", mask, expected_mask, x))
    if base.shape != expected:
        raise ValueError(_wrong_shape("base", base, expected, x))
    if base.dtype != x.dtype:
        raise TypeError(f"base must be {x.dtype}, as x is, not {base.dtype}")
    if base.device != x.device:
        raise ValueError(f"base is on {base.device}, but x is on {x.device}")
    out = base.clone(memory_format=torch.channels_last)
    listed = torch.nonzero_static(mask.flatten(), size=mask.numel(), fill_value=0)
    masked_conv2d_(
        out,
        _channels_last(x),
        packed,
        PixelList(listed[:, 0].int(), mask.sum(dtype=torch.int32).view(1)),
        stride=stride,
        padding=padding,
        dilation=dilation,
        relu=relu,
        residual=None if residual is None else _channels_last(residual),
    )
    return out.contiguous(memory_format=memory_format_of(base))


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def _output_shape(
    x: Tensor, out_channels: int, kernel: tuple[int, int], stride: int, padding: int, dilation: int
) -> tuple[int, int, int, int]:
    if stride < 1 or dilation < 1 or padding < 0:
        raise ValueError(
            "stride and dilation must be at least 1 and padding at least 0, not "
            f"{stride}, {dilation} and {padding}"
        )
    batch, _, height, width = x.shape
    down = (height + 2 * padding - dilation * (kernel[0] - 1) - 1) // stride + 1
    across = (width + 2 * padding - dilation * (kernel[1] - 1) - 1) // stride + 1
    return batch, out_channels, max(down, 0), max(across, 0)


def _wrong_shape(name: str, tensor: Tensor, expected: tuple[int, ...], x: Tensor) -> str:
    return f"{name} must be {list(expected)} for an x of {list(x.shape)}, not {list(tensor.shape)}"


def _check_weight(weight: Tensor, bias: Tensor | None) -> None:
    if weight.dim() != 4 or weight.numel() == 0:
        raise ValueError(
            f"weight must be [O, I, kh, kw], nothing of it empty, not {list(weight.shape)}"
        )
    if bias is None:
        return
    if bias.shape != weight.shape[:1]:
        raise ValueError(
            f"bias must be [{weight.shape[0]}] for a weight of {list(weight.shape)}, not "
            f"{list(bias.shape)}"
        )
    if bias.dtype not in (weight.dtype, torch.float32):
        raise TypeError(f"bias must be {weight.dtype}, as weight is, or float32, not {bias.dtype}")
    if bias.device != weight.device:
        raise ValueError(f"bias is on {bias.device}, but weight is on {weight.device}")


def _triton(*arguments: Any) -> None:
    from hpvod_ops.triton.masked_conv2d import masked_conv2d as kernels

    kernels(*arguments)


def _fake(*arguments: Any) -> None:
    check_devices(arguments)


def _fake_pack(weight: Tensor) -> Tensor:
    """How long it is depends on the processor that runs it."""
    size = torch.library.get_ctx().new_dynamic_size()
    wide = torch.float64 if weight.dtype == torch.float64 else torch.float32
    return weight.new_empty(size, dtype=wide)


define_triton("masked_conv2d_", _triton)
register_fake("masked_conv2d_", _fake)
_op, _triton_op = torch.ops.hpvod.masked_conv2d_.default, torch.ops.hpvod.masked_conv2d_.triton
torch.library.register_fake(torch.ops.hpvod.pack_conv2d_weight.default, _fake_pack)
