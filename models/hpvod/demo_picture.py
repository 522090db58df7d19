"""What several methods found in a frame, side by side, each under its heading."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from hpvod.draw import draw, font
from hpvod.video import RGB

if TYPE_CHECKING:
    from hpvod.data.clip import Annotation
    from hpvod.frame_result import FrameResult

SCALE = 2
"""How many times larger than the frame it is shown: boxes and text are finer than its pixels."""

HEADING = 32
"""Height of the strip above each frame, in pixels."""

_SURE = 0.5
_INK, _PAPER = (235, 235, 235), (24, 24, 24)


def side_by_side(
    frame: RGB,
    found: Sequence[tuple[str, FrameResult]],
    annotation: Annotation,
    names: Sequence[str],
    cell: tuple[float, float],
) -> RGB:
    """A picture of the frame for each method, from left to right.

    Annotated boxes are thin and white, detections of a score of 0.5 or more coloured. On frames
    that are not key frames what was recomputed is tinted.

    Args:
        frame: uint8 RGB, [height, width, 3].
        found: heading and result of each method.
        annotation: of the frame.
        names: of the classes.
        cell: (width, height) of a position of U in pixels of the frame.

    Returns:
        uint8 RGB, [SCALE * height + HEADING, SCALE * width * methods, 3].
    """
    height, width = frame.shape[:2]
    size = SCALE * width, SCALE * height
    large = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR))
    truth = (SCALE * annotation.boxes).tolist()
    large_cell = SCALE * cell[0], SCALE * cell[1]
    columns = []
    for heading, result in found:
        sure = result.scores >= _SURE
        shown = dataclasses.replace(
            result,
            boxes=SCALE * result.boxes[sure],
            labels=result.labels[sure],
            scores=result.scores[sure],
        )
        picture = draw(large, shown, names, large_cell, truth)
        columns.append(np.concatenate([_heading(heading, size[0]), picture]))
    return np.concatenate(columns, axis=1)


def _heading(text: str, width: int) -> RGB:
    strip = Image.new("RGB", (width, HEADING), _PAPER)
    ImageDraw.Draw(strip).text(
        (HEADING // 2, HEADING // 2), text, fill=_INK, font=font(HEADING // 2), anchor="lm"
    )
    return np.asarray(strip)
