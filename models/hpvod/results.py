"""Results as JSON Lines: one object a frame, on disk as soon as the frame is done."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpvod.frame_result import FrameResult


class ResultsError(ValueError):
    """Results cannot be written; the message names the file and says why."""


def to_json(result: FrameResult, names: Sequence[str]) -> str:
    """One line of JSON, without its newline.

    Its keys: frame (from 0), time (seconds, null where unknown), key (whether it was a key frame),
    updated (the share of positions computed from scratch), and three lists of one item a
    detection, falling by score: boxes ([x1, y1, x2, y2] in pixels of the original frame), labels
    (names) and scores.

    Args:
        result: of one frame.
        names: of the classes, as `result.labels` counts them.
    """
    return json.dumps(
        {
            "frame": result.index,
            "time": None if result.time is None else round(result.time, 6),
            "key": result.is_key,
            "updated": round(result.updated, 6),
            "boxes": [[round(side, 2) for side in box] for box in result.boxes.tolist()],
            "labels": [names[label] for label in result.labels.tolist()],
            "scores": [round(score, 6) for score in result.scores.tolist()],
        },
        allow_nan=False,
    )


class ResultsWriter:
    """Writes a JSON Lines file in which every line is whole, whatever happens."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        """Creates the file, replacing an older one.

        Args:
            path: the file.
            names: of the classes, as results' labels count them.

        Raises:
            ResultsError: the file cannot be created.
        """
        self._path = path
        self._names = names
        self._size = 0
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise self._cannot_write(error) from error

    def write(self, result: FrameResult) -> None:
        """Appends a frame's line.

        Raises:
            ResultsError: the file cannot be written; it then ends with the line before.
        """
        line = to_json(result, self._names).encode() + b"\n"
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)
            raise self._cannot_write(error) from error
        self._size += len(line)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> ResultsWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _cannot_write(self, error: OSError) -> ResultsError:
        return ResultsError(f"{self._path}: cannot be written ({error.strerror})")
