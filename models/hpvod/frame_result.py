"""What Algorithm 1 gives for a frame of a video."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from hpvod.stream import CurrentFrame


@dataclass(frozen=True)
class FrameResult:
    """What was found in one frame; tensors are on the CPU.

    Attributes:
        index: of the frame in its stream, from 0.
        time: of the frame in seconds, as given to `step`; None where none was given.
        is_key: whether the frame was a key frame.
        updated: mean of U: 1 on a key frame, 0 on one that was propagated only.
        boxes: [K, 4] float32, corners (x1, y1, x2, y2) in pixels of the frame as it was given.
        labels: [K] int64, indices into the model's `config.classes`.
        scores: [K] float32, falling.
        mask: U, bool [h, w] at stride 16 of the network's image, where line 14 of Algorithm 1
            decided it; None where line 12 or 16 made it all ones or all zeros.
    """

    index: int
    time: float | None
    is_key: bool
    updated: float
    boxes: Tensor
    labels: Tensor
    scores: Tensor
    mask: Tensor | None


def result_of_frame(
    i: CurrentFrame,
    number: int,
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    counts: Tensor,
    *decided: Tensor,
    masks: bool,
) -> FrameResult:
    """The result of frame i, in memory of its own.

    Args:
        i: the frame.
        number: its place in the batch that the other arguments, all on the CPU, are of.
        boxes: as `Detections` has them, corners in pixels of the network's image.
        scores: likewise.
        labels: likewise.
        counts: likewise.
        decided: `is_key`, `changed` and `mask` of the `UpdatePlan`; none where all are key frames.
        masks: whether a frame that is no key frame is updated in part.
    """
    is_key, updated, mask = True, 1.0, None
    if decided and not decided[0][number]:
        is_key, updated = False, 0.0
        if masks:
            mask = decided[2][number, 0].clone()
            updated = int(decided[1][number]) / mask.numel()
    found = slice(0, int(counts[number]))
    x, y = i.frame_size[1] / i.image_size[1], i.frame_size[0] / i.image_size[0]
    return FrameResult(
        index=i.index,
        time=i.time,
        is_key=is_key,
        updated=updated,
        boxes=boxes[number, found] * _corner_factors(x, y),
        labels=labels[number, found].clone(),
        scores=scores[number, found].clone(),
        mask=mask,
    )


@functools.lru_cache
def _corner_factors(x: float, y: float) -> Tensor:
    return torch.tensor((x, y, x, y))
