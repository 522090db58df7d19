"""Frames in: of a video file, a folder of images or a glob, one at a time."""

from __future__ import annotations

import contextlib
import glob
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
DEFAULT_FPS = 25.0

RGB = NDArray[np.uint8]
"""One frame: uint8, [height, width, 3]."""


class VideoError(ValueError):
    """A video cannot be read or written; the message names the file and says why."""


class VideoReader(ABC):
    """The frames of a video with their times, decoded one at a time; to be iterated over once.

    Attributes:
        files: what is read: one video, or the images in order.
        size: (width, height) of every frame, in pixels.
        rate: frames a second, on average.
        time_base: seconds that every frame's time is a multiple of.
        frame_count: how many frames there should be; None where the file does not say.
    """

    files: list[Path]
    rate: Fraction
    time_base: Fraction
    frame_count: int | None

    def __init__(self) -> None:
        self._frames = self._read()
        try:
            self._first = next(self._frames)
        except StopIteration:
            raise VideoError(f"{self.files[0]}: holds no frame that can be decoded") from None
        self.size = size_of(self._first[1])

    def __iter__(self) -> Iterator[tuple[RGB, float]]:
        """The frames, uint8 RGB [height, width, 3], and their times in seconds from the first.

        Raises:
            VideoError: a frame differs in size from the first, or the file is damaged or cut short.
                Every frame before it has been given out by then.
        """
        for index, (file, frame, time) in enumerate(chain((self._first,), self._frames)):
            if size_of(frame) != self.size:
                sizes = f"{by(size_of(frame))}, but the video began as {by(self.size)}"
                raise VideoError(f"{file}: the size of frame {index} is {sizes}")
            yield frame, time

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Closes the file."""

    @abstractmethod
    def _read(self) -> Iterator[tuple[Path, RGB, float]]: ...


def open_video(source: str, fps: float | None = None) -> VideoReader:
    """Opens a video file, a folder of frames, or the frames that match a glob, in natural order.

    Args:
        source: path or glob; a folder's files that are no images are passed over.
        fps: frames a second of a folder or glob, `DEFAULT_FPS` where None. A video file has times
            of its own.

    Raises:
        VideoError: nothing there, nothing that can be read, or `fps` given for a video file.
    """
    path = Path(source)
    if path.is_dir():
        files = [f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and _visible(f)]
        if not files:
            raise VideoError(f"{source}: the folder holds no images ({', '.join(IMAGE_SUFFIXES)})")
    elif path.exists():
        if fps is not None:
            raise VideoError(
                f"{source}: a video file has frame times of its own, so fps is for "
                "folders and globs only"
            )
        return _VideoFile(path)
    elif glob.has_magic(source):
        files = [Path(match) for match in glob.glob(source, recursive=True)]
        files = [file for file in files if file.is_file()]
        if not files:
            raise VideoError(f"{source}: no file matches")
    else:
        raise VideoError(f"{source}: no such file or folder")
    return _ImageFiles(sorted(files, key=_natural), DEFAULT_FPS if fps is None else fps)


class _ImageFiles(VideoReader):
    def __init__(self, files: list[Path], fps: float) -> None:
        if fps <= 0:
            raise VideoError(f"fps: expected more than 0 frames a second, got {fps}")
        self.files = files
        self.rate = Fraction(fps).limit_denominator(1001)
        self.time_base = 1 / self.rate
        self.frame_count = len(files)
        super().__init__()

    def close(self) -> None:
        """Nothing stays open between frames."""

    def _read(self) -> Iterator[tuple[Path, RGB, float]]:
        for index, file in enumerate(self.files):
            try:
                with Image.open(file) as image:
                    frame = np.asarray(image.convert("RGB"))
            # Pillow reports some damaged PNGs by a SyntaxError.
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                raise VideoError(f"{file}: cannot be read as an image ({error})") from error
            yield file, frame, float(index * self.time_base)


class _VideoFile(VideoReader):
    def __init__(self, path: Path) -> None:
        self.files = [path]
        try:
            # The prefix keeps libav from taking a name with a colon for a protocol.
            self._container = av.open(f"file:{path}")
        except (av.FFmpegError, OSError) as error:
            raise VideoError(
                f"{path}: cannot be read as a video ({reason(error)}): damaged, incomplete or "
                "not a video"
            ) from error
        stream = self._container.streams.best("video")
        # libav "plays" any .txt file as a terminal's screen.
        if not isinstance(stream, av.VideoStream) or self._container.format.name == "tty":
            self._container.close()
            raise VideoError(f"{path}: has no video in it")
        self._stream = stream
        self.rate = stream.average_rate or stream.guessed_rate or Fraction(DEFAULT_FPS)
        self.time_base = stream.time_base or 1 / self.rate
        self.frame_count = stream.frames or None
        try:
            super().__init__()
        except VideoError:
            self._container.close()
            raise

    def close(self) -> None:
        self._container.close()

    def _read(self) -> Iterator[tuple[Path, RGB, float]]:
        (path,) = self.files
        start, time, index = None, 0.0, -1
        for index, frame in enumerate(self._decode()):
            if frame.pts is None:
                time = float(index / self.rate)
            else:
                start = frame.pts if start is None else start
                time = float((frame.pts - start) * self.time_base)
            pixels = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            if frame.rotation:
                pixels = np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
            yield path, pixels, time
        if self._is_cut_short():
            of = f" of {self.frame_count}" if self.frame_count else ""
            raise VideoError(
                f"{path}: the file is cut short: only {index + 1}{of} frames could be read"
            )

    def _decode(self) -> Iterator[av.VideoFrame]:
        """The frames up to the first damage, those included that the decoder holds by then."""
        damage = None
        try:
            for packet in self._container.demux(self._stream):
                if packet.is_corrupt and self._is_cut_short():
                    damage = "incomplete frame"
                    break
                yield from self._stream.decode(packet)
        except av.FFmpegError as error:
            damage = reason(error)
        if damage is not None:
            with contextlib.suppress(av.FFmpegError):
                yield from self._stream.decode(None)
            if not self._is_cut_short():
                raise VideoError(f"{self.files[0]}: damaged, and read up to there ({damage})")

    def _is_cut_short(self) -> bool:
        """Whether frames of the container's index lie beyond the end of the file."""
        index = self._stream.index_entries
        end = index[-1].pos + index[-1].size if len(index) else 0
        return bool(end > self.files[0].stat().st_size)


def _visible(file: Path) -> bool:
    return not file.name.startswith(".") and file.is_file()


def _natural(file: Path) -> tuple[list[Any], str]:
    """Numbers compare as numbers; the name itself decides between "1" and "01"."""
    parts = re.split(r"(\d+)", str(file))
    return [int(part) if part.isdecimal() else part for part in parts], str(file)


def reason(error: Exception) -> str:
    """What the system or libav says of an error, without its number and the file's name."""
    return getattr(error, "strerror", None) or str(error)


def size_of(frame: RGB) -> tuple[int, int]:
    """(width, height) in pixels."""
    return frame.shape[1], frame.shape[0]


def by(size: tuple[int, int]) -> str:
    """A size as messages write it."""
    return f"{size[0]}x{size[1]}"
