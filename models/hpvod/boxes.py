"""Boxes in the legacy convention of the paper's detectors.

A box is (x1, y1, x2, y2) in pixels of the network's input and both its corners are pixels of the
object: it is x2 - x1 + 1 wide, and a box of one pixel has x1 == x2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou


def base_anchors(stride: int, scales: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Faster R-CNN's anchors around the first cell of the feature map.

    Args:
        stride: Side in pixels of a feature map cell, which is also the base anchor's.
        scales: Multiples of the base anchor's side.
        ratios: Heights over widths; sides are rounded to whole pixels before they are scaled.

    Returns:
        [len(ratios) * len(scales), 4] float32 on the CPU, ratio by ratio.
    """
    centre = (stride - 1) / 2
    anchors = []
    for ratio in ratios:
        width = round(math.sqrt(stride * stride / ratio))
        height = round(width * ratio)
        for scale in scales:
            x, y = (width * scale - 1) / 2, (height * scale - 1) / 2
            anchors.append((centre - x, centre - y, centre + x, centre + y))
    return torch.tensor(anchors, dtype=torch.float32, device="cpu")


def grid_anchors(base: Tensor, height: int, width: int, stride: int) -> Tensor:
    """The base anchors [A, 4] at every cell: [height * width * A, 4], row by row of cells."""
    y = torch.arange(height, dtype=base.dtype, device=base.device) * stride
    x = torch.arange(width, dtype=base.dtype, device=base.device) * stride
    y, x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack((x, y, x, y), dim=-1)
    return (shifts[:, :, None] + base).reshape(-1, 4)


def decode_boxes(boxes: Tensor, deltas: Tensor, std: Sequence[float]) -> Tensor:
    """Boxes moved by a network's outputs, Faster R-CNN's way.

    Args:
        boxes: [..., 4].
        deltas: [..., 4], the (dx, dy, dw, dh) of which the centre moves by (dx, dy) sizes and the
            size grows by exp(dw, dh), each divided by its `std`.
        std: What the training targets were divided by.

    Returns:
        [..., 4].
    """
    # Few operations, x and y together: on a GPU each is a kernel, and all of them are short. The
    # factors stay on the host, which would have to wait for a tensor of them.
    moves = torch.cat(
        [delta * factor for delta, factor in zip(deltas.split(1, -1), std, strict=True)], -1
    )
    size = boxes[..., 2:] - boxes[..., :2] + 1
    centre = boxes[..., :2] + 0.5 * (size - 1) + moves[..., :2] * size
    half = 0.5 * (moves[..., 2:].exp() * size - 1)
    return torch.cat((centre - half, centre + half), dim=-1)


def encode_boxes(boxes: Tensor, targets: Tensor, std: Sequence[float]) -> Tensor:
    """What `decode_boxes` takes to move boxes onto others: a network's training targets.

    Args:
        boxes: [..., 4].
        targets: [..., 4], where they are to go.
        std: What the targets are divided by.

    Returns:
        [..., 4], (dx, dy, dw, dh).
    """
    size = boxes[..., 2:] - boxes[..., :2] + 1
    target_size = targets[..., 2:] - targets[..., :2] + 1
    moved = (targets[..., :2] + targets[..., 2:] - boxes[..., :2] - boxes[..., 2:]) / 2 / size
    deltas = torch.cat((moved, (target_size / size).log()), dim=-1)
    return deltas / deltas.new_tensor(std)


def pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of boxes [R, 4] with others [K, 4]: [R, K]."""
    # torchvision's boxes end where ours have their last pixel.
    last_pixel = boxes.new_tensor((0, 0, 1, 1))
    iou: Tensor = box_iou(boxes + last_pixel, others + last_pixel)
    return iou


def clip_boxes(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Boxes [..., 4] with their corners moved into an image of (height, width) pixels."""
    height, width = image_size
    x = boxes[..., 0::2, None].clamp(0, width - 1)
    y = boxes[..., 1::2, None].clamp(0, height - 1)
    return torch.cat((x, y), dim=-1).flatten(-2)


def live_rows(count: int, counts: Tensor) -> Tensor:
    """Which of each image's `count` rows are not behind its own of the counts [N]: bool, [N, D]."""
    rows = torch.arange(count, dtype=counts.dtype, device=counts.device)
    return rows < counts[:, None]


def picked(values: Tensor, indices: Tensor, counts: Tensor) -> Tensor:
    """What `batched_nms` has kept.

    Args:
        values: [N, K, ...].
        indices: [N, D] into K.
        counts: [N].

    Returns:
        [N, D, ...], zeros behind the image's count.
    """
    shape = (*indices.shape, *values.shape[2:])
    added = (...,) + (None,) * (values.dim() - 2)
    rows = values.gather(1, indices[added].expand(shape))
    return rows.masked_fill(~live_rows(indices.shape[1], counts)[added], 0)
