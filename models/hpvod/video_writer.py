"""Annotated video out: H.264 in mp4, playable at every moment while it is written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from hpvod.video import RGB, VideoError, by, reason, size_of


class VideoWriter:
    """Writes frames to an mp4 file, H.264 in yuv420p; frames of odd size gain a row or column.

    The first frame creates the file, replacing an older one. From then on it can be played at any
    moment, also after a crash or a full disk: until `close` makes it a plain mp4 it is a fragmented
    one, and a frame has reached the file when the next is written.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], rate: Fraction, time_base: Fraction
    ) -> None:
        """Prepares the encoder; the file is not touched.

        Args:
            path: ends in .mp4.
            size: (width, height) of the frames.
            rate: frames a second, on average.
            time_base: seconds that frame times are rounded to multiples of.

        Raises:
            VideoError: the file is not called .mp4.
        """
        if path.suffix.lower() != ".mp4":
            raise VideoError(f"{path}: video is written as mp4, so the name must end in .mp4")
        self._path = path
        self._size = size
        self._time_base = time_base
        self._last_pts = -1
        self._whole_bytes = 0
        self._failed = False
        self._container = av.open(
            # The prefix keeps libav from taking a name with a colon for a protocol.
            f"file:{path}",
            "w",
            format="mp4",
            container_options={
                "movflags": "hybrid_fragmented+frag_every_frame",
                "flush_packets": "1",
            },
        )
        self._stream = self._container.add_stream(
            "libx264",
            rate=rate,
            # With x264's look-ahead 40 frames or so would be lost when the process is killed.
            options={"preset": "veryfast", "crf": "20", "tune": "zerolatency"},
            width=size[0] + size[0] % 2,
            height=size[1] + size[1] % 2,
            pix_fmt="yuv420p",
            time_base=time_base,
            # Players take untagged video for BT.601 or BT.709 depending on its size.
            color_range=ColorRange.MPEG,
            colorspace=Colorspace.ITU709,
            color_primaries=ColorPrimaries.BT709,
            color_trc=ColorTrc.BT709,
        )

    def write(self, frame: RGB, time: float) -> None:
        """Appends a frame.

        Args:
            frame: uint8 RGB, [height, width, 3].
            time: of the frame in seconds. One no later than the last frame's is moved after it by
                one unit of the time base.

        Raises:
            VideoError: the frame is not of the video's size, or the file cannot be written.
        """
        if size_of(frame) != self._size:
            sizes = f"{by(size_of(frame))} in a video of {by(self._size)}"
            raise VideoError(f"{self._path}: got a frame of {sizes}")
        height, width = frame.shape[:2]
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        self._last_pts = max(round(time / self._time_base), self._last_pts + 1)
        picture.pts = self._last_pts
        picture.time_base = self._time_base
        with self._reporting():
            # Muxing writes the header as well. A header of its own would not do: libav crashes when
            # it finishes a fragmented mp4 without frames.
            self._container.mux(self._stream.encode(picture))
            self._whole_bytes = self._path.stat().st_size

    def close(self) -> None:
        """Finishes the file.

        Raises:
            VideoError: the file cannot be written; what was written before can be played.
        """
        try:
            with self._reporting():
                if not self._failed:
                    self._container.mux(self._stream.encode(None))
                self._container.close()
        finally:
            if self._failed:
                # Some players stop at a partial fragment.
                with contextlib.suppress(OSError):
                    os.truncate(self._path, self._whole_bytes)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        # The first error says what went wrong; closing after it often fails for the same reason.
        with contextlib.suppress(VideoError) if error else contextlib.nullcontext():
            self.close()

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            self._failed = True
            raise VideoError(f"{self._path}: cannot be written ({reason(error)})") from error
