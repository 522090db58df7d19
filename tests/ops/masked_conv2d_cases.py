"""Random cases of `masked_conv2d_`, and how far from the truth a backend may be on them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from ops.listed_cases import (
    DTYPES,
    PATTERNS,
    at,
    check_error,
    check_the_rest,
    dense_clone,
    dense_map,
    listed_pixels,
    patterned_mask,
    unit_in_the_last_place,
)
from torch import Tensor

from hpvod_ops import PixelList, reference


@dataclass(frozen=True)
class Inputs:
    out: Tensor
    x: Tensor
    weight: Tensor  # [O, I, kh, kw]
    bias: Tensor | None  # in the accumulation type
    residual: Tensor | None  # or `out` itself
    mask: Tensor  # what `pixels` lists
    pixels: PixelList
    stride: int
    padding: int
    dilation: int
    relu: bool


# Of the inputs with the op's own copy of `out`, and of `residual` where that is `out`.
Convolve = Callable[[Inputs], object]


def random_inputs(index: int, device: torch.device) -> Inputs:
    """One of the random cases; the index alone determines it.

    Every fourth case has the same dtype, every ninth the same pattern. Where x is not to be read
    it is NaN or infinite; `out` is NaN but where it is the residual; and all of them lie between
    images of NaN.
    """
    choose = random.Random(index)
    generator = torch.Generator().manual_seed(index)
    dtype, pattern = DTYPES[index % 4], PATTERNS[index % 9]
    kernel = choose.choice(((1, 1), (1, 1), (3, 3), (3, 3), (3, 3), (7, 7), (2, 3)))
    stride, dilation = choose.choice((1, 1, 2)), choose.choice((1, 1, 2, 6))
    padding = choose.choice((0, 1, kernel[0] // 2 * dilation))
    channels = (1, 2, 3, 5, 16, 17, 31, 32, 48, 64, 65)
    inputs, outputs = choose.choice(channels), choose.choice(channels)
    batch, height, width = choose.choice((1, 1, 2, 3)), choose.randint(1, 9), choose.randint(1, 12)
    if index % 5 == 0:
        inputs, outputs = choose.choice((64, 128, 130, 300)), choose.choice((8, 64, 128, 257))
    elif index % 7 == 0:
        height, width = choose.choice(((19, 33), (26, 17)))
    height, width = (
        max(size, dilation * (taps - 1) + 1 - 2 * padding)
        for size, taps in zip((height, width), kernel, strict=True)
    )
    out_height, out_width = (
        (size + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
        for size, taps in zip((height, width), kernel, strict=True)
    )
    mask = patterned_mask(pattern, batch, out_height, out_width, index)

    def random_map(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    x = random_map(batch, inputs, height, width)
    taken = torch.nn.grad.conv2d_input(
        (batch, 1, height, width),
        torch.ones(1, 1, *kernel),
        mask.float(),
        stride,
        padding,
        dilation,
    )
    x = torch.where(taken > 0.5, x, choose.choice((math.nan, math.inf, -math.inf)))
    values = random_map(batch, outputs, out_height, out_width).to(dtype)
    residual = choose.choice(("none", "none", "own", "out"))
    nan = torch.tensor(math.nan, dtype=dtype)
    out = dense_map(
        torch.where(mask, values, nan) if residual == "out" else nan.expand_as(values), device
    )
    weight = random_map(outputs, inputs, *kernel) / math.sqrt(inputs)
    bias = random_map(outputs).to(dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return Inputs(
        out=out,
        x=dense_map(x.to(dtype), device),
        weight=weight.to(device, dtype),
        bias=bias.to(device, wide) if choose.random() < 0.7 else None,
        residual={"none": None, "own": dense_map(values, device), "out": out}[residual],
        mask=mask,
        pixels=listed_pixels(mask, device),
        stride=stride,
        padding=padding,
        dilation=dilation,
        relu=choose.random() < 0.5,
    )


def exact_inputs(
    device: torch.device, dtype: torch.dtype = torch.float32, channels: tuple[int, int] = (20, 70)
) -> Inputs:
    """Small integers: every sum is exact, in whatever order."""
    inputs, outputs = channels
    mask = patterned_mask("half", 2, 7, 9, 1)

    def integers(*shape: int) -> Tensor:
        return torch.randint(-2, 3, shape).to(dtype)

    bias = integers(outputs).to(torch.float64 if dtype == torch.float64 else torch.float32)
    return Inputs(
        out=dense_map(integers(2, outputs, 7, 9), device),
        x=dense_map(integers(2, inputs, 7, 9), device),
        weight=integers(outputs, inputs, 3, 3).to(device),
        bias=bias.to(device),
        residual=dense_map(integers(2, outputs, 7, 9), device),
        mask=mask,
        pixels=listed_pixels(mask, device),
        stride=1,
        padding=1,
        dilation=1,
        relu=True,
    )


def evaluate(convolve: Convolve, inputs: Inputs) -> Tensor:
    """`out` after the op, on a copy of it."""
    out = dense_clone(inputs.out)
    residual = out if inputs.residual is inputs.out else inputs.residual
    convolve(replace(inputs, out=out, residual=residual))
    return out


def compose(inputs: Inputs) -> object:
    """PyTorch's own composition, in the inputs' dtype."""
    return reference.masked_conv2d_(
        inputs.out,
        inputs.x,
        inputs.weight,
        inputs.bias,
        inputs.residual,
        inputs.pixels,
        stride=inputs.stride,
        padding=inputs.padding,
        dilation=inputs.dilation,
        relu=inputs.relu,
    )


def _doubled(inputs: Inputs, magnitudes: bool = False) -> Inputs:
    def double(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        return tensor.double().abs() if magnitudes else tensor.double()

    out = dense_map(double(inputs.out), inputs.out.device)
    return replace(
        inputs,
        out=out,
        x=double(inputs.x),
        weight=double(inputs.weight),
        bias=double(inputs.bias),
        residual=out if inputs.residual is inputs.out else double(inputs.residual),
    )


def check_against_reference(result: Tensor, inputs: Inputs) -> None:
    """Held to the reference in float64: at most twice the error of PyTorch's own composition.

    The truth adds the channels in reverse, so that in float64, too, the composition has an error.
    """
    check_the_rest(result, inputs.out, inputs.mask)
    doubled = _doubled(inputs)
    reversed_channels = replace(doubled, x=doubled.x.flip(1), weight=doubled.weight.flip(1))
    truth, composition, sums = (
        at(inputs.mask, evaluate(compose, each))
        for each in (reversed_channels, inputs, _doubled(inputs, magnitudes=True))
    )
    unit = unit_in_the_last_place(sums, inputs.x.dtype)
    check_error(at(inputs.mask, result), truth, composition, unit)
