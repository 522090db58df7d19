"""Random cases of `ps_roi_pool`, and how far from the truth a backend may be on them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from ops.listed_cases import DTYPES, check_error, unit_in_the_last_place
from ops.warp_cases import LAYOUTS
from torch import Tensor

from hpvod_ops import reference

Pool = Callable[[Tensor, Tensor, int, int], Tensor]


@dataclass(frozen=True)
class Inputs:
    score_maps: Tensor
    rois: Tensor
    groups: int
    stride: int
    grad_output: Tensor


def random_rois(count: int, images: int, height: int, width: int, seed: int) -> Tensor:
    """RoIs of (height, width) images: inside, across every border, outside, turned, tiny, huge.

    Some corners lie on halves or on pixels; one in nine has a NaN, or an image that there is not.
    """
    generator = torch.Generator().manual_seed(seed)
    sides = torch.tensor([width, height, width, height])
    corners = sides * (1.6 * torch.rand(count, 4, generator=generator) - 0.3)
    corners[::3] = corners[::3].floor() + 0.5
    corners[1::5] = corners[1::5].round()
    corners[2::7, 2:] = corners[2::7, :2] + 1
    corners[4::11] *= 1e8
    image = torch.randint(0, images, (count, 1), generator=generator)
    rois = torch.cat((image, corners), 1)
    rois[3::9, 0] = images
    rois[8::18, 0] = -1
    rois[5::18, 1 + seed % 4] = math.nan
    return rois


def random_inputs(index: int, device: torch.device, most_rois: int = 40) -> Inputs:
    """One of the random cases; the index alone determines it.

    Every fourth case has the same dtype, every other four the same layout; maps are whole, or
    views into a larger tensor of NaN.
    """
    choose = random.Random(index)
    generator = torch.Generator().manual_seed(index)
    dtype, layout = DTYPES[index % 4], LAYOUTS[index // 4 % 2]
    batch, groups = choose.choice((1, 1, 2, 3)), choose.choice((1, 2, 3, 7))
    channels = choose.choice((1, 2, 3, 4, 5))
    height, width = choose.randint(1, 6), choose.randint(1, 7)
    if most_rois > 10 and index % 5 == 0:
        channels = choose.choice((8, 17, 31, 33, 70, 130))
        height, width = choose.choice(((19, 11), (1, 23), (12, 70)))
    stride = choose.choice((1, 3, 8, 16, 16))
    count = choose.choice((1, 2, 3, most_rois))

    shape = [batch, channels * groups**2, height, width]
    # All of a sign, so that sums grow and lose bits, or of both.
    values = torch.randn(shape, generator=generator) + choose.choice((0, 3))
    axis = choose.choice((None, 0, 1, 3))
    if axis is None:
        score_maps = values.to(device, dtype).contiguous(memory_format=layout)
    else:
        padded_shape = list(shape)
        padded_shape[axis] += 2
        padded = torch.full(padded_shape, math.nan, dtype=dtype, device=device)
        padded = padded.contiguous(memory_format=layout)
        score_maps = padded.narrow(axis, 1, shape[axis]).copy_(values)
    rois = random_rois(count, batch, height * stride, width * stride, index)
    if choose.random() < 0.3:
        rois = rois.t().contiguous().t()
    grad_output = torch.randn(count, channels, groups, groups, generator=generator)
    return Inputs(score_maps, rois.to(device), groups, stride, grad_output.to(device, dtype))


def exact_inputs(
    device: torch.device, layout: torch.memory_format = torch.contiguous_format
) -> Inputs:
    """Small integers, and bins of 1, 2 or 4 pixels: every average is exact."""
    score_maps = torch.randint(-8, 9, (2, 3 * 4, 5, 7)).float()
    # Bins of 1x1, 2x1 (columns by rows), 2x2 and, half outside, 1x2 pixels.
    rois = torch.tensor(
        [[0, 16, 16, 47, 47], [1, 0, 32, 63, 63], [1, 16, 0, 79, 63], [0, -16, 0, 15, 63]]
    )
    return Inputs(
        score_maps.to(device, memory_format=layout),
        rois.float().to(device),
        2,
        16,
        4.0 * torch.randint(-4, 5, (4, 3, 2, 2), device=device),
    )


def evaluate(pool: Pool, inputs: Inputs, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """The output and the gradient, in `dtype` if given."""
    # .to() and .detach() keep a view a view: the strides are part of the case.
    score_maps = inputs.score_maps.detach().to(dtype or inputs.score_maps.dtype).requires_grad_()
    output = pool(score_maps, inputs.rois, inputs.groups, inputs.stride)
    grad_output = inputs.grad_output.to(output.dtype)
    (gradient,) = torch.autograd.grad(output, score_maps, grad_output)
    return output.detach(), gradient


def check_against_reference(results: tuple[Tensor, ...], inputs: Inputs) -> None:
    """Held to the reference in float64: at most twice the error of PyTorch's own composition.

    The composition is the reference in the inputs' dtype.
    """
    truths = evaluate(reference.ps_roi_pool, inputs, torch.float64)
    composed = evaluate(reference.ps_roi_pool, inputs)
    magnitudes = Inputs(
        inputs.score_maps.abs(), inputs.rois, inputs.groups, inputs.stride, inputs.grad_output.abs()
    )
    sums = evaluate(reference.ps_roi_pool, magnitudes, torch.float64)
    for result, truth, composition, terms in zip(results, truths, composed, sums, strict=False):
        unit = unit_in_the_last_place(terms, inputs.score_maps.dtype)
        check_error(result, truth, composition, unit)
