"""How a run gets on: frames a second, key frames and the share of features recomputed."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from hpvod.frame_result import FrameResult


def progress_bar() -> Progress:
    """A bar on stderr with the task's description behind it; none where no person reads it."""
    console = Console(stderr=True)
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


class RunProgress:
    """Counts results and, between entering and leaving, shows a bar on stderr if a person reads it.

    Attributes:
        frames: counted so far.
    """

    def __init__(self) -> None:
        self._bar = progress_bar()
        self._task: TaskID = self._bar.add_task("", total=None)
        self._started = 0.0
        self.frames = 0
        self._key_frames = 0
        self._updated = 0.0

    def start(self, frame_count: int | None) -> None:
        """Starts the clock; `frame_count` is the number of frames to come, where it is known."""
        self._started = perf_counter()
        self._bar.update(self._task, total=frame_count)
        self._bar.start()

    def stop(self) -> None:
        """Takes the bar away."""
        self._bar.stop()

    def add(self, result: FrameResult) -> None:
        """Counts a frame that is done."""
        self.frames += 1
        self._key_frames += result.is_key
        self._updated += result.updated
        self._bar.update(self._task, advance=1, description=str(self))

    def __str__(self) -> str:
        speed = self.frames / (perf_counter() - self._started)
        mean = self._updated / max(self.frames, 1)
        return f"{speed:.1f} frames/s, {self._key_frames} key frames, mean updated {mean:.1%}"
