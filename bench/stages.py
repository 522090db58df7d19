"""A clock for the stages of a frame: VideoDetector's `stages` hook."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class StageClock:
    """Milliseconds that one frame spends in each stage; within nested stages the inner one counts.

    On a GPU a stage lasts from an event before its first kernel to one after its last, so
    nothing waits for it but the reading of the clock.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._device = device
        self._marks: list[tuple[str, float | torch.cuda.Event]] = []
        self._stack: list[str] = ["other"]

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """A context around one stage."""
        self._stack.append(name)
        self._mark()
        try:
            yield
        finally:
            self._stack.pop()
            self._mark()

    @contextmanager
    def frame(self) -> Iterator[dict[str, float]]:
        """A context around one frame; gives a dictionary that holds its stages afterwards.

        Time between stages goes to the stage "other".
        """
        stages: dict[str, float] = {}
        self._marks.clear()
        self._mark()
        yield stages
        self._mark()
        if self._cuda:
            torch.cuda.synchronize(self._device)
        totals: dict[str, float] = defaultdict(float)
        for (name, start), (_, end) in zip(self._marks, self._marks[1:], strict=False):
            totals[name] += _milliseconds(start, end)
        stages.update(totals)

    def _mark(self) -> None:
        """From now on, time goes to the stage on top of the stack."""
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append((self._stack[-1], event))
        else:
            self._marks.append((self._stack[-1], time.perf_counter()))


def _milliseconds(start: Any, end: Any) -> float:
    """Between two marks of one clock: device events or a host clock's seconds."""
    if isinstance(start, torch.cuda.Event):
        return float(start.elapsed_time(end))
    return float(end - start) * 1e3
