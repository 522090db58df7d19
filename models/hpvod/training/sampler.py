"""Which frames an iteration trains on: a function of the seed and a number, and of no state.

So a run that goes on from a checkpoint sees what the unbroken run would have seen, and N processes
see together what one process sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hpvod.data import Clip, Dataset, Frame
from hpvod.training.pair import Mask

MAX_OFFSET = 9
_MASKS: tuple[Mask, ...] = ("predicted", "zeros", "ones")


@dataclass(frozen=True)
class Draw:
    """What to train on.

    Attributes:
        source: the data set that both frames are of.
        current: I_i.
        key: I_k.
        mask: how U is found.
        flip: whether the pair is mirrored.
        seed: of the random choices that the losses make.
    """

    source: Literal["video", "still"]
    current: Frame
    key: Frame
    mask: Mask
    flip: bool
    seed: int


class PairSampler:
    """Draws pairs of nearby frames; every second one is a still image, where there are any.

    A clip is drawn first and then a frame, so that long clips do not outweigh short ones. The
    offset from I_i to I_k is uniform in [-9, 9], the paper's "two nearby frames" in both
    directions (DFF has [-9, 0]), and clamped at the ends of the clip.

    Args:
        video: clips of video.
        stills: still images, or None.
        seed: another one draws another sequence.
    """

    def __init__(self, video: Dataset, stills: Dataset | None, seed: int) -> None:
        self._video = video
        self._stills = stills
        self._seed = seed

    def draw(self, position: int, attempt: int = 0) -> Draw:
        """The pair at a position of the sequence.

        Args:
            position: 0 or more: iteration * pairs an iteration + the pair's number within it.
            attempt: how many pairs drawn for the position could not be used.
        """
        random = np.random.default_rng(np.random.SeedSequence((self._seed, position, attempt)))
        still = self._stills is not None and position % 2 == 1
        clips = self._stills.clips if still and self._stills is not None else self._video.clips
        clip = _one_of(clips, random)
        index = int(random.integers(len(clip.frames)))
        offset = int(random.integers(-MAX_OFFSET, MAX_OFFSET + 1))
        key = min(max(index + offset, 0), len(clip.frames) - 1)
        return Draw(
            source="still" if still else "video",
            current=clip.frames[index],
            key=clip.frames[key],
            mask=_MASKS[int(random.integers(len(_MASKS)))],
            flip=bool(random.integers(2)),
            seed=int(random.integers(2**62)),
        )


def _one_of(clips: Sequence[Clip], random: np.random.Generator) -> Clip:
    return clips[int(random.integers(len(clips)))]
