"""Random cases of `warp`, and how far from the truth a backend may be on them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hpvod_ops import reference

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
LAYOUTS = (torch.contiguous_format, torch.channels_last)
NAMES = ("output", "grad_feature", "grad_flow", "grad_scale")

Warp = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Inputs:
    feature: Tensor
    flow: Tensor
    scale: Tensor | None
    grad_output: Tensor


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Fresh tensors hold NaN, or the largest integer: what is not written shows."""
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(1).isnan()
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def random_inputs(index: int, device: torch.device) -> Inputs:
    """One of the random cases; the index alone determines it.

    Every fourth case has the same dtype, every other four the same layout; shapes are odd, 1x1,
    or larger than a block of pixels or channels; maps are whole, or views into a larger tensor
    of NaN; flow stays, leaves the map, or lies on whole pixels.
    """
    choose = random.Random(index)
    generator = torch.Generator().manual_seed(index)
    dtype, layout = DTYPES[index % 4], LAYOUTS[index // 4 % 2]
    batch = choose.choice((1, 1, 2, 3))
    feature_batch = choose.choice((1, batch))
    channels = choose.choice((1, 2, 3, 5, 8, 16, 24))
    height, width = choose.choice((1, 2, 3, 4, 5)), choose.choice((1, 2, 3, 4, 5, 6))
    if index % 9 == 0:
        height, width = choose.choice(((3, 43), (12, 13), (260, 1)))
        channels, batch, feature_batch = choose.choice((1, 3, 4)), 1, 1
    elif index % 5 == 0:
        channels = choose.choice((130, 257, 300))
        height, width = choose.choice((1, 2)), choose.choice((1, 3))
    shape = (batch, channels, height, width)

    def random_map(*shape: int) -> Tensor:
        values = torch.randn(shape, generator=generator).to(dtype)
        axis = choose.choice((None, 0, 1, 3))
        if axis is None:
            return values.to(device, memory_format=layout)
        padded_shape = list(shape)
        padded_shape[axis] += 2
        padded = torch.full(padded_shape, math.nan, dtype=dtype, device=device)
        view = padded.contiguous(memory_format=layout).narrow(axis, 1, shape[axis])
        return view.copy_(values)

    flow_dtype = choose.choice((dtype, torch.float32))
    reach = choose.choice((0.3, 1.0, 4.0, 100.0))
    flow = torch.randn(batch, 2, height, width, generator=generator) * reach
    if choose.random() < 0.2:
        flow = flow.round()
    return Inputs(
        feature=random_map(feature_batch, *shape[1:]),
        flow=flow.to(device, flow_dtype),
        scale=random_map(*shape) if choose.random() < 0.5 else None,
        grad_output=random_map(*shape),
    )


def exact_inputs(
    device: torch.device, layout: torch.memory_format = torch.contiguous_format
) -> Inputs:
    """Small integers, and flow in quarters: every sum is exact, in whatever order."""
    shape = (2, 6, 5, 7)
    feature, scale, grad_output = (
        torch.randint(-4, 5, shape).float().to(device, memory_format=layout) for _ in range(3)
    )
    flow = (torch.randint(-12, 13, (2, 2, 5, 7)) / 4).to(device)
    return Inputs(feature, flow, scale, grad_output)


def evaluate(warp: Warp, inputs: Inputs, dtype: torch.dtype | None = None) -> tuple[Tensor, ...]:
    """The output and every gradient, in `dtype` if given (flow stays the more exact)."""

    def leaf(tensor: Tensor, to: torch.dtype | None) -> Tensor:
        # .to() and .detach() keep a view a view: the strides are part of the case.
        return (tensor.detach() if to is None else tensor.detach().to(to)).requires_grad_()

    flow_dtype = None if dtype is None else torch.promote_types(inputs.flow.dtype, dtype)
    leaves = [leaf(inputs.feature, dtype), leaf(inputs.flow, flow_dtype)]
    if inputs.scale is not None:
        leaves.append(leaf(inputs.scale, dtype))
    output = warp(leaves[0], leaves[1], leaves[2] if len(leaves) == 3 else None)
    gradients = torch.autograd.grad(output, leaves, inputs.grad_output.to(output.dtype))
    return output.detach(), *gradients


def units_in_the_last_place(inputs: Inputs) -> tuple[float, ...]:
    """For each result, one of the largest sum of its terms' magnitudes, in the accumulation type.

    So much is lost in adding the terms in any order. The composition's error can by luck be far
    smaller, above all where one pixel alone has a gradient, or where it is the truth itself.
    """
    wide = torch.float64 if inputs.feature.dtype == torch.float64 else torch.float32
    feature = inputs.feature.abs()
    scale = None if inputs.scale is None else inputs.scale.abs()
    terms = Inputs(feature, inputs.flow, scale, inputs.grad_output.abs())
    output, grad_feature, _, *grad_scale = evaluate(reference.warp, terms, torch.float64)
    # grad_flow sums differences between neighbours: of alternating signs, they add up.
    slopes = []
    for axis in (1, 0):
        size = feature.shape[3 - axis]
        signs = 1 - torch.arange(size, device=feature.device) % 2 * 2
        alternating = feature * (signs if axis == 0 else signs[:, None])
        gradient = evaluate(reference.warp, replace(terms, feature=alternating), torch.float64)[2]
        slopes.append(gradient[:, axis].abs())
    return tuple(
        math.ldexp(torch.finfo(wide).eps, math.frexp(float(sums.max()))[1] - 1)
        for sums in (output, grad_feature, torch.stack(slopes), *grad_scale)
    )


def check_against_reference(results: tuple[Tensor, ...], inputs: Inputs) -> None:
    """Held to the reference in float64: at most twice the error of PyTorch's own composition.

    The composition is the reference in the inputs' dtype. Its error is counted as one unit in the
    last place more than it happens to be.
    """
    truths = evaluate(reference.warp, inputs, torch.float64)
    composed = evaluate(reference.warp, inputs)
    units = units_in_the_last_place(inputs)
    for name, result, truth, composition, unit in zip(
        NAMES, results, truths, composed, units, strict=False
    ):
        assert (result.shape, result.dtype) == (composition.shape, composition.dtype), name
        bound = 2 * (float((composition.double() - truth).abs().max()) + unit)
        error = float((result.double() - truth).abs().max())
        assert error <= bound, f"{name}: error {error:.3g} exceeds {bound:.3g}"
