"""Random cases of `warp_aggregate`, and how far from the truth a backend may be on them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from ops.aggregate_cases import RandomMaps
from ops.listed_cases import DTYPES, PATTERNS, check_error, patterned_mask, unit_in_the_last_place
from ops.warp_cases import LAYOUTS
from torch import Tensor

from hpvod_ops import reference

WarpAggregate = Callable[..., Tensor]


@dataclass(frozen=True)
class Inputs:
    """The arguments of the op, by name."""

    key_feature: Tensor
    key_embedding: Tensor
    feature: Tensor
    embedding: Tensor
    flow: Tensor
    mask: Tensor | None = None
    own_feature: Tensor | None = None
    own_embedding: Tensor | None = None
    scale: Tensor | None = None

    def arguments(self) -> dict[str, Tensor | None]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def floats(self) -> dict[str, Tensor]:
        """Those that have gradients."""
        given = self.arguments().items()
        return {name: x for name, x in given if x is not None and x.dtype != torch.bool}


def random_inputs(index: int, device: torch.device) -> Inputs:
    """One of the random cases; the index alone determines it.

    Every fourth case has the same dtype, every other four the same layout; half have a mask, and
    half of those a scale. Shapes are odd, 1x1, or larger than a block of pixels or channels; flow
    stays, leaves the map, lies on whole pixels, or is the same but for a step. What is not to be
    read is NaN: the current maps where the mask is 0.
    """
    choose = random.Random(index)
    generator = torch.Generator().manual_seed(index)
    dtype = DTYPES[index % 4]
    maps = RandomMaps(choose, generator, dtype, LAYOUTS[index // 4 % 2], device)
    batch = choose.choice((1, 1, 2, 3))
    channels, embedding_channels = (choose.choice((1, 2, 3, 5, 8, 16, 24)) for _ in range(2))
    height, width = choose.choice((1, 2, 3, 4, 5)), choose.choice((1, 2, 3, 4, 5, 6))
    if index % 9 == 0:
        height, width = choose.choice(((3, 43), (12, 13), (260, 1)))
        batch = 1
    elif index % 5 == 0:
        channels, embedding_channels = (choose.choice((33, 130, 257, 520)) for _ in range(2))
        height, width = choose.choice((1, 2)), choose.choice((1, 3))
    elif index % 11 == 0:  # more than one strip
        channels, embedding_channels, height, width = 1000, 1037, 3, choose.choice((25, 33))
    shape, embedding_shape = ((batch, c, height, width) for c in (channels, embedding_channels))

    flow_dtype = choose.choice((dtype, torch.float32))
    flow = torch.randn(batch, 2, height, width, generator=generator)
    flow *= choose.choice((0.3, 1.0, 4.0, 100.0))
    if choose.random() < 0.2:
        flow = flow.round()
    if choose.random() < 0.3:  # neighbours move alike, but for one step in every line
        after = torch.arange(width) >= choose.randrange(width)
        flow = flow[..., :1, :1] + after * torch.randn(batch, 2, height, 1, generator=generator)
    inputs = Inputs(
        key_feature=maps(*shape),
        key_embedding=maps(*embedding_shape, scale=choose.choice((0.1, 1, 10))),
        feature=maps(*shape),
        embedding=maps(*embedding_shape, scale=choose.choice((0.1, 1, 10))),
        flow=flow.to(device, flow_dtype),
    )
    if choose.random() < 0.5:
        return inputs
    mask = patterned_mask(PATTERNS[index % len(PATTERNS)], batch, height, width, index).to(device)
    inputs.feature.masked_fill_(~mask, math.nan)
    inputs.embedding.masked_fill_(~mask, math.nan)
    return replace(
        inputs,
        mask=mask,
        own_feature=maps(*shape),
        own_embedding=maps(*embedding_shape, scale=choose.choice((0.1, 1, 10))),
        scale=maps(*shape) if choose.random() < 0.5 else None,
    )


def evaluate(op: WarpAggregate, inputs: Inputs, dtype: torch.dtype | None = None) -> Tensor:
    """The output, in `dtype` if given (flow stays the more exact)."""
    arguments = inputs.arguments()
    for name, tensor in inputs.floats().items():
        to = tensor.dtype if dtype is None else torch.promote_types(tensor.dtype, dtype)
        arguments[name] = tensor.to(to)
    return op(**arguments)


def gradients(
    op: WarpAggregate, inputs: Inputs, grad_output: Tensor, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Of all inputs that have one, by name."""
    arguments = inputs.arguments()
    leaves = {}
    for name, tensor in inputs.floats().items():
        to = tensor.dtype if dtype is None else torch.promote_types(tensor.dtype, dtype)
        arguments[name] = leaves[name] = tensor.detach().to(to).requires_grad_()
    output = op(**arguments)
    found = torch.autograd.grad(output, list(leaves.values()), grad_output.to(output.dtype))
    return dict(zip(leaves, found, strict=True))


def check_against_reference(result: Tensor, inputs: Inputs) -> None:
    """Held to the reference in float64: at most twice the error of PyTorch's own composition.

    The composition is the reference in the inputs' dtype.
    """
    truth = evaluate(reference.warp_aggregate, inputs, torch.float64)
    composed = evaluate(reference.warp_aggregate, inputs)
    check_error(result, truth, composed, unit_in_the_last_place(_terms(inputs), composed.dtype))


def _terms(inputs: Inputs) -> Tensor:
    """A bound of what is summed: the features, and their change by what is lost of a cosine."""
    largest = [inputs.key_feature, inputs.feature]
    if inputs.own_feature is not None:
        scale = 1 if inputs.scale is None else inputs.scale.abs().max()
        largest.append(inputs.own_feature * scale)
    # The terms of a cosine sum to 1 at most; one moves the output by two features at most.
    return 3 * torch.stack([each.double().nan_to_num().abs().max() for each in largest])
