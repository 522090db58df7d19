"""Random cases of `aggregate`, and how far from the truth a backend may be on them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from ops.listed_cases import DTYPES, check_error, unit_in_the_last_place
from ops.warp_cases import LAYOUTS
from torch import Tensor

from hpvod_ops import reference

Aggregate = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]


@dataclass(frozen=True)
class Inputs:
    features: list[Tensor]
    embeddings: list[Tensor]
    grad_output: Tensor

    @property
    def maps(self) -> list[Tensor]:
        return [*self.features, *self.embeddings]


@dataclass(frozen=True)
class RandomMaps:
    """Maps of one dtype and layout: whole, or views into a larger tensor of NaN."""

    choose: random.Random
    generator: torch.Generator
    dtype: torch.dtype
    layout: torch.memory_format
    device: torch.device

    def __call__(self, *shape: int, scale: float = 1.0) -> Tensor:
        values = (scale * torch.randn(shape, generator=self.generator)).to(self.dtype)
        return self.placed(values)

    def placed(self, values: Tensor) -> Tensor:
        """The same values in such a map."""
        axis = self.choose.choice((None, 0, 1, 3))
        if axis is None:
            return values.to(self.device).contiguous(memory_format=self.layout)
        padded_shape = list(values.shape)
        padded_shape[axis] += 2
        padded = torch.full(padded_shape, math.nan, dtype=self.dtype, device=self.device)
        padded = padded.contiguous(memory_format=self.layout)
        return padded.narrow(axis, 1, values.shape[axis]).copy_(values)


def random_inputs(index: int, device: torch.device) -> Inputs:
    """One of the random cases; the index alone determines it.

    Every fourth case has the same dtype, every other four the same layout; shapes are odd, 1x1,
    or larger than a block of pixels or channels. Some embeddings are alike, long or short.
    """
    choose = random.Random(index)
    generator = torch.Generator().manual_seed(index)
    maps = RandomMaps(choose, generator, DTYPES[index % 4], LAYOUTS[index // 4 % 2], device)
    frames, batch = choose.choice((1, 2, 2, 3, 5, 19)), choose.choice((1, 1, 2, 3))
    channels, embedding_channels = (choose.choice((1, 2, 3, 5, 8, 16, 24)) for _ in range(2))
    height, width = choose.choice((1, 2, 3, 4, 5)), choose.choice((1, 2, 3, 4, 5, 6))
    if index % 9 == 0:
        height, width = choose.choice(((3, 43), (12, 13), (260, 1)))
        batch, frames = 1, min(frames, 5)
    elif index % 5 == 0:
        channels = choose.choice((33, 130, 257, 300))
        embedding_channels = choose.choice((35, 140, 280, 520))
        height, width = choose.choice((1, 2)), choose.choice((1, 3))
    shape = (batch, channels, height, width)
    embedding_shape = (batch, embedding_channels, height, width)
    like = torch.randn(embedding_shape, generator=generator) * choose.choice((0, 1))
    embeddings = []
    for _ in range(frames):
        noise = torch.randn(embedding_shape, generator=generator)
        values = choose.choice((0.01, 1, 100)) * (like + noise)
        embeddings.append(maps.placed(values.to(maps.dtype)))
    return Inputs([maps(*shape) for _ in range(frames)], embeddings, maps(*shape))


def evaluate(
    aggregate: Aggregate, inputs: Inputs, dtype: torch.dtype | None = None
) -> tuple[Tensor, ...]:
    """The output and every gradient, in `dtype` if given."""
    # .to() and .detach() keep a view a view: the strides are part of the case.
    leaves = [m.detach().to(dtype or m.dtype).requires_grad_() for m in inputs.maps]
    frames = len(inputs.features)
    output = aggregate(leaves[:frames], leaves[frames:])
    gradients = torch.autograd.grad(output, leaves, inputs.grad_output.to(output.dtype))
    return output.detach(), *gradients


def check_against_reference(results: tuple[Tensor, ...], inputs: Inputs) -> None:
    """Held to the reference in float64: at most twice the error of PyTorch's own composition.

    The composition is the reference in the inputs' dtype. One result alone, the output, will do.
    """
    truths = evaluate(reference.aggregate, inputs, torch.float64)
    composed = evaluate(reference.aggregate, inputs)
    # What is lost of a cosine, whose terms sum to 1 at most, moves the output by twice the largest
    # feature at most; its own terms are no larger. The gradients are the composition's own.
    terms = [3 * torch.stack([f.abs() for f in inputs.features])]
    terms += [gradient.abs() for gradient in truths[1:]]
    for result, truth, composition, term in zip(results, truths, composed, terms, strict=False):
        unit = unit_in_the_last_place(term, inputs.grad_output.dtype)
        check_error(result, truth, composition, unit)
