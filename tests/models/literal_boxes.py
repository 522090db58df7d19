"""Boxes as the references' NumPy code treats them: one at a time, sides of x2 - x1 + 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def decode(box: Sequence[float], delta: Sequence[float], std: Sequence[float]) -> list[float]:
    dx, dy, dw, dh = (d * s for d, s in zip(delta, std, strict=True))
    width, height = box[2] - box[0] + 1, box[3] - box[1] + 1
    x = box[0] + 0.5 * (width - 1) + dx * width
    y = box[1] + 0.5 * (height - 1) + dy * height
    width, height = math.exp(dw) * width, math.exp(dh) * height
    return [
        x - 0.5 * (width - 1),
        y - 0.5 * (height - 1),
        x + 0.5 * (width - 1),
        y + 0.5 * (height - 1),
    ]


def clip(box: Sequence[float], height: int, width: int) -> list[float]:
    x1, y1, x2, y2 = box
    return [
        min(max(x1, 0), width - 1),
        min(max(y1, 0), height - 1),
        min(max(x2, 0), width - 1),
        min(max(y2, 0), height - 1),
    ]


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    area_a = (a[2] - a[0] + 1) * (a[3] - a[1] + 1)
    area_b = (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
    return width * height / (area_a + area_b - width * height)


def nms(boxes: Sequence[Sequence[float]], scores: Sequence[float], threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(iou(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


def softmax(logits: Array) -> Array:
    """Over the last axis."""
    exponentials: Array = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def ps_roi_pool(maps: Array, rois: Array, groups: int, stride: int) -> Array:
    """Position-sensitive average pooling, in the float32 arithmetic of the references."""
    f32 = np.float32
    _, channels, height, width = maps.shape
    output = np.zeros((len(rois), channels // groups**2, groups, groups))
    for r, (image, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (math.floor(abs(c) + 0.5) * math.copysign(1, c) for c in corners)
        left, top = f32(x1) / f32(stride), f32(y1) / f32(stride)
        right, bottom = f32(x2 + 1) / f32(stride), f32(y2 + 1) / f32(stride)
        bin_width = max(right - left, f32(0.1)) / f32(groups)
        bin_height = max(bottom - top, f32(0.1)) / f32(groups)
        for i in range(groups):
            for j in range(groups):
                first_y = min(max(math.floor(f32(i) * bin_height + top), 0), height)
                last_y = min(max(math.ceil(f32(i + 1) * bin_height + top), 0), height)
                first_x = min(max(math.floor(f32(j) * bin_width + left), 0), width)
                last_x = min(max(math.ceil(f32(j + 1) * bin_width + left), 0), width)
                pixels = [(y, x) for y in range(first_y, last_y) for x in range(first_x, last_x)]
                for c in range(output.shape[1]):
                    plane = maps[int(image), (c * groups + i) * groups + j]
                    if pixels:
                        output[r, c, i, j] = sum(plane[p] for p in pixels) / len(pixels)
    return output
