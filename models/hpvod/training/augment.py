"""The one augmentation of the paper's training: horizontal flips."""

from __future__ import annotations

import dataclasses

import torch

from hpvod.training.pair import Pair, Targets


def flipped(pair: Pair) -> Pair:
    """The pair in a mirror: both frames, and the boxes of the current one."""
    x1, y1, x2, y2 = pair.targets.boxes.unbind(1)
    last = pair.current.shape[2] - 1
    # Both corners are pixels: what ended at the last one begins at pixel 0.
    boxes = torch.stack((last - x2, y1, last - x1, y2), dim=1)
    return dataclasses.replace(
        pair,
        key=pair.key.flip(2),
        current=pair.current.flip(2),
        targets=Targets(boxes, pair.targets.labels),
    )
