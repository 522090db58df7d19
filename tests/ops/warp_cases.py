"""Random cases of `warp`, and how far from the truth a backend may be on them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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


def terms_of_flow_gradient(inputs: Inputs) -> Tensor:
    """Per pixel, the sum of the magnitudes of what its flow gradient adds up, at either side."""
    feature, grad_output = inputs.feature.double().abs(), inputs.grad_output.double().abs()
    scale = None if inputs.scale is None else inputs.scale.double().abs()
    corner = inputs.flow.double().floor()
    sides = [
        (grad_output * reference.warp(feature, corner + offset, scale)).sum(1)
        for offset in torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]).view(4, 2, 1, 1).to(corner)
    ]
    return torch.stack(sides).amax(0)


def error_bound(composed: Tensor, truth: Tensor, magnitude: float) -> float:
    """Twice the error of PyTorch's composition, or one unit in the last place if that is more.

    The unit is that of `magnitude`. For an elementwise result this is the result's own; a sum is
    rounded in units of what is being summed, and on a few pixels the composition's error may
    happen to be far below them.
    """
    if composed.dtype == torch.float64:
        # The truth is itself rounded to float64, over sums of hundreds of terms of order 1.
        return 1e-13 * max(magnitude, 1)
    unit = math.ldexp(torch.finfo(composed.dtype).eps, math.frexp(magnitude)[1] - 1)
    return max(2 * float((composed.double() - truth).abs().max()), unit)


def check_against_reference(results: tuple[Tensor, ...], inputs: Inputs) -> None:
    """The 2x rule: held to the reference in float64, next to the reference in the same dtype."""
    truths = evaluate(reference.warp, inputs, torch.float64)
    composed = evaluate(reference.warp, inputs)
    for name, result, truth, composition in zip(NAMES, results, truths, composed, strict=False):
        assert (result.shape, result.dtype) == (composition.shape, composition.dtype), name
        rounded = terms_of_flow_gradient(inputs) if name == "grad_flow" else truth
        bound = error_bound(composition, truth, float(rounded.abs().max()))
        error = float((result.double() - truth).abs().max())
        assert error <= bound, f"{name}: error {error:.3g} exceeds {bound:.3g}"
