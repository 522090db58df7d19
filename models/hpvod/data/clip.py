"""What a data set consists of: clips, their frames, and the objects annotated in a frame."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

BoolArray = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
FloatArray = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
IntArray = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
ImageArray = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


class DataError(ValueError):
    """A file of a data set cannot be used; the message names the file and says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Annotation:
    """The K objects annotated in a frame.

    Attributes:
        size: Height and width of the image in pixels.
        boxes: float32 [K, 4], x1, y1, x2, y2 in pixels of the image: the outermost pixels on the
            object, as in ImageNet's files, so that a width is x2 - x1 + 1.
        labels: int64 [K], indices into the data set's classes.
        tracks: int64 [K], an object's number within its clip; -1 where unknown.
        occluded: bool [K].
    """

    size: tuple[int, int]
    boxes: FloatArray
    labels: IntArray
    tracks: IntArray
    occluded: BoolArray


@dataclass(frozen=True, slots=True)
class Frame:
    """An image file and where its annotation is: an XML file, in memory, or nowhere."""

    image: Path
    annotation: Path | Annotation | None


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames in order of time; a still image is a clip of one frame.

    Attributes:
        name: As the data set calls it, "val/ILSVRC2015_val_00000000" for instance.
        frames: At least one.
    """

    name: str
    frames: tuple[Frame, ...]


class Dataset(Protocol):
    """Clips with the objects of their frames, read when asked for."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that labels are indices into, as in `ModelConfig.classes`."""

    @property
    def clips(self) -> Sequence[Clip]:
        """All clips, in the order of the data set's list."""

    def annotation(self, frame: Frame) -> Annotation:
        """The objects in a frame of one of the clips.

        Raises:
            DataError: The annotation cannot be read or is wrong; the message names the file.
        """


def read_image(path: Path) -> ImageArray:
    """The image in a file of any format that Pillow reads, as uint8 [H, W, 3] RGB.

    Raises:
        DataError: The file is missing, truncated or no image.
    """
    try:
        with warnings.catch_warnings():
            # Pillow only warns of an image that is large enough to exhaust the memory.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Warning) as error:
        raise DataError(f"{path}: cannot be read as an image ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
