"""warp_aggregate: recursive aggregation with the key frame along the flow, Eq. 7, 10 and 11."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from hpvod_ops import reference
from hpvod_ops.backends import choose_backend
from hpvod_ops.ops.composition import gradients_of
from hpvod_ops.ops.layout import memory_format_of
from hpvod_ops.ops.overloads import define_triton, register_fake, register_fake_of_out


def warp_aggregate(
    key_feature: Tensor,
    key_embedding: Tensor,
    feature: Tensor,
    embedding: Tensor,
    flow: Tensor,
    *,
    mask: Tensor | None = None,
    own_feature: Tensor | None = None,
    own_embedding: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """Aggregates a frame with its key frame along the flow, in one pass: Eq. 7 and 11.

    ``output = w_k * warp(key_feature, flow) + w_i * feature``, where w is the softmax of
    cos(warp(key_embedding, flow), embedding) and cos(embedding, embedding). It equals
    ``aggregate([warp(key_feature, flow), feature], [warp(key_embedding, flow), embedding])``, but
    stores nothing that is warped. Reads as `warp` does: zero outside the map. An embedding of zeros
    has cosine 0 with every other, itself included. Accumulates in float32 (float64 for float64
    maps).

    With a mask U, it also selects, Eq. 10: where U is 0, warp(own_feature, flow, scale) and
    warp(own_embedding, flow) stand for feature and embedding, which are not read there.

    Differentiable once in every map and the flow; an embedding of zeros gets gradient 0. The
    gradient is that of `warp` and PyTorch's own ops, which compute the output anew, on every
    backend, and is as deterministic as they are.

    Args:
        key_feature: [N, C, H, W], the key frame's aggregated features; float32, float16, bfloat16
            or float64. Of its dtype are all maps. In channels_last they are read as they lie, and
            on the CPU more slowly where all are contiguous; anything else costs a copy.
        key_embedding: [N, E, H, W], of key_feature.
        feature: [N, C, H, W], the current frame's.
        embedding: [N, E, H, W], of feature.
        flow: [N, 2, H, W], (dx, dy) from the current frame to the key frame in pixels of the maps;
            the maps' dtype or float32.
        mask: bool [N, 1, H, W], U of Eq. 6; None for 1 everywhere.
        own_feature: [N, C, H, W], the key frame's before aggregation; with a mask, and only then.
        own_embedding: [N, E, H, W], of own_feature; likewise.
        scale: [N, C, H, W], Deep Feature Flow's scale map on the warped own_feature; only with a
            mask.

    Returns:
        [N, C, H, W], in feature's dtype and memory layout.

    Raises:
        TypeError: an argument has another dtype.
        ValueError: an argument has another shape or device, or is missing.
        RuntimeError: no backend can run here, or the one asked for cannot.
    """
    arguments = (
        key_feature,
        key_embedding,
        feature,
        embedding,
        flow,
        mask,
        own_feature,
        own_embedding,
        scale,
    )
    _check(*arguments)
    backend = choose_backend(feature.device, feature.dtype)
    if backend == "reference":
        return reference.warp_aggregate(*arguments)
    op = torch.ops.hpvod.warp_aggregate
    overload = op.triton if backend == "triton" else op.default
    output: Tensor = overload(*arguments)
    return output


def _check(
    key_feature: Tensor,
    key_embedding: Tensor,
    feature: Tensor,
    embedding: Tensor,
    flow: Tensor,
    mask: Tensor | None,
    own_feature: Tensor | None,
    own_embedding: Tensor | None,
    scale: Tensor | None,
) -> None:
    for name, each in (("feature", feature), ("embedding", embedding)):
        if each.dim() != 4:
            raise ValueError(f"{name} must be [N, C, H, W], not {list(each.shape)}")
    batch, channels, height, width = feature.shape
    embedding_channels = embedding.shape[1]
    for name, tensor, expected, dtypes in (
        ("embedding", embedding, embedding_channels, (feature.dtype,)),
        ("key_feature", key_feature, channels, (feature.dtype,)),
        ("key_embedding", key_embedding, embedding_channels, (feature.dtype,)),
        ("flow", flow, 2, (feature.dtype, torch.float32)),
        ("mask", mask, 1, (torch.bool,)),
        ("own_feature", own_feature, channels, (feature.dtype,)),
        ("own_embedding", own_embedding, embedding_channels, (feature.dtype,)),
        ("scale", scale, channels, (feature.dtype,)),
    ):
        if tensor is None:
            continue
        shape = (batch, expected, height, width)
        if tensor.shape != shape:
            raise ValueError(
                f"{name} must be {list(shape)} for a feature of {list(feature.shape)}, not "
                f"{list(tensor.shape)}"
            )
        if tensor.dtype not in dtypes:
            allowed = " or ".join(map(str, dict.fromkeys(dtypes)))
            raise TypeError(f"{name} must be {allowed}, not {tensor.dtype}")
        if tensor.device != feature.device:
            raise ValueError(f"{name} is on {tensor.device}, but feature is on {feature.device}")
    for name, tensor in (("own_feature", own_feature), ("own_embedding", own_embedding)):
        if mask is not None and tensor is None:
            raise ValueError(f"{name} is needed with a mask")
    for name, tensor in (
        ("own_feature", own_feature),
        ("own_embedding", own_embedding),
        ("scale", scale),
    ):
        if mask is None and tensor is not None:
            raise ValueError(f"{name} is read where the mask is 0: it needs a mask")


def _triton(*arguments: Any) -> Tensor:
    from hpvod_ops.triton.warp_aggregate import warp_aggregate as kernels

    return kernels(*arguments)


def _fake(key_feature: Tensor, key_embedding: Tensor, feature: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(feature, memory_format=memory_format_of(feature))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _register_autograd(overload: str) -> None:
    warp = getattr(torch.ops.hpvod.warp, overload)
    composition: Any = functools.partial(reference.warp_aggregate, warp=warp)

    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return tuple(
            gradients_of(
                lambda inputs: composition(*inputs),
                ctx.saved_tensors,
                ctx.needs_input_grad,
                grad_output,
            )
        )

    torch.library.register_autograd(
        getattr(torch.ops.hpvod.warp_aggregate, overload), backward, setup_context=_setup_context
    )


define_triton("warp_aggregate", _triton)
register_fake("warp_aggregate", _fake)
register_fake_of_out("warp_aggregate_out")
for _overload in ("default", "triton"):
    _register_autograd(_overload)
