"""Smooth random colours."""

from __future__ import annotations

import numpy as np
from PIL import Image


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: int) -> np.ndarray:
    """Random colours at the nodes of a grid, smooth in between.

    Args:
        rng: draws the nodes.
        height: of the result, in pixels.
        width: likewise.
        cell: pixels between two nodes.

    Returns:
        float32 [height, width, 3] in 0..1.
    """
    nodes = rng.integers(0, 256, (height // cell + 2, width // cell + 2, 3), dtype=np.uint8)
    picture = Image.fromarray(nodes).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture, dtype=np.float32) / 255
