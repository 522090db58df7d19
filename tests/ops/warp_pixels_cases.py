"""Random cases of `warp_pixels_`, and how far from the truth a backend may be on them."""

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
    feature: Tensor
    flow: Tensor
    scale: Tensor | None
    mask: Tensor  # what `pixels` lists
    pixels: PixelList
    ratio: int


Warp = Callable[[Inputs], object]


def random_inputs(index: int, device: torch.device) -> Inputs:
    """One of the random cases; the index alone determines it.

    Every fourth case has the same dtype, every ninth the same pattern. The layer is `ratio` times
    as large as the flow, or a little less, or reaches beyond it. `out` is NaN, and all maps lie
    between images of NaN.
    """
    choose = random.Random(index)
    generator = torch.Generator().manual_seed(index)
    dtype, pattern = DTYPES[index % 4], PATTERNS[index % 9]
    ratio = choose.choice((1, 1, 2, 3, 4, 8))
    batch, channels = choose.choice((1, 1, 2, 3)), choose.choice((1, 2, 3, 5, 8, 16, 24, 64, 130))
    flow_height, flow_width = choose.randint(1, 5), choose.randint(1, 6)
    height, width = (
        max(size * ratio - choose.choice((0, 0, 1, ratio - 1, -2)), 1)
        for size in (flow_height, flow_width)
    )
    mask = patterned_mask(pattern, batch, height, width, index)

    def random_map(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    reach = choose.choice((0.3, 1.0, 4.0, 100.0))
    flow = torch.randn(batch, 2, flow_height, flow_width, generator=generator) * reach
    if choose.random() < 0.2:
        flow = flow.round()
    shape = (batch, channels, height, width)
    return Inputs(
        out=dense_map(torch.full(shape, math.nan, dtype=dtype), device),
        feature=dense_map(random_map(*shape), device),
        flow=flow.to(device, choose.choice((dtype, torch.float32))),
        scale=dense_map(random_map(*shape), device) if choose.random() < 0.4 else None,
        mask=mask,
        pixels=listed_pixels(mask, device),
        ratio=ratio,
    )


def exact_inputs(device: torch.device, ratio: int = 4) -> Inputs:
    """Small integers, and flow in whole pixels: every sum is exact, in whatever order."""
    shape = (2, 6, 3 * ratio, 4 * ratio - ratio // 2)
    mask = patterned_mask("half", shape[0], shape[2], shape[3], 1)
    out, feature, scale = (torch.randint(-4, 5, shape).float() for _ in range(3))
    return Inputs(
        out=dense_map(out, device),
        feature=dense_map(feature, device),
        flow=torch.randint(-2, 3, (2, 2, 3, 4)).float().to(device),
        scale=dense_map(scale, device),
        mask=mask,
        pixels=listed_pixels(mask, device),
        ratio=ratio,
    )


def evaluate(warp: Warp, inputs: Inputs) -> Tensor:
    """`out` after the op, on a copy of it."""
    out = dense_clone(inputs.out)
    warp(replace(inputs, out=out))
    return out


def compose(inputs: Inputs) -> object:
    """PyTorch's own composition, in the inputs' dtype."""
    return reference.warp_pixels_(
        inputs.out,
        inputs.feature,
        inputs.flow,
        inputs.pixels,
        ratio=inputs.ratio,
        scale=inputs.scale,
    )


def _doubled(inputs: Inputs) -> Inputs:
    return replace(
        inputs,
        out=dense_map(inputs.out.double(), inputs.out.device),
        feature=inputs.feature.double(),
        flow=inputs.flow.double(),
        scale=None if inputs.scale is None else inputs.scale.double(),
    )


def _unit(inputs: Inputs) -> float:
    """Of the sum of the four corners, and of where they lie times how fast the feature changes."""
    doubled = _doubled(inputs)
    scale = None if doubled.scale is None else doubled.scale.abs()
    magnitudes = replace(doubled, feature=doubled.feature.abs(), scale=scale)
    dtype, mask = inputs.feature.dtype, inputs.mask
    corners = unit_in_the_last_place(at(mask, evaluate(compose, magnitudes)), dtype)
    # From a corner that is read, the position is within the map, or one pixel off.
    position = torch.tensor(float(max(inputs.feature.shape[2:])) + 1)
    flow = inputs.ratio * inputs.flow.double().abs().max() if inputs.flow.numel() else position
    place = unit_in_the_last_place(torch.maximum(position, flow.cpu()), dtype)
    slope = (
        4 * float(doubled.feature.abs().max()) * (float(scale.max()) if scale is not None else 1)
    )
    return corners + place * slope


def check_against_reference(result: Tensor, inputs: Inputs) -> None:
    """Held to the reference in float64: at most twice the error of PyTorch's own composition."""
    check_the_rest(result, inputs.out, inputs.mask)
    truth, composition = (
        at(inputs.mask, evaluate(compose, each)) for each in (_doubled(inputs), inputs)
    )
    check_error(at(inputs.mask, result), truth, composition, _unit(inputs))
