"""Detections beside the boxes of their frames, in parts that fit the memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hpvod.data.clip import IntArray
from hpvod.evaluation.columns import Int32Array

_PAIRS = 1 << 20  # at a time: some 100 MB while they are compared


def frame_pairs(frames: Int32Array, true_frames: Int32Array) -> Iterator[tuple[IntArray, IntArray]]:
    """Pairs every detection with every box of its frame.

    Args:
        frames: int32 [D], the detections' frames.
        true_frames: int32 [G], the boxes' frames, rising.

    Yields:
        int64 [P] each, the detection's and the box's index of some of the pairs, both rising; all
        pairs of a detection come together. At least once, where there are no pairs an empty part.
    """
    last = max(frames.max(initial=0), true_frames.max(initial=0))
    boxes = np.bincount(true_frames, minlength=last + 1)
    count = boxes[frames]
    first = (np.cumsum(boxes) - boxes)[frames]
    paired = np.flatnonzero(count)
    ends = np.cumsum(count[paired])
    parts = np.searchsorted(ends, np.arange(0, ends[-1] if len(ends) else 0, _PAIRS), "right")
    for part in np.split(paired, parts[1:]):
        which = np.repeat(part, count[part])
        starts = np.cumsum(count[part]) - count[part]
        yield which, first[which] + np.arange(len(which)) - np.repeat(starts, count[part])
