"""A scene drawn by lot: how often things are fast, blurred, defocused, turned or in the way.

Of the objects 38 % are slow, 36 % medium and 26 % fast, by their speed in their own sides a frame:
in the motion groups of FGFA's protocol, as in ImageNet VID, slow boxes are the most and fast ones
the fewest. The fast ones overlap with themselves, within 10 frames, by 0.4 to 0.7 (mean IoU; 0.7 is
the group's limit). What hurts a frame passes: most frames of a clip are sharp, and those nearby
show what a blurred one has lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from hpvod.synthetic.classes import EXTENT, SYNTHETIC_CLASSES, draw_clutter, draw_sprite
from hpvod.synthetic.layers import Sprite, blend
from hpvod.synthetic.motion import CameraMotion, Course, Events, ObjectMotion
from hpvod.synthetic.noise import smooth_noise
from hpvod.synthetic.scene import Scene, SceneObject

_Range = tuple[float, float]

# Of an object, in short sides of the image: 36 to 216 of 288 pixels. People film what they film
# large: of the boxes in three of DAVIS's videos, half are larger than a square of side 0.49.
_SIDES = (1 / 8, 3 / 4)
_COUNTS = (0.2, 0.3, 0.3, 0.2)  # how often 1, 2, 3 and 4 objects; many hide one another more often
_ZOOM, _TILT, _ROAM = 1.15, 0.14, 0.4  # the camera's reach; _ROAM in long sides of the image


@dataclass(frozen=True)
class _Regime:
    """How fast an object moves."""

    share: float  # of the objects
    speed: _Range  # sides a frame
    spin: _Range  # radians a frame
    swing: _Range  # of its side, as a share
    poses: int  # the most that a clip has


_REGIMES = (
    _Regime(share=0.38, speed=(0.0, 0.004), spin=(0.0, 0.001), swing=(0.0, 0.01), poses=0),
    _Regime(share=0.36, speed=(0.010, 0.024), spin=(0.0, 0.006), swing=(0.0, 0.06), poses=1),
    _Regime(share=0.26, speed=(0.03, 0.08), spin=(0.0, 0.04), swing=(0.05, 0.2), poses=2),
)
_CAMERA_SPEEDS = ((0.0, 0.0005), (0.001, 0.005), (0.008, 0.02))  # long sides a frame


def draw_scene(rng: np.random.Generator, frames: int, height: int, width: int) -> Scene:
    """Draws a scene with 1 to 4 objects.

    Args:
        rng: decides everything; two generators of a seed draw the same scene.
        frames: that its events are spread over.
        height: of the image, in pixels.
        width: likewise.
    """
    background, camera = _draw_background(rng, height, width)
    count = int(rng.choice((1, 2, 3, 4), p=_COUNTS))
    objects = tuple(_draw_object(rng, frames, height, width) for _ in range(count))
    return Scene(
        height=height,
        width=width,
        background=background,
        camera=camera,
        objects=objects,
        shutter=float(rng.uniform(0.1, 0.3)),
        exposure=_draw_events(rng, frames, most=3, heights=(0.5, 0.8)),
        defocus=_draw_events(rng, frames, most=3, heights=(0.008, 0.024)),
        noise=float(rng.uniform(1, 8)),
        noise_seed=int(rng.integers(2**32)),
    )


def _draw_events(rng: np.random.Generator, frames: int, most: int, heights: _Range) -> Events:
    count = int(rng.integers(0, most + 1))
    return Events(
        tuple(rng.uniform(0, frames, count).tolist()),
        tuple(rng.uniform(2, 6, count).tolist()),
        tuple(rng.uniform(*heights, count).tolist()),
    )


def _draw_object(rng: np.random.Generator, frames: int, height: int, width: int) -> SceneObject:
    shares = [regime.share for regime in _REGIMES]
    regime = _REGIMES[int(rng.choice(len(_REGIMES), p=shares))]
    label = int(rng.integers(len(SYNTHETIC_CLASSES)))
    side = float(rng.uniform(*_SIDES)) * min(height, width)
    swing = float(rng.uniform(*regime.swing))
    motion = ObjectMotion(
        course=_draw_course(
            rng,
            speed=float(rng.uniform(*regime.speed)) * side,
            low=(0.08 * width, 0.08 * height),
            high=(0.92 * width, 0.92 * height),
        ),
        side=side,
        swing=swing,
        period=float(rng.uniform(20, 60)),
        angle=float(rng.normal(0, 0.35)),
        spin=float(rng.uniform(*regime.spin) * rng.choice((-1, 1))),
        pose=_draw_events(rng, frames, regime.poses, heights=(0.6, 1.0)),
    )
    largest = EXTENT * side * (1 + swing)
    sprite = draw_sprite(SYNTHETIC_CLASSES[label], 2 ** int(np.ceil(np.log2(largest))), rng)
    return SceneObject(label, Sprite(sprite), motion)


def _draw_course(
    rng: np.random.Generator, speed: float, low: tuple[float, float], high: tuple[float, float]
) -> Course:
    heading = rng.uniform(0, 2 * np.pi)
    start = rng.uniform(low, high)
    return Course(
        start=(float(start[0]), float(start[1])),
        velocity=(float(speed * np.cos(heading)), float(speed * np.sin(heading))),
        low=low,
        high=high,
    )


def _draw_background(
    rng: np.random.Generator, height: int, width: int
) -> tuple[Image.Image, CameraMotion]:
    """A background and a camera that never sees beyond it."""
    cos, sin = np.cos(_TILT), np.sin(_TILT)
    reach_x = _ZOOM * (width / 2 * cos + height / 2 * sin) + 2
    reach_y = _ZOOM * (height / 2 * cos + width / 2 * sin) + 2
    roam = _ROAM * max(height, width)
    canvas_width, canvas_height = int(2 * reach_x + roam), int(2 * reach_y + roam)
    camera = CameraMotion(
        course=_draw_course(
            rng,
            speed=float(rng.uniform(*_CAMERA_SPEEDS[int(rng.integers(3))])) * max(height, width),
            low=(reach_x, reach_y),
            high=(canvas_width - 1 - reach_x, canvas_height - 1 - reach_y),
        ),
        centre=((width - 1) / 2, (height - 1) / 2),
        zoom=float(rng.uniform(1, _ZOOM)),
        angle=float(rng.uniform(0, _TILT)),
        period=float(rng.uniform(60, 200)),
        phase=float(rng.uniform(0, 2 * np.pi)),
    )
    short_side = min(height, width)
    cells = [max(round(short_side * share), 1) for share in (0.5, 0.15, 0.05, 0.015)]
    layers = [smooth_noise(rng, canvas_height, canvas_width, cell) for cell in cells]
    weights = rng.dirichlet((3, 4, 2, 1)).tolist()
    blended = sum(weight * layer for weight, layer in zip(weights, layers, strict=True))
    grey = blended.mean(axis=2, keepdims=True)
    muted = grey + float(rng.uniform(0.2, 0.8)) * (blended - grey)
    # A weighted mean of noises has lost contrast.
    contrast = 255 * float(rng.uniform(0.8, 1.6))
    canvas = (127 + (muted - 0.5) * contrast).clip(0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(4, 16))):
        motion = ObjectMotion(
            course=_draw_course(rng, 0.0, (0.0, 0.0), (canvas_width, canvas_height)),
            side=float(rng.uniform(*_SIDES)) * short_side,
            swing=0.0,
            period=1.0,
            angle=float(rng.uniform(0, np.pi)),
            spin=0.0,
            pose=Events(),
        )
        side = 2 ** int(np.ceil(np.log2(EXTENT * motion.side)))
        blend(canvas, Sprite(draw_clutter(side, rng)).place(motion(0)))
    return Image.fromarray(canvas), camera
