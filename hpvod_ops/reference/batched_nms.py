"""Greedy non-maximum suppression in plain PyTorch: the truth for every backend of `batched_nms`."""

from __future__ import annotations

import torch
from torch import Tensor


def batched_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    threshold: float,
    count: int,
    *,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`hpvod_ops.batched_nms`, a kept box at a time; any device, which it waits for."""
    indices = torch.zeros((len(boxes), count), dtype=torch.int64, device=boxes.device)
    counts = torch.zeros(len(boxes), dtype=torch.int32, device=boxes.device)
    for n in range(len(boxes)):
        left = scores[n].argsort(descending=True, stable=True)
        if valid is not None:
            left = left[valid[n, left]]
        kept = 0
        while kept < count and len(left) > 0:
            best, left = left[0], left[1:]
            indices[n, kept] = best
            kept += 1
            goes = _overlap(boxes[n, best], boxes[n, left], threshold)
            left = left[~(goes & (labels[n, best] == labels[n, left]))]
        counts[n] = kept
    return indices, counts


def _overlap(box: Tensor, others: Tensor, threshold: float) -> Tensor:
    """Whether IoU > threshold, both corners being pixels of a box; not so where one has a NaN.

    Each operation rounds to float32, and there is no division: so backends agree on every pair.
    """
    x = torch.minimum(box[2] + 1, others[:, 2] + 1) - torch.maximum(box[0], others[:, 0])
    y = torch.minimum(box[3] + 1, others[:, 3] + 1) - torch.maximum(box[1], others[:, 1])
    intersection = x.clamp(min=0) * y.clamp(min=0)
    return intersection > threshold * (_area(box) + _area(others) - intersection)


def _area(boxes: Tensor) -> Tensor:
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 + 1 - x1) * (y2 + 1 - y1)
