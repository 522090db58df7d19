"""One video of `hpvod detect`: what is read of it, and what is written."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from hpvod.draw import draw
from hpvod.results import ResultsError, ResultsWriter
from hpvod.video import RGB, VideoError, open_video
from hpvod.video_writer import VideoWriter

if TYPE_CHECKING:
    from hpvod.config import ModelConfig
    from hpvod.frame_result import FrameResult


@dataclasses.dataclass(frozen=True)
class Shown:
    """What is kept and drawn of every result.

    Args:
        config: of the model.
        score_threshold: boxes that score less are left out.
        mask: whether what was recomputed is tinted.
    """

    config: ModelConfig
    score_threshold: float
    mask: bool


class Job:
    """A video on its way from its reader to its files.

    Attributes:
        reader: the frames.
        frames: whose results were written.
        error: why no more will be; None while all is well.
    """

    def __init__(self, source: str, fps: float | None, output: Path | None, json: Path | None):
        """Opens the video; no output is touched.

        Args:
            source: as `open_video` takes it.
            fps: likewise.
            output: the annotated video to write.
            json: the JSON Lines to write.

        Raises:
            VideoError: the video cannot be read, or the output is not called .mp4.
        """
        self.frames = 0
        self.error: Exception | None = None
        self._unwritable = False
        self.outputs = [path for path in (output, json) if path is not None]
        self._json = json
        self._owed: deque[tuple[RGB, float]] = deque()
        self._results: ResultsWriter | None = None
        self._writer: VideoWriter | None = None
        self._stack = ExitStack()
        with ExitStack() as stack:
            self.reader = stack.enter_context(open_video(source, fps))
            if output is not None:
                reader = self.reader
                writer = VideoWriter(output, reader.size, reader.rate, reader.time_base)
                self._writer = stack.enter_context(writer)
            self._stack = stack.pop_all()

    def __enter__(self) -> Job:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def read(self, shown: Shown) -> Iterator[tuple[RGB, float]]:
        """The frames, and their times in seconds, until there is an error.

        Raises:
            VideoError: as the reader does.
            ResultsError: the JSON Lines cannot be written.
        """
        if self._json is not None:
            results = ResultsWriter(self._json, shown.config.classes)
            self._results = self._stack.enter_context(results)
        for item in self.reader:
            if self.error is not None:
                return
            self._owed.append(item)
            yield item

    def write(self, result: FrameResult, shown: Shown) -> bool:
        """Writes the next result, and what is drawn of it.

        Returns:
            Whether it was written: not if writing failed, now or before.
        """
        frame, time = self._owed.popleft()
        if self._unwritable:
            return False
        sure = result.scores >= shown.score_threshold
        result = dataclasses.replace(
            result, boxes=result.boxes[sure], labels=result.labels[sure], scores=result.scores[sure]
        )
        try:
            if self._results is not None:
                self._results.write(result)
            if self._writer is not None:
                self._writer.write(self._drawn(frame, result, shown), time)
        except (VideoError, ResultsError) as error:
            self.error, self._unwritable = error, True
            return False
        self.frames += 1
        return True

    def _drawn(self, frame: RGB, result: FrameResult, shown: Shown) -> RGB:
        from hpvod.preprocess import Preprocess

        cell = None
        if shown.mask:
            width, height = self.reader.size
            cell = Preprocess(shown.config).cell(height, width)
        return draw(frame, result, shown.config.classes, cell)
