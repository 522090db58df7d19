"""Clips and pairs of frames in memory, each made from its own seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpvod.data.clip import Annotation
from hpvod.synthetic.draw import draw_scene
from hpvod.synthetic.scene import Scene

LEAST_SIDE = 64
_GREATEST_OFFSET = 9


@dataclass(frozen=True)
class SyntheticClip:
    """A clip and all that is known of it.

    Attributes:
        frames: RGB, uint8 [T, H, W, 3].
        annotations: of each frame; labels count `SYNTHETIC_CLASSES`.
        owners: who covers which pixel, uint8 [T, H, W]: 0 the background, k + 1 track k.
        scene: what the frames show.
    """

    frames: np.ndarray
    annotations: tuple[Annotation, ...]
    owners: np.ndarray
    scene: Scene

    def flow(self, start: int, end: int) -> np.ndarray:
        """Exact flow from frame `start` to frame `end`: dx, dy in pixels, float32 [H, W, 2].

        It tells where what is visible in frame `start` has gone, hidden in frame `end` or not.
        """
        return self.scene.flow(start, end)


@dataclass(frozen=True)
class SyntheticPair:
    """Two frames and the flow between them, as in Flying Chairs.

    Attributes:
        first: RGB, uint8 [H, W, 3].
        second: the same, 1 to 9 frames before or after.
        flow: from `first` to `second`: dx, dy in pixels, float32 [H, W, 2].
    """

    first: np.ndarray
    second: np.ndarray
    flow: np.ndarray


def make_clip(
    seed: int | np.random.SeedSequence, frames: int = 32, size: tuple[int, int] = (288, 384)
) -> SyntheticClip:
    """Makes a clip of 1 to 4 objects over a background.

    Args:
        seed: decides everything.
        frames: T, 1 or more.
        size: H, W in pixels, each 64 or more.

    Raises:
        ValueError: `frames` or `size` is out of its range.
    """
    scene = _scene(seed, frames, size)
    times = range(frames)
    return SyntheticClip(
        frames=np.stack([scene.image(time) for time in times]),
        annotations=tuple(scene.annotation(time) for time in times),
        owners=np.stack([scene.owners(time) for time in times]),
        scene=scene,
    )


def make_pair(
    seed: int | np.random.SeedSequence, size: tuple[int, int] = (288, 384)
) -> SyntheticPair:
    """Makes two frames at most 9 apart, the frames between which Algorithm 1 propagates.

    The farther apart, the more often: far motions are the hardest to learn.

    Args:
        seed: decides everything.
        size: H, W in pixels, each 64 or more.

    Raises:
        ValueError: `size` is out of its range.
    """
    scene_seed, offset_seed = _sequence(seed).spawn(2)
    scene = _scene(scene_seed, _GREATEST_OFFSET + 1, size)
    rng = np.random.default_rng(offset_seed)
    times = [0, int(rng.integers(1, _GREATEST_OFFSET + 1, size=2).max())]
    start, end = times if rng.random() < 0.5 else times[::-1]
    return SyntheticPair(scene.image(start), scene.image(end), scene.flow(start, end))


def _scene(seed: int | np.random.SeedSequence, frames: int, size: tuple[int, int]) -> Scene:
    if frames < 1:
        raise ValueError(f"frames must be 1 or more, not {frames}")
    if min(size) < LEAST_SIDE:
        raise ValueError(f"size: each side must be {LEAST_SIDE} or more, not {size}")
    return draw_scene(np.random.default_rng(_sequence(seed)), frames, *size)


def _sequence(seed: int | np.random.SeedSequence) -> np.random.SeedSequence:
    # A copy: spawning from the caller's would change what it spawns next.
    if isinstance(seed, np.random.SeedSequence):
        return np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key)
    return np.random.SeedSequence(seed)
