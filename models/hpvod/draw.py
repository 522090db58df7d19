"""What was detected, painted over the frame: boxes, the mask U and the mark of a key frame."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hpvod.video import RGB

if TYPE_CHECKING:
    from hpvod.frame_result import FrameResult

Colour = tuple[int, int, int]

_KEY: Colour = (255, 193, 7)
_MASK: Colour = (0, 190, 255)
_MASK_OPACITY = 0.4
_BLACK: Colour = (0, 0, 0)
_WHITE: Colour = (255, 255, 255)


def draw(
    frame: RGB,
    result: FrameResult,
    names: Sequence[str],
    mask_cell: tuple[float, float] | None = None,
    truth: Iterable[Sequence[float]] = (),
) -> RGB:
    """A copy of the frame with its boxes; a key frame has an amber border and says so.

    torchvision's drawing functions are not used because they have one size of text only, unless
    they are given the path of a font.

    Args:
        frame: uint8 RGB, [height, width, 3].
        result: of this frame.
        names: of the classes, as `result.labels` counts them.
        mask_cell: (width, height) of one position of U in pixels of the frame, to tint where U is 1
            and to write its mean; None leaves U out. A key frame, where it is 1 all over, has no
            tint.
        truth: (x1, y1, x2, y2) of the objects that there are, in pixels of the frame, drawn in thin
            white lines below what was detected.

    Returns:
        uint8 RGB of the frame's shape.
    """
    pixels = frame
    if mask_cell is not None and result.mask is not None:
        pixels = _tinted(frame, result.mask.numpy(), mask_cell)
    image = Image.fromarray(pixels)
    pen = _Pen(image)
    if result.is_key:
        pen.border(_KEY)
    for corners in truth:
        pen.box(corners, _WHITE, line=1)
    found = zip(result.boxes.tolist(), result.labels.tolist(), result.scores.tolist(), strict=True)
    # The surest box comes last and so lies on top; labels lie above all boxes.
    boxes = sorted(found, key=lambda item: item[2])
    for box, label, _ in boxes:
        pen.box(box, class_colour(label))
    for (left, top, _, _), label, score in boxes:
        pen.tag(left, top, f"{names[label]} {score:.2f}", class_colour(label))
    if result.is_key:
        pen.note("KEY", _KEY)
    elif mask_cell is not None:
        pen.note(f"updated {result.updated:.0%}", _MASK)
    return np.asarray(image)


@cache
def class_colour(label: int) -> Colour:
    """A bright colour for a class; hues of neighbouring labels are far apart."""
    golden_ratio = 0.61803398875
    red, green, blue = colorsys.hsv_to_rgb((0.02 + label * golden_ratio) % 1, 0.75, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


class _Pen:
    """Draws lines and text of a weight that suits the image's size."""

    def __init__(self, image: Image.Image) -> None:
        self._size = image.size
        self._draw = ImageDraw.Draw(image)
        short = min(image.size)
        self._line = max(1, round(short / 180))
        self._font = font(max(10, round(short / 30)))

    def box(self, box: Sequence[float], colour: Colour, line: int | None = None) -> None:
        # A dark edge on both sides keeps the line visible on a background of its own colour.
        left, top, right, bottom = (round(value) for value in box)
        right, bottom = max(left, right), max(top, bottom)
        line = line or self._line
        for grow, width, ink in ((1, line + 2, _BLACK), (0, line, colour)):
            edge = (left - grow, top - grow, right + grow, bottom + grow)
            self._draw.rectangle(edge, outline=ink, width=width)

    def tag(self, left: float, top: float, text: str, colour: Colour) -> None:
        """Text on a plate that stands on a box's top edge, or hangs from it at the image's top."""
        width, height = self._plate(text)
        x = min(max(round(left) - self._line, 0), max(self._size[0] - width, 0))
        y = round(top) - height
        if y < 0:
            y = max(round(top), 0)
        self._write(x, min(y, max(self._size[1] - height, 0)), text, colour)

    def note(self, text: str, colour: Colour) -> None:
        """Text on a plate in the image's top right corner, where few boxes have their label."""
        self._write(self._size[0] - self._plate(text)[0], 0, text, colour)

    def border(self, colour: Colour) -> None:
        width, height = self._size
        self._draw.rectangle((0, 0, width - 1, height - 1), outline=colour, width=2 * self._line)

    def _plate(self, text: str) -> tuple[int, int]:
        ascent, descent = self._font.getmetrics()
        pad = self._line
        return round(self._font.getlength(text)) + 4 * pad, ascent + descent + 2 * pad

    def _write(self, x: int, y: int, text: str, colour: Colour) -> None:
        width, height = self._plate(text)
        self._draw.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
        red, green, blue = colour
        is_light = 0.299 * red + 0.587 * green + 0.114 * blue > 120
        ink = _BLACK if is_light else _WHITE
        self._draw.text((x + 2 * self._line, y + self._line), text, fill=ink, font=self._font)


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The font of all text, in pixels a line."""
    return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size))


def _tinted(frame: RGB, mask: NDArray[np.bool_], cell: tuple[float, float]) -> RGB:
    height, width = frame.shape[:2]
    rows = np.minimum((np.arange(height) + 0.5) / cell[1], mask.shape[0] - 1).astype(int)
    columns = np.minimum((np.arange(width) + 0.5) / cell[0], mask.shape[1] - 1).astype(int)
    active = mask[rows[:, None], columns]
    tinted = frame.copy()
    tint = np.asarray(_MASK) * _MASK_OPACITY
    tinted[active] = (frame[active] * (1 - _MASK_OPACITY) + tint).astype(np.uint8)
    return tinted
