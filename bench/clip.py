"""The frames that the benchmarks run on: a clip drawn by this file, or a real video.

The drawn clip is the same on every machine: textured objects that move, turn and scale at their
own speeds over a textured ground, filmed by a camera that pans, rolls and zooms. Its motion is
known exactly, so it also gives `warp` the smooth flow that it meets in use.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

SIZE = (
    720,
    1200,
)  # height, width: a 600 x 1000 network input, as 1024 x 38 x 63 features, has its shape
FRAMES_A_SECOND = 25


@dataclass(frozen=True)
class Motion:
    """A similarity transform of the plane that changes with time, in units of the clip's height.

    Points are complex numbers. At time t (seconds) a thing's own point z appears in the picture
    at `centre(t) + size(t) * exp(i * angle(t)) * z`.
    """

    start: complex
    speed: complex  # heights a second
    sway: complex  # amplitude of a slow swing added to the straight path
    spin: float  # radians a second
    size: float
    growth: float  # relative change of size a second

    def place(self, time: float) -> tuple[complex, complex]:
        """The turning factor and the centre at one time."""
        centre = self.start + self.speed * time + self.sway * math.sin(1.7 * time)
        angle = self.spin * time
        factor = (
            self.size * math.exp(self.growth * time) * complex(math.cos(angle), math.sin(angle))
        )
        return factor, centre


@dataclass(frozen=True)
class Thing:
    """An object of the clip, or its ground (which has no outline)."""

    motion: Motion
    seed: int
    colours: tuple[tuple[float, float, float], tuple[float, float, float]]
    roundness: float | None  # exponent of the outline |x|^p + |y|^p = 1; None: covers everything


CAMERA = Thing(
    Motion(0.83 + 0.5j, 0.06 + 0.015j, 0.02j, 0.02, 1.0, 0.03),
    1,
    ((0.20, 0.27, 0.20), (0.72, 0.70, 0.58)),
    None,
)
OBJECTS = (
    Thing(
        Motion(0.30 + 0.62j, 0.28 - 0.02j, 0.03j, 0.0, 0.17, 0.05),
        2,
        ((0.55, 0.10, 0.08), (0.95, 0.62, 0.30)),
        4.0,
    ),
    Thing(
        Motion(1.30 + 0.35j, -0.16 + 0.05j, 0.05 + 0.02j, 0.5, 0.13, 0.0),
        3,
        ((0.08, 0.18, 0.45), (0.55, 0.80, 0.95)),
        2.0,
    ),
    Thing(
        Motion(0.75 + 0.80j, 0.05 - 0.20j, 0.02, -0.9, 0.10, 0.10),
        4,
        ((0.40, 0.32, 0.05), (0.98, 0.90, 0.45)),
        2.5,
    ),
    Thing(
        Motion(1.05 + 0.22j, 0.45 + 0.10j, 0.0, 1.5, 0.06, 0.0),
        5,
        ((0.05, 0.05, 0.06), (0.90, 0.90, 0.92)),
        2.0,
    ),
)


def pixel_grid(height: int, width: int) -> Tensor:
    """[height, width] complex positions of pixel centres, in units of the picture's height."""
    y = (torch.arange(height, dtype=torch.float64) + 0.5) / height
    x = (torch.arange(width, dtype=torch.float64) + 0.5) / height
    return torch.complex(x.expand(height, width), y[:, None].expand(height, width))


def _to_own(thing: Thing, points: Tensor, time: float) -> Tensor:
    factor, centre = thing.motion.place(time)
    return (points - centre) / factor


def _inside(thing: Thing, own: Tensor) -> Tensor:
    """How much of each point the thing covers, 0 to 1, with an edge of a few pixels."""
    if thing.roundness is None:
        return torch.ones(own.shape, dtype=torch.float64)
    p = thing.roundness
    radius = (own.real.abs() ** p + own.imag.abs() ** p) ** (1 / p)
    return ((1 - radius) * 40 + 0.5).clamp(0, 1)


@functools.cache
def _texture(thing: Thing, size: int = 1024) -> Tensor:
    """[1, 3, size, size]: noise of several octaves between the thing's two colours."""
    generator = torch.Generator().manual_seed(thing.seed)
    noise = torch.zeros(1, 1, size, size)
    for octave in range(2, 9):
        coarse = torch.randn(1, 1, 2**octave, 2**octave, generator=generator)
        smooth = F.interpolate(coarse, (size, size), mode="bicubic", align_corners=False)
        noise += smooth * 0.75**octave
    noise = torch.sigmoid(2.5 * noise / noise.std())
    low, high = (torch.tensor(colour).view(1, 3, 1, 1) for colour in thing.colours)
    return low + (high - low) * noise


def _sample(texture: Tensor, own: Tensor) -> Tensor:
    """[3, h, w]: the texture at a thing's own points; it repeats, mirrored, beyond [-1, 1]."""
    grid = torch.view_as_real(own).float()[None]
    return F.grid_sample(
        texture, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )[0]


def draw_clip(frames: int, size: tuple[int, int] = SIZE) -> Iterator[NDArray[np.uint8]]:
    """The drawn clip, frame by frame: uint8 RGB [height, width, 3] at FRAMES_A_SECOND.

    Args:
        frames: how many.
        size: height and width in pixels.
    """
    points = pixel_grid(*size)
    textures = [(thing, _texture(thing)) for thing in (CAMERA, *OBJECTS)]
    for index in range(frames):
        time = index / FRAMES_A_SECOND
        picture = torch.zeros(3, *size)
        for thing, texture in textures:
            own = _to_own(thing, points, time)
            cover = _inside(thing, own).float()
            picture = picture + cover * (_sample(texture, own) - picture)
        generator = torch.Generator().manual_seed(1000 + index)
        noise = torch.randn(picture.shape, generator=generator) * 0.008  # a camera's own noise
        pixels = ((picture + noise).clamp(0, 1) * 255).round().to(torch.uint8)
        yield pixels.permute(1, 2, 0).contiguous().numpy()


def true_flow(current: int, key: int, height: int, width: int) -> Tensor:
    """The drawn clip's motion field M_{current -> key} (Eq. 1), float32 [1, 2, height, width].

    Channel 0 is dx, 1 is dy, in pixels of the [height, width] feature map: where in the key
    frame to fetch the feature of each position of the current frame.
    """
    now, then = current / FRAMES_A_SECOND, key / FRAMES_A_SECOND
    points = pixel_grid(height, width)
    source = points
    for thing in (CAMERA, *OBJECTS):
        own = _to_own(thing, points, now)
        factor, centre = thing.motion.place(then)
        source = torch.where(_inside(thing, own) > 0.5, centre + factor * own, source)
    return (
        torch.view_as_real((source - points) * height).permute(2, 0, 1)[None].float().contiguous()
    )


def read_video(source: str, frames: int) -> list[NDArray[np.uint8]]:
    """The first frames of a real video (file, folder of frames or glob), uint8 RGB [h, w, 3]."""
    # Only here, so that the drawn clip needs no video library.
    from hpvod.video import open_video

    with open_video(source) as reader:
        return [frame for frame, _ in itertools.islice(reader, frames)]
