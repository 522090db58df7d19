"""R-FCN's position-sensitive RoI average pooling.

torchvision's `ps_roi_pool` is another function: it rounds RoIs after scaling them to the feature
map, has no (x2 + 1), and clips bins to height - 1, so it never reads the last row and column.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def ps_roi_pool(score_maps: Tensor, rois: Tensor, groups: int, stride: int) -> Tensor:
    """Average bin (i, j) of each RoI over the score maps of group (i, j).

    A RoI's corners are rounded to whole image pixels, x2 and y2 moved by 1, and a side is at least
    0.1 feature pixels. A bin averages every feature pixel that it touches; an empty one is 0.

    Args:
        score_maps: [N, C * groups * groups, h, w], channel (c * groups + i) * groups + j.
        rois: [R, 5] float32 of (image index, x1, y1, x2, y2) in image pixels.
        groups: Bins a side.
        stride: Image pixels a feature pixel.

    Returns:
        [R, C, groups, groups] in the score maps' dtype.
    """
    height, width = score_maps.shape[-2:]
    x0, x1 = _bin_edges(rois[:, 1], rois[:, 3], groups, stride, width)
    y0, y1 = _bin_edges(rois[:, 2], rois[:, 4], groups, stride, height)

    # Summed-area tables make a bin's cost independent of its size. They are float64 because a
    # bin is a difference of sums over the whole map.
    table = F.pad(score_maps.double().cumsum(-1).cumsum(-2), (1, 0, 1, 0))
    table = table.reshape(len(table), -1, groups, groups, height + 1, width + 1)

    image = rois[:, 0].long()[:, None, None]
    row = torch.arange(groups, device=rois.device)[:, None]
    column = torch.arange(groups, device=rois.device)

    def corner(y: Tensor, x: Tensor) -> Tensor:
        at: Tensor = table[image, :, row, column, y[:, :, None], x[:, None, :]]
        return at  # [R, groups, groups, C]

    total = corner(y1, x1) - corner(y0, x1) - corner(y1, x0) + corner(y0, x0)
    area = (y1 - y0)[:, :, None] * (x1 - x0)[:, None, :]
    # A bin outside the map is empty, and then so is its total.
    average = total / area.clamp(min=1)[..., None]
    return average.permute(0, 3, 1, 2).to(score_maps.dtype)


def _bin_edges(
    start: Tensor, end: Tensor, groups: int, stride: int, size: int
) -> tuple[Tensor, Tensor]:
    """First and one past the last feature pixel of every bin along one axis, both [R, groups]."""
    # Halves round up; torch.round would take them to the even neighbour.
    begin = (start + 0.5).floor() / stride
    length = (((end + 0.5).floor() + 1) / stride - begin).clamp(min=0.1)
    step = (length / groups)[:, None]
    index = torch.arange(groups, dtype=start.dtype, device=start.device)
    first = (index * step + begin[:, None]).floor().clamp(0, size).long()
    last = ((index + 1) * step + begin[:, None]).ceil().clamp(0, size).long()
    return first, last
