"""What the flow network is taught to say at a position: the motion of what moves around it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

STRIDE = 16
"""Pixels between two positions of the target: the feature maps' stride."""
_STEP = 8  # pixels between those that are looked at: the others move like their neighbours
_REACH = 24  # pixels around a position: its own 16 x 16 and a feature's stride more; not tuned
_SCALES = (16.0, 8.0, 4.0, 2.0, 1.0, 1.0, 1.0)
"""Pixels from which on an error counts little in the background's fit, a round each."""


def flow_target(flow: Tensor) -> Tensor:
    """The flow to learn at every 16th pixel.

    A feature sees far more than its own pixels: those in the background next to an object show the
    object as well, and its box suffers where they are left behind. So around an object features
    are to follow the object: the target is the background's motion and, on top, the mean of the
    motions relative to it that are found around the position, weighted by their squares so that
    what stands still against the background counts for nothing.

    Args:
        flow: [N, 2, H, W] in pixels.

    Returns:
        [N, 2, ceil(H / 16), ceil(W / 16)] in pixels; position p of a feature map lies at pixel
        16 * p, so what is around it is centred there.
    """
    flow = flow[:, :, ::_STEP, ::_STEP]
    background = background_flow(flow)
    relative = flow - background
    weight = relative.square().sum(dim=1, keepdim=True)
    reach, stride = _REACH // _STEP, STRIDE // _STEP

    def mean_around(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, 2 * reach + 1, stride, reach, count_include_pad=False)

    # Where nothing moves against the background, both are 0.
    moved = mean_around(weight * relative) / mean_around(weight).clamp(min=1e-9)
    return background[:, :, ::stride, ::stride] + moved


def at_stride(target: Tensor, stride: int) -> Tensor:
    """The mean of a `flow_target` around every stride-th pixel.

    Args:
        target: [N, 2, h, w].
        stride: pixels between two positions, a multiple of 16.

    Returns:
        [N, 2, ceil(16 h / stride), ceil(16 w / stride)].
    """
    times = stride // STRIDE
    reach = times // 2
    return F.avg_pool2d(target, 2 * reach + 1, times, reach, count_include_pad=False)


def background_flow(flow: Tensor) -> Tensor:
    """The affine motion that most of the image has: a camera's, but for parallax.

    Args:
        flow: [N, 2, h, w] in pixels; how dense does not matter.

    Returns:
        [N, 2, h, w] in pixels.
    """
    height, width = flow.shape[2:]
    rows, columns = (
        torch.linspace(-1, 1, size, device=flow.device, dtype=flow.dtype)
        for size in (height, width)
    )
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    positions = torch.stack((torch.ones_like(x), x, y), dim=-1).flatten(0, 1)  # [h * w, 3]
    found = flow.flatten(2).transpose(1, 2)  # [N, h * w, 2]
    motion = flow.new_zeros(len(flow), 3, 2)
    motion[:, 0] = found.median(dim=1).values
    ridge = 1e-3 * torch.eye(3, device=flow.device, dtype=flow.dtype)  # for a single row
    for scale in _SCALES:
        # Cauchy's weights: objects, which move otherwise, lose their say as the scale shrinks.
        error = (found - positions @ motion).square().sum(dim=-1, keepdim=True)
        weighted = positions / (1 + error / scale**2)
        motion = torch.linalg.solve(weighted.mT @ positions + ridge, weighted.mT @ found)
    return (positions @ motion).transpose(1, 2).reshape(flow.shape)
