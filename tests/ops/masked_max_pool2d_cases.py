"""Random cases of `masked_max_pool2d_`, whose results are exact."""

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
    bits,
    check_the_rest,
    dense_clone,
    dense_map,
    listed_pixels,
    patterned_mask,
)
from torch import Tensor

from hpvod_ops import PixelList, reference


@dataclass(frozen=True)
class Inputs:
    out: Tensor
    x: Tensor
    mask: Tensor  # what `pixels` lists
    pixels: PixelList
    kernel: int
    stride: int
    padding: int


Pool = Callable[[Inputs], object]


def random_inputs(index: int, device: torch.device) -> Inputs:
    """One of the random cases; the index alone determines it.

    Every fourth case has the same dtype, every ninth the same pattern. Where x is not to be read
    it is NaN or infinite; `out` is NaN; and both lie between images of NaN.
    """
    choose = random.Random(index)
    generator = torch.Generator().manual_seed(index)
    dtype, pattern = DTYPES[index % 4], PATTERNS[index % 9]
    kernel, stride = choose.choice((1, 2, 3, 3, 3, 5)), choose.choice((1, 2, 2, 3))
    padding = choose.randint(0, kernel // 2)
    batch, channels = choose.choice((1, 1, 2, 3)), choose.choice((1, 2, 3, 5, 8, 16, 24, 64, 130))
    height, width = choose.randint(1, 9), choose.randint(1, 12)
    if index % 7 == 0:
        height, width = choose.choice(((19, 33), (26, 17)))
    height, width = (max(size, kernel - 2 * padding) for size in (height, width))
    out_size = [(size + 2 * padding - kernel) // stride + 1 for size in (height, width)]
    mask = patterned_mask(pattern, batch, *out_size, index)
    taken = torch.nn.grad.conv2d_input(
        (batch, 1, height, width), torch.ones(1, 1, kernel, kernel), mask.float(), stride, padding
    )
    x = torch.randn(batch, channels, height, width, generator=generator)
    x = torch.where(taken > 0.5, x, choose.choice((math.nan, math.inf)))
    out = torch.full((batch, channels, *out_size), math.nan, dtype=dtype)
    return Inputs(
        out=dense_map(out, device),
        x=dense_map(x.to(dtype), device),
        mask=mask,
        pixels=listed_pixels(mask, device),
        kernel=kernel,
        stride=stride,
        padding=padding,
    )


def evaluate(pool: Pool, inputs: Inputs) -> Tensor:
    """`out` after the op, on a copy of it."""
    out = dense_clone(inputs.out)
    pool(replace(inputs, out=out))
    return out


def compose(inputs: Inputs) -> object:
    """The reference."""
    return reference.masked_max_pool2d_(
        inputs.out,
        inputs.x,
        inputs.pixels,
        kernel=inputs.kernel,
        stride=inputs.stride,
        padding=inputs.padding,
    )


def check_against_reference(result: Tensor, inputs: Inputs) -> None:
    """The same bits, NaN's own aside."""
    check_the_rest(result, inputs.out, inputs.mask)
    expected = at(inputs.mask, evaluate(compose, inputs))
    got = at(inputs.mask, result)
    assert torch.equal(got.isnan(), expected.isnan())
    assert torch.equal(bits(got.nan_to_num(nan=0.0)), bits(expected.nan_to_num(nan=0.0)))
