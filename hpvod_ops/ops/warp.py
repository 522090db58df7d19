"""warp: feature propagation along the flow, Eq. 1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hpvod_ops import reference
from hpvod_ops.backends import choose_backend
from hpvod_ops.ops.layout import memory_format_of
from hpvod_ops.ops.overloads import define_triton, register_fake


def warp(feature: Tensor, flow: Tensor, scale: Tensor | None = None) -> Tensor:
    """Warps a feature map backward along a flow: F_{k->i} = W(F_k, M_{i->k}), Eq. 1.

    ``output[n, c, y, x] = scale[n, c, y, x] * feature[n, c, y + dy, x + dx]``, read bilinearly
    with (dx, dy) = flow[n, :, y, x], and zero outside the map; a flow that is not finite reads
    nothing. Accumulates in float32 (float64 for float64 features). Differentiable once in
    feature, flow and scale.

    Args:
        feature: [N, C, H, W], or [1, C, H, W] to warp one map along N flows; float32, float16,
            bfloat16 or float64; contiguous or channels_last (other strides cost a copy).
        flow: [N, 2, H, W], (dx, dy) in pixels of the feature map; feature's dtype or float32.
        scale: [N, C, H, W], feature's dtype: Deep Feature Flow's scale map, multiplied onto
            the warped feature in the same pass.

    Returns:
        [N, C, H, W], in feature's dtype and memory layout.

    Raises:
        TypeError: an argument has another dtype.
        ValueError: an argument has another shape or device.
        RuntimeError: no backend can run here, or the one asked for cannot.
    """
    _check(feature, flow, scale)
    backend = choose_backend(feature.device, feature.dtype)
    if backend == "reference":
        return reference.warp(feature, flow, scale)
    overload = torch.ops.hpvod.warp.triton if backend == "triton" else torch.ops.hpvod.warp.default
    output: Tensor = overload(feature, flow, scale)
    return output


def _check(feature: Tensor, flow: Tensor, scale: Tensor | None) -> None:
    if feature.dim() != 4:
        raise ValueError(f"feature must be [N, C, H, W], not {list(feature.shape)}")
    batch, channels, height, width = feature.shape
    if flow.dim() != 4 or flow.shape[1:] != (2, height, width):
        raise ValueError(
            f"flow must be [N, 2, {height}, {width}] for a feature of "
            f"{list(feature.shape)}, not {list(flow.shape)}"
        )
    if batch not in (1, flow.shape[0]):
        raise ValueError(
            f"feature must have a batch of {flow.shape[0]}, as flow has, or of 1, not {batch}"
        )
    if flow.dtype not in (feature.dtype, torch.float32):
        raise TypeError(
            f"flow must be {feature.dtype}, as feature is, or float32, not {flow.dtype}"
        )
    if flow.device != feature.device:
        raise ValueError(f"flow is on {flow.device}, but feature is on {feature.device}")
    if scale is None:
        return
    expected = (flow.shape[0], channels, height, width)
    if scale.shape != expected:
        raise ValueError(f"scale must be {list(expected)}, not {list(scale.shape)}")
    if scale.dtype != feature.dtype:
        raise TypeError(f"scale must be {feature.dtype}, as feature is, not {scale.dtype}")
    if scale.device != feature.device:
        raise ValueError(f"scale is on {scale.device}, but feature is on {feature.device}")


def _triton_forward(feature: Tensor, flow: Tensor, scale: Tensor | None) -> Tensor:
    from hpvod_ops.triton.warp import warp_forward

    return warp_forward(feature, flow, scale)


def _triton_backward(
    grad_output: Tensor,
    feature: Tensor,
    flow: Tensor,
    scale: Tensor | None,
    *needed: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    from hpvod_ops.triton.warp import warp_backward

    need_feature, need_flow, need_scale = needed
    return warp_backward(grad_output, feature, flow, scale, (need_feature, need_flow, need_scale))


def _fake_warp(feature: Tensor, flow: Tensor, scale: Tensor | None) -> Tensor:
    batch, _, height, width = flow.shape
    return torch.empty(
        (batch, feature.shape[1], height, width),
        dtype=feature.dtype,
        device=feature.device,
        memory_format=memory_format_of(feature),
    )


def _fake_warp_backward(
    grad_output: Tensor,
    feature: Tensor,
    flow: Tensor,
    scale: Tensor | None,
    need_feature: bool,
    need_flow: bool,
    need_scale: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    layout = memory_format_of(feature)
    return (
        torch.empty_like(feature, memory_format=layout) if need_feature else feature.new_empty(0),
        torch.empty_like(flow, memory_format=torch.contiguous_format)
        if need_flow
        else flow.new_empty(0),
        torch.empty_like(grad_output, memory_format=layout)
        if need_scale and scale is not None
        else feature.new_empty(0),
    )


def _register_autograd(overload: str) -> None:
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        feature, flow, scale = ctx.saved_tensors
        needed = ctx.needs_input_grad
        op = getattr(torch.ops.hpvod.warp_backward, overload)
        gradients = op(grad_output, feature, flow, scale, *needed)
        return tuple(g if need else None for g, need in zip(gradients, needed, strict=True))

    def backward_of_backward(ctx: Any, *gradients: Tensor) -> None:
        raise NotImplementedError("warp is differentiable once; its gradients have no gradient")

    torch.library.register_autograd(
        getattr(torch.ops.hpvod.warp, overload), backward, setup_context=setup_context
    )
    torch.library.register_autograd(
        getattr(torch.ops.hpvod.warp_backward, overload), backward_of_backward
    )


define_triton("warp", _triton_forward)
define_triton("warp_backward", _triton_backward)
register_fake("warp", _fake_warp)
register_fake("warp_backward", _fake_warp_backward)
for _overload in ("default", "triton"):
    _register_autograd(_overload)
