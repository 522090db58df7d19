"""R-FCN's RoI pooling in plain PyTorch: the truth for every backend of `ps_roi_pool`."""

from __future__ import annotations

import torch
from torch import Tensor

FAR = 2.0**24  # corners farther than this are moved here


def ps_roi_pool(score_maps: Tensor, rois: Tensor, groups: int, stride: int) -> Tensor:
    """`hpvod_ops.ps_roi_pool`, as sums weighted by 0 and 1; differentiable, any dtype and device.

    Weighted by 0, a value that is not finite is NaN: it spreads to bins that do not touch it.
    """
    batch, channels, height, width = score_maps.shape
    accumulate = torch.float64 if score_maps.dtype == torch.float64 else torch.float32
    maps = score_maps.to(accumulate).view(
        batch, channels // groups**2, groups, groups, height, width
    )
    rows, columns = bins(rois, groups, stride, (batch, height, width))
    sums = torch.einsum("rjx,ncijyx->rncijy", columns.to(accumulate), maps)
    total = torch.einsum("rniy,rncijy->rcij", rows.to(accumulate), sums)
    return (total / areas(rows, columns)).to(score_maps.dtype)


def ps_roi_pool_gradient(
    grad_output: Tensor, rois: Tensor, groups: int, stride: int, size: tuple[int, int, int]
) -> Tensor:
    """The gradient for score maps of size (N, h, w): the same sums, transposed."""
    accumulate = torch.float64 if grad_output.dtype == torch.float64 else torch.float32
    rows, columns = bins(rois, groups, stride, size)
    share = grad_output.to(accumulate) / areas(rows, columns)
    sums = torch.einsum("rniy,rcij->rncijy", rows.to(accumulate), share)
    gradient = torch.einsum("rjx,rncijy->ncijyx", columns.to(accumulate), sums)
    return gradient.flatten(1, 3).to(grad_output.dtype)


def bins(
    rois: Tensor, groups: int, stride: int, size: tuple[int, int, int]
) -> tuple[Tensor, Tensor]:
    """Which rows and columns of maps of size (N, h, w) the bins touch.

    Returns:
        bool [R, N, groups, h], of the RoI's image alone, and [R, groups, w].
    """
    batch, height, width = size
    image = rois[:, 0]
    live = (image > -1) & (image < batch) & ~rois.isnan().any(1)
    of_image = image.long()[:, None] == torch.arange(batch, device=rois.device)
    rows = _touched(rois[:, 2], rois[:, 4], groups, stride, height)
    columns = _touched(rois[:, 1], rois[:, 3], groups, stride, width)
    return (of_image & live[:, None])[..., None, None] & rows[:, None], columns


def areas(rows: Tensor, columns: Tensor) -> Tensor:
    """Pixels of each bin, [R, 1, groups, groups]; 1 for an empty one, whose sum is 0."""
    height, width = rows.any(1).sum(-1), columns.sum(-1)
    return (height[:, :, None] * width[:, None, :]).clamp(min=1)[:, None]


def _touched(low: Tensor, high: Tensor, groups: int, stride: int, side: int) -> Tensor:
    """The feature pixels that each bin touches along one side, bool [R, groups, side].

    In integers, the unit being a (10 * groups)th of an image pixel: edges are fractions, and no
    rounding is to decide whether a bin that ends at a pixel's border touches the next.
    """
    first, last = ((c + 0.5).floor().clamp(-FAR, FAR).long()[:, None] for c in (low, high))
    length = (10 * (last + 1 - first)).clamp(min=stride)  # of a bin; a side is at least 0.1 pixels
    begin = 10 * groups * first + torch.arange(groups, device=low.device) * length
    pixel = 10 * groups * stride
    position = pixel * torch.arange(side, device=low.device)
    return (position < (begin + length)[..., None]) & (position + pixel > begin[..., None])
