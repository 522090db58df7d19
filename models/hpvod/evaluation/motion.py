"""How fast objects move, and FGFA's three groups of them."""

from __future__ import annotations

import numpy as np

from hpvod.data.clip import BoolArray, FloatArray, IntArray
from hpvod.evaluation.overlap import rowwise_iou

_REACH = 10  # frames


def motion_iou(
    clips: IntArray, tracks: IntArray, frames: IntArray, boxes: FloatArray
) -> FloatArray:
    """Each box's mean IoU with the other boxes of its object in the frames within +-10.

    Args:
        clips: [G], numbers of the boxes' clips.
        tracks: [G], the object's number within its clip; -1 where unknown.
        frames: [G], numbers of the boxes' frames; an object has one box in a frame.
        boxes: float32 [G, 4], corners inclusive.

    Returns:
        float32 [G]; 0 where the object is nowhere else within reach, as FGFA has it, and NaN where
        it is unknown.
    """
    order = np.lexsort((frames, tracks, clips))
    clips, tracks, frames, boxes = clips[order], tracks[order], frames[order], boxes[order]
    total, count = np.zeros(len(order)), np.zeros(len(order), np.int64)
    for step in range(1, min(_REACH, len(order) - 1) + 1):
        near = (clips[step:] == clips[:-step]) & (tracks[step:] == tracks[:-step])
        near &= (tracks[step:] >= 0) & (frames[step:] - frames[:-step] <= _REACH)
        earlier = np.flatnonzero(near)
        iou = rowwise_iou(boxes[earlier], boxes[earlier + step])
        for end in (earlier, earlier + step):
            total[end] += iou
            count[end] += 1
    motion = np.empty(len(order), np.float32)
    motion[order] = np.where(tracks >= 0, total / np.maximum(count, 1), np.nan)
    return motion


def motion_groups(motion: FloatArray) -> dict[str, BoolArray]:
    """Which boxes of motion IoU [G] count: all of them, and slow, medium and fast ones.

    Slow is above 0.9, fast below 0.7; a box of unknown motion (NaN) is of no group.
    """
    return {
        "all": np.ones(len(motion), np.bool_),
        "slow": motion > 0.9,
        "medium": (motion >= 0.7) & (motion <= 0.9),
        "fast": motion < 0.7,
    }
