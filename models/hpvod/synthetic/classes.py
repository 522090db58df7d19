"""What the objects look like: outlines, and patterns that two classes of an outline differ by."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from hpvod.synthetic.noise import smooth_noise

_BLOTCHES = 0.6  # their contrast, as a share of a colour; not tuned
EXTENT = 1.1
"""Half a sprite's side where half the object's is 1: there is air around it to blend with."""

_Plane = np.ndarray  # float32 [n, n]

# Above 0 inside; within the square of corners (-1, -1) and (1, 1).
_OUTLINES: Mapping[str, Callable[[_Plane, _Plane], _Plane]] = {
    "disc": lambda x, y: 0.98 - np.hypot(x, y),
    "square": lambda x, y: 0.95 - np.maximum(abs(x), abs(y)),
    "triangle": lambda x, y: np.minimum(0.85 - y, (y + 0.95 - 1.85 * abs(x)) / 2.1),
    "flower": lambda x, y: 0.74 + 0.24 * np.cos(5 * np.arctan2(x, -y)) - np.hypot(x, y),
    "bar": lambda x, y: np.minimum(0.95 - abs(x), 0.4 - abs(y)),
}

# Above 0 in the one colour, below in the other; 5 to 6 periods fit into the object.
_PATTERNS: Mapping[str, Callable[[_Plane, _Plane], _Plane]] = {
    "striped": lambda x, y: np.sin(18 * x),
    "checked": lambda x, y: np.sin(14 * x) * np.sin(14 * y),
    "dotted": lambda x, y: 0.5 * (np.cos(17 * x) + np.cos(17 * y)) - 0.25,
    "ringed": lambda x, y: np.cos(18 * np.hypot(x, y)),
    "plain": lambda x, y: np.ones_like(x),
}

_PAIRS = {
    "disc": ("striped", "ringed"),
    "square": ("striped", "checked"),
    "triangle": ("dotted", "checked"),
    "flower": ("ringed", "dotted"),
}

SYNTHETIC_CLASSES = tuple(f"{name}_{shape}" for shape, names in _PAIRS.items() for name in names)
"""The 8 classes: two of each outline, told apart by a pattern that blur and defocus destroy."""


def draw_sprite(name: str, side: int, rng: np.random.Generator) -> Image.Image:
    """Draws an object of two colours and a grain of its own.

    Args:
        name: pattern and outline joined by "_", as of `SYNTHETIC_CLASSES`.
        side: pixels of the picture; the object's own side is `side / EXTENT`.
        rng: draws colours and grain.

    Returns:
        A square of mode "RGBa" (premultiplied), transparent around the object.
    """
    pattern, outline = name.split("_")
    axis = ((np.arange(side, dtype=np.float32) + 0.5) * (2 / side) - 1) * EXTENT
    x, y = np.meshgrid(axis, axis)
    pixel = 2 * EXTENT / side
    alpha = np.clip(_OUTLINES[outline](x, y) / pixel + 0.5, 0, 1)[..., None]
    # A pattern's slope at 0 is about 16: its colours change within 2 pixels.
    light = np.clip(_PATTERNS[pattern](x, y) / (32 * pixel) + 0.5, 0, 1)[..., None]
    dark_colour, light_colour = (
        rng.uniform(low, high, 3).astype(np.float32) for low, high in ((20, 110), (130, 230))
    )
    if rng.random() < 0.5:
        dark_colour, light_colour = light_colour, dark_colour
    colour: np.ndarray = dark_colour + light * (light_colour - dark_colour)
    # Patterns repeat themselves. Without blotches, which do not, it could not be told how far a
    # fast object has moved: its flow would be ambiguous, as no living thing's is.
    for share in (2, 6):
        noise = smooth_noise(rng, side, side, max(side // share, 1))
        colour = colour * (1 + _BLOTCHES * (noise - 0.5))
    rgba = np.concatenate([colour.clip(0, 255) * alpha, 255 * alpha], axis=2)
    return Image.frombuffer("RGBa", (side, side), np.rint(rgba).astype(np.uint8).tobytes())


def draw_clutter(side: int, rng: np.random.Generator) -> Image.Image:
    """Draws what is no object of a class but has a pattern, or none; as `draw_sprite`."""
    return draw_sprite(f"{rng.choice(list(_PATTERNS))}_bar", side, rng)
