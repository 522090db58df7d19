"""The one augmentation of the paper's training: horizontal flips."""

from __future__ import annotations

import dataclasses

import torch

from hpvod.training.pair import Pair, Targets


def flipped(pair: Pair, last: float) -> Pair:
    """The pair in a mirror: both frames, and the boxes of the current one.

    Args:
        pair: to be mirrored.
        last: x of the last pixel as boxes have it. What ended there begins at pixel 0.
    """
    x1, y1, x2, y2 = pair.targets.boxes.unbind(1)
    boxes = torch.stack((last - x2, y1, last - x1, y2), dim=1)
    return dataclasses.replace(
        pair,
        key=pair.key.flip(2),
        current=pair.current.flip(2),
        targets=Targets(boxes, pair.targets.labels),
    )
