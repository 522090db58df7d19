"""Pictures taken through affine maps, and laid over one another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from hpvod.synthetic.classes import EXTENT

_LEAST_SIDE = 16


def resample(picture: Image.Image, to_image: np.ndarray, height: int, width: int) -> np.ndarray:
    """What an image shows of a picture; 0 beyond the picture.

    Args:
        picture: of mode "RGB" or "RGBa".
        to_image: the affine map from the picture's pixels to the image's.
        height: of the image.
        width: likewise.

    Returns:
        uint8 [height, width, 3 or 4], bilinear.
    """
    (a, b, c), (d, e, f), _ = np.linalg.inv(to_image)
    # Pillow puts the centres of pixels at halves.
    coefficients = (a, b, c + 0.5 - (a + b) / 2, d, e, f + 0.5 - (d + e) / 2)
    return np.asarray(
        picture.transform(
            (width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
        )
    )


@dataclass(frozen=True)
class Cutout:
    """What an object covers, about its place in the image.

    Attributes:
        top: row of the first pixel in the image; may be negative.
        left: likewise, the column.
        rgba: uint8 [h, w, 4], premultiplied.
    """

    top: int
    left: int
    rgba: np.ndarray

    def within(self, height: int, width: int) -> tuple[tuple[slice, slice], np.ndarray]:
        """The rows and columns of an image of that size that it covers, and its part there."""
        h, w = self.rgba.shape[:2]
        top, left = max(self.top, 0), max(self.left, 0)
        bottom, right = max(min(self.top + h, height), top), max(min(self.left + w, width), left)
        rows = slice(top - self.top, bottom - self.top)
        columns = slice(left - self.left, right - self.left)
        return (slice(top, bottom), slice(left, right)), self.rgba[rows, columns]


class Sprite:
    """An object's picture at each power of two of its size, so that a small one does not alias."""

    def __init__(self, picture: Image.Image) -> None:
        """Takes a square picture of mode "RGBa" that reaches from -EXTENT to EXTENT."""
        self._levels = [picture]
        while self._levels[-1].width >= 2 * _LEAST_SIDE:
            self._levels.append(self._levels[-1].reduce(2))

    def place(self, to_image: np.ndarray) -> Cutout:
        """Draws it through the affine map from the square of corners (-1, -1) and (1, 1)."""
        # The level is the object's, not the pose's: a foreshortened one may be aliased a little.
        axes = np.linalg.norm(to_image[:2, :2], axis=0)
        picture = min(
            (level for level in self._levels if level.width >= 2 * EXTENT * axes.max()),
            key=lambda level: level.width,
            default=self._levels[0],
        )
        reach = EXTENT * abs(to_image[:2, :2]).sum(axis=1)
        left, top = np.floor(to_image[:2, 2] - reach).astype(int)
        right, bottom = np.ceil(to_image[:2, 2] + reach).astype(int)
        step = 2 * EXTENT / picture.width
        first = step / 2 - EXTENT
        from_pixels = np.array([[step, 0, first], [0, step, first], [0, 0, 1]])
        shifted = to_image - [[0, 0, left], [0, 0, top], [0, 0, 0]]
        rgba = resample(picture, shifted @ from_pixels, bottom - top + 1, right - left + 1)
        return Cutout(int(top), int(left), rgba)


def blend(image: np.ndarray, cutout: Cutout) -> None:
    """Lays the cutout over the image, uint8 [H, W, 3], in place."""
    where, rgba = cutout.within(*image.shape[:2])
    rest = 255 - rgba[..., 3:].astype(np.uint16)
    behind = (image[where] * rest + 127) // 255
    image[where] = np.minimum(behind + rgba[..., :3], 255).astype(np.uint8)
