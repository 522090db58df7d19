"""aggregate: frames averaged by the similarity of their embeddings, Eq. 2 and 3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hpvod_ops import reference
from hpvod_ops.backends import choose_backend
from hpvod_ops.ops.composition import gradients_of
from hpvod_ops.ops.layout import memory_format_of
from hpvod_ops.ops.overloads import define_triton, register_fake

MAX_FRAMES = 64  # as in csrc/kernels/aggregate.h


def aggregate(features: Sequence[Tensor], embeddings: Sequence[Tensor]) -> Tensor:
    """Averages T feature maps, weighted at each position by their similarity: Eq. 2 and 3.

    ``output = sum_t w_t * features[t]``, where w is the softmax over t of
    cos(embeddings[t], embeddings[-1]). Norms below 1e-12 count as that: an embedding of zeros has
    cosine 0 with every other, itself included. Accumulates in float32 (float64 for float64 maps).

    Differentiable in features and embeddings; an embedding of zeros gets gradient 0. The gradient
    is that of PyTorch's own ops, which compute the average anew, on every backend, and is as
    deterministic as they are.

    Args:
        features: 1 to 64 maps of [N, C, H, W], warped onto the current frame, whose own come last;
            float32, float16, bfloat16 or float64. In channels_last they are read as they lie, and
            on the CPU more slowly where all are contiguous; anything else costs a copy.
        embeddings: As many maps of [N, E, H, W], likewise, of the features' dtype.

    Returns:
        [N, C, H, W], in the dtype and memory layout of features[-1].

    Raises:
        TypeError: a map has another dtype.
        ValueError: there are too few maps or too many, or one has another shape or device.
        RuntimeError: no backend can run here, or the one asked for cannot.
    """
    _check(features, embeddings)
    current = features[-1]
    backend = choose_backend(current.device, current.dtype)
    if backend == "reference":
        return reference.aggregate(features, embeddings)
    op = torch.ops.hpvod.aggregate
    overload = op.triton if backend == "triton" else op.default
    output: Tensor = overload(list(features), list(embeddings))
    return output


def _check(features: Sequence[Tensor], embeddings: Sequence[Tensor]) -> None:
    if not 1 <= len(features) <= MAX_FRAMES:
        raise ValueError(f"features must be 1 to {MAX_FRAMES} maps, not {len(features)}")
    if len(embeddings) != len(features):
        raise ValueError(
            f"embeddings must be {len(features)} maps, as features are, not {len(embeddings)}"
        )
    current = features[-1]
    if current.dim() != 4:
        raise ValueError(f"features[-1] must be [N, C, H, W], not {list(current.shape)}")
    batch, _, height, width = current.shape
    if embeddings[-1].dim() != 4 or _places(embeddings[-1]) != _places(current):
        raise ValueError(
            f"embeddings[-1] must be [{batch}, E, {height}, {width}] for features of "
            f"{list(current.shape)}, not {list(embeddings[-1].shape)}"
        )
    for name, maps in (("features", features), ("embeddings", embeddings)):
        for index, each in enumerate(maps):
            if each.shape != maps[-1].shape:
                raise ValueError(
                    f"{name}[{index}] must be {list(maps[-1].shape)}, as {name}[-1] is, not "
                    f"{list(each.shape)}"
                )
            if each.dtype != current.dtype:
                raise TypeError(
                    f"{name}[{index}] must be {current.dtype}, as features[-1] is, not {each.dtype}"
                )
            if each.device != current.device:
                raise ValueError(
                    f"{name}[{index}] is on {each.device}, but features[-1] is on {current.device}"
                )


def _places(map: Tensor) -> tuple[int, int, int]:
    batch, _, height, width = map.shape
    return batch, height, width


def _triton(features: list[Tensor], embeddings: list[Tensor]) -> Tensor:
    from hpvod_ops.triton.aggregate import aggregate as kernels

    return kernels(features, embeddings)


def _fake(features: list[Tensor], embeddings: list[Tensor]) -> Tensor:
    current = features[-1]
    return torch.empty_like(current, memory_format=memory_format_of(current))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, embeddings = inputs
    ctx.save_for_backward(*features, *embeddings)


def _backward(ctx: Any, grad_output: Tensor) -> tuple[list[Tensor | None], list[Tensor | None]]:
    frames = len(ctx.saved_tensors) // 2
    needed_features, needed_embeddings = ctx.needs_input_grad
    gradients = gradients_of(
        lambda maps: reference.aggregate(maps[:frames], maps[frames:]),  # type: ignore[arg-type]
        ctx.saved_tensors,
        [*needed_features, *needed_embeddings],
        grad_output,
    )
    return gradients[:frames], gradients[frames:]


define_triton("aggregate", _triton)
register_fake("aggregate", _fake)
for _overload in ("default", "triton"):
    torch.library.register_autograd(
        getattr(torch.ops.hpvod.aggregate, _overload), _backward, setup_context=_setup_context
    )
