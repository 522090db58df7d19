"""What a training run shows: a progress bar or lines of text, and TensorBoard's scalars."""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter

from torch.utils.tensorboard import SummaryWriter

from hpvod.progress import progress_bar

_LINES_EVERY = 20


class TrainingLog:
    """Averages over 20 iterations, as a line where stderr is no terminal."""

    def __init__(self, out: Path, iteration: int, iterations: int) -> None:
        self._bar = progress_bar()
        self._lines = self._bar.disable
        self._task = self._bar.add_task("", total=iterations, completed=iteration)
        self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=iteration + 1)
        self._iteration = iteration
        self._iterations = iterations
        self._restart()

    def __enter__(self) -> TrainingLog:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        self._writer.close()

    def _restart(self) -> None:
        self._started = perf_counter()
        self._sums: dict[str, float] = {}
        self._count = 0
        self._images = 0

    def add(self, values: dict[str, float], images: int) -> None:
        """Counts an iteration that is done.

        Args:
            values: by name.
            images: trained on.
        """
        self._iteration += 1
        self._count += 1
        self._images += images
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._bar.advance(self._task)
        if self._count == _LINES_EVERY or self._iteration == self._iterations:
            self._show()

    def _show(self) -> None:
        seconds = perf_counter() - self._started
        means = {name: total / self._count for name, total in self._sums.items()}
        means["images_per_second"] = self._images / seconds
        for name, value in means.items():
            self._writer.add_scalar(name, value, self._iteration)
        self._writer.flush()  # a checkpoint may come next, after which it is not logged again
        text = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
        left = seconds / self._count * (self._iterations - self._iteration)
        self._bar.update(self._task, description=text)
        if self._lines:
            print(
                f"{self._iteration}/{self._iterations}: {text}, {left:.0f} s left", file=sys.stderr
            )
        self._restart()
