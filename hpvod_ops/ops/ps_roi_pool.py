"""ps_roi_pool: the position-sensitive RoI pooling of R-FCN, the detection network's (Section 3.5).

torchvision's `ps_roi_pool` is another function: it rounds RoIs after scaling them to the feature
map, has no (x2 + 1), and clips bins to height - 1, so it never reads the last row and column.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hpvod_ops import reference
from hpvod_ops.backends import choose_backend
from hpvod_ops.ops.overloads import define_triton, register_fake, register_fake_of_out
from hpvod_ops.reference.ps_roi_pool import ps_roi_pool_gradient

# As in csrc/kernels/roi_bins.h.
MAX_GROUPS = 2**10
MAX_STRIDE = 2**20


def ps_roi_pool(score_maps: Tensor, rois: Tensor, groups: int, stride: int) -> Tensor:
    """Averages bin (i, j) of each RoI over the score maps of group (i, j).

    A RoI's corners are rounded to whole image pixels, halves up, x2 and y2 moved by 1, and a side
    is at least 0.1 feature pixels; bins divide it evenly. A bin averages every feature pixel that
    it touches, and is 0 where it touches none; so are all bins of a RoI with a NaN, or of an image
    that there is not. Accumulates in float32 (float64 for float64 score maps).

    Differentiable in score_maps; rois get no gradient. The gradient is computed by PyTorch's own
    matrix products on every backend, with [R, N, C, groups, groups, h] intermediate values, and is
    as deterministic as they are.

    Args:
        score_maps: [N, C * groups * groups, h, w], channel (c * groups + i) * groups + j; float32,
            float16, bfloat16 or float64; contiguous or channels_last (other strides cost a copy).
        rois: [R, 5] float32 of (image index, x1, y1, x2, y2) in image pixels.
        groups: Bins a side, at most 2^10.
        stride: Image pixels a feature pixel, at most 2^20.

    Returns:
        [R, C, groups, groups] in score_maps' dtype.

    Raises:
        TypeError: an argument has another dtype.
        ValueError: an argument has another shape, device or range.
        RuntimeError: no backend can run here, or the one asked for cannot.
    """
    _check(score_maps, rois, groups, stride)
    backend = choose_backend(score_maps.device, score_maps.dtype)
    if backend == "reference":
        return reference.ps_roi_pool(score_maps, rois, groups, stride)
    op = torch.ops.hpvod.ps_roi_pool
    overload = op.triton if backend == "triton" else op.default
    output: Tensor = overload(score_maps, rois, groups, stride)
    return output


def _check(score_maps: Tensor, rois: Tensor, groups: int, stride: int) -> None:
    if not 1 <= groups <= MAX_GROUPS:
        raise ValueError(f"groups must be 1 to {MAX_GROUPS}, not {groups}")
    if not 1 <= stride <= MAX_STRIDE:
        raise ValueError(f"stride must be 1 to {MAX_STRIDE}, not {stride}")
    if score_maps.dim() != 4 or score_maps.shape[1] % groups**2 != 0:
        raise ValueError(
            f"score_maps must be [N, C * {groups} * {groups}, h, w] for {groups} groups, not "
            f"{list(score_maps.shape)}"
        )
    if rois.dim() != 2 or rois.shape[1] != 5:
        raise ValueError(f"rois must be [R, 5], not {list(rois.shape)}")
    if rois.dtype != torch.float32:
        raise TypeError(f"rois must be torch.float32, not {rois.dtype}")
    if rois.device != score_maps.device:
        raise ValueError(f"rois is on {rois.device}, but score_maps is on {score_maps.device}")


def _triton(score_maps: Tensor, rois: Tensor, groups: int, stride: int) -> Tensor:
    from hpvod_ops.triton.ps_roi_pool import ps_roi_pool as kernels

    return kernels(score_maps, rois, groups, stride)


def _fake(score_maps: Tensor, rois: Tensor, groups: int, stride: int) -> Tensor:
    channels = score_maps.shape[1] // groups**2
    return score_maps.new_empty((rois.shape[0], channels, groups, groups))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    score_maps, rois, ctx.groups, ctx.stride = inputs
    batch, _, height, width = score_maps.shape
    ctx.size = (batch, height, width)
    ctx.save_for_backward(rois)


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    (rois,) = ctx.saved_tensors
    gradient = ps_roi_pool_gradient(grad_output, rois, ctx.groups, ctx.stride, ctx.size)
    return gradient, None, None, None


define_triton("ps_roi_pool", _triton)
register_fake("ps_roi_pool", _fake)
register_fake_of_out("ps_roi_pool_out")
for _overload in ("default", "triton"):
    torch.library.register_autograd(
        getattr(torch.ops.hpvod.ps_roi_pool, _overload), _backward, setup_context=_setup_context
    )
