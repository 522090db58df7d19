"""warp_pixels: feature propagation along the flow, Eq. 1, at listed pixels of a layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hpvod_ops import reference
from hpvod_ops.backends import choose_backend
from hpvod_ops.ops.checks import (
    check_devices,
    check_map,
    check_pixels,
    refuse_gradients,
)
from hpvod_ops.ops.overloads import define_triton, register_fake
from hpvod_ops.pixels import PixelList


def warp_pixels_(
    out: Tensor,
    feature: Tensor,
    flow: Tensor,
    pixels: PixelList,
    *,
    ratio: int = 1,
    scale: Tensor | None = None,
) -> Tensor:
    """Warps listed pixels of a layer backward along the flow of a coarser map, Eq. 1, in place.

    At pixel (y, x) of the layer the flow is ``ratio * flow[n, :, y / ratio, x / ratio]``, bilinear
    between the flow's pixels and clamped at its border, in pixels of the layer; along it
    `hpvod_ops.warp` reads, and a flow beside one that is not finite reads nothing. The other pixels
    of `out` stay as they are. The flow is interpolated and the result accumulated in float32
    (float64 for float64 features). Inference only.

    Args:
        out: [N, C, H, W], feature's dtype; dense in channels_last; not `feature`.
        feature: [N, C, H, W]; float32, float16, bfloat16 or float64; dense in channels_last.
        flow: [N, 2, h, w], (dx, dy) in its own pixels; feature's dtype or float32; contiguous
            (other strides cost a copy).
        pixels: of `out`, all different.
        ratio: pixels of the layer a pixel of the flow, in each direction.
        scale: [N, C, H, W], feature's dtype, dense in channels_last: multiplied onto the result.

    Returns:
        `out`.

    Raises:
        TypeError: an argument has another dtype.
        ValueError: an argument has another shape, layout, device or range.
        RuntimeError: an argument requires grad, or no backend can run here, or the one asked for
            cannot.
    """
    refuse_gradients("warp_pixels_", out=out, feature=feature, flow=flow, scale=scale)
    backend = choose_backend(feature.device, feature.dtype)
    if backend != "cpu":
        _check(out, feature, flow, pixels, ratio, scale)
    if backend == "reference":
        reference.warp_pixels_(out, feature, flow, pixels, ratio=ratio, scale=scale)
        return out
    try:
        (_triton_op if backend == "triton" else _op)(
            out, feature, flow.contiguous(), scale, pixels.indices, pixels.count, ratio
        )
    except RuntimeError:
        # On the CPU, looking first would take as long as warping a few pixels.
        _check(out, feature, flow, pixels, ratio, scale)
        raise
    return out


def _check(
    out: Tensor,
    feature: Tensor,
    flow: Tensor,
    pixels: PixelList,
    ratio: int,
    scale: Tensor | None,
) -> None:
    """Names the argument that is wrong."""
    check_map("feature", feature, feature, "feature")
    check_map("out", out, feature, "feature")
    if out.shape != feature.shape:
        raise ValueError(f"out must be {list(feature.shape)}, as feature is, not {list(out.shape)}")
    if scale is not None:
        check_map("scale", scale, feature, "feature")
        if scale.shape != feature.shape:
            raise ValueError(
                f"scale must be {list(feature.shape)}, as feature is, not {list(scale.shape)}"
            )
    _check_flow(flow, feature)
    if ratio < 1:
        raise ValueError(f"ratio must be at least 1, not {ratio}")
    check_pixels(pixels, feature, "feature")


def _check_flow(flow: Tensor, feature: Tensor) -> None:
    if flow.dim() != 4 or flow.shape[:2] != (feature.shape[0], 2):
        raise ValueError(
            f"flow must be [{feature.shape[0]}, 2, h, w] for a feature of {list(feature.shape)}, "
            f"not {list(flow.shape)}"
        )
    if flow.numel() == 0 and feature.numel() > 0:
        raise ValueError(f"flow has no pixels: it is {list(flow.shape)}")
    if flow.dtype not in (feature.dtype, torch.float32):
        raise TypeError(
            f"flow must be {feature.dtype}, as feature is, or float32, not {flow.dtype}"
        )
    if flow.device != feature.device:
        raise ValueError(f"flow is on {flow.device}, but feature is on {feature.device}")


def _triton(*arguments: Any) -> None:
    from hpvod_ops.triton.warp_pixels import warp_pixels as kernels

    kernels(*arguments)


def _fake(*arguments: Any) -> None:
    check_devices(arguments)


define_triton("warp_pixels_", _triton)
register_fake("warp_pixels_", _fake)
_op, _triton_op = torch.ops.hpvod.warp_pixels_.default, torch.ops.hpvod.warp_pixels_.triton
