"""Little videos for tests, made and read with PyAV alone."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

RGB = NDArray[np.uint8]


def clip(count: int, width: int = 64, height: int = 48) -> list[RGB]:
    """Smooth colours that move two pixels a frame and survive compression."""
    y, x = np.mgrid[:height, :width]
    frames = []
    for i in range(count):
        phase = (x + 2 * i) / 10, (y - i) / 8, (x + y) / 14
        frames.append(np.stack([127 + 100 * np.sin(p) for p in phase], axis=-1).astype(np.uint8))
    return frames


def write_video(
    path: Path,
    frames: list[RGB],
    pts: list[int] | None = None,
    time_base: Fraction = Fraction(1, 12800),
    options: dict[str, str] | None = None,
) -> Path:
    """H.264, 25 frames a second where `pts` does not say otherwise."""
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(
            "libx264", rate=25, width=width, height=height, pix_fmt="yuv420p", time_base=time_base
        )
        stream.options = {"crf": "10"}
        for i, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts = round(i / 25 / time_base) if pts is None else pts[i]
            picture.time_base = time_base
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def write_images(folder: Path, frames: list[RGB], suffix: str = ".png") -> Path:
    folder.mkdir()
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{i}{suffix}")
    return folder


def cut(path: Path, share: float) -> Path:
    """Removes the end of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def read_video(path: Path) -> list[tuple[RGB, float]]:
    """Frames and times; fails where anything in the file is damaged."""
    with av.open(str(path)) as container:
        return [
            (frame.to_ndarray(format="rgb24"), float(frame.time or 0))
            for frame in container.decode(video=0)
        ]
