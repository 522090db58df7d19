"""The training loop, which the detector and the flow network share."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from hpvod.data import DataError, Skipped
from hpvod.training.checkpoint import load_checkpoint, save_checkpoint
from hpvod.training.distributed import sum_gradients, wait_for_others
from hpvod.training.errors import TrainingError
from hpvod.training.log import TrainingLog
from hpvod.training.samples import batches
from hpvod.training.schedule import learning_rate

SHARE = "share"
"""In a parameter group, the share of the run's learning rate that it has; 1 if it is not there."""
MAX_NORM = 35.0
"""Gradients of a larger norm are scaled down to it. The value is not tuned."""
T = TypeVar("T")
_AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Task(Protocol[T]):
    """What is trained on what.

    Attributes:
        module: all that a checkpoint holds.
        parameters: of the module, those that are trained.
        optimizer: of the parameters.
        terms: names of what `losses` returns; the first is minimised.
    """

    module: nn.Module
    parameters: Sequence[nn.Parameter]
    optimizer: torch.optim.Optimizer
    terms: tuple[str, ...]

    def read(self, position: int, attempt: int) -> T:
        """The sample at a position; raises DataError where it cannot be used."""

    def parts(self, samples: Sequence[T]) -> Iterable[tuple[T, int]]:
        """The samples of an iteration as `losses` takes them, and how many each part is of."""

    def losses(self, sample: T, device: torch.device) -> Tensor:
        """[len(terms)] float32, the means of a part."""


@dataclass(frozen=True)
class Run:
    """How a run goes.

    Attributes:
        out: folder of checkpoints and logs.
        arguments: what must be the same when the run goes on, in types that JSON has.
        iterations: in all.
        batch: samples an iteration of this process.
        learning_rate: at first.
        warm_up: iterations over which the learning rate rises.
        workers: processes that read samples.
        device: where the module is.
        amp: "bf16", "fp16" or None for full precision.
        checkpoint_every: iterations.
        rank: of this process.
        world: number of processes.
    """

    out: Path
    arguments: Mapping[str, Any]
    iterations: int
    batch: int
    learning_rate: float
    device: torch.device
    warm_up: int = 0
    workers: int = 0
    amp: str | None = None
    checkpoint_every: int = 500
    rank: int = 0
    world: int = 1

    @property
    def checkpoint(self) -> Path:
        """The file of the last checkpoint."""
        return self.out / "checkpoint.safetensors"

    def positions(self, iteration: int) -> list[int]:
        """Of this process's samples of an iteration."""
        first = (iteration * self.world + self.rank) * self.batch
        return list(range(first, first + self.batch))


@dataclass
class _Stop:
    """Turns a signal into a flag, so that a run stops between iterations; a second Ctrl-C kills.

    A second SIGTERM does not: torchrun passes on what every process may have got already.
    """

    asked: bool = False
    _before: dict[int, Any] = field(default_factory=dict)

    def __enter__(self) -> _Stop:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, _: FrameType | None) -> None:
        self.asked = True
        if number == signal.SIGINT:
            signal.signal(number, self._before[number])

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Trainer(Generic[T]):
    """Trains a task from its last checkpoint to the end.

    Attributes:
        iteration: how many are done.
        skipped: files that could not be used.
    """

    def __init__(self, task: Task[T], run: Run) -> None:
        """Makes the run's folder, or loads the checkpoint that it holds.

        Raises:
            TrainingError: the folder cannot be made, or the run is another one.
            WeightsError: the checkpoint cannot be used.
        """
        self.iteration = 0
        self.skipped = Skipped()
        self._task = task
        self._run = run
        self._scaler = torch.amp.GradScaler(run.device.type, enabled=run.amp == "fp16")
        try:
            run.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"{run.out}: cannot be made ({error.strerror})") from error
        if run.checkpoint.exists():
            self.iteration, scaler = load_checkpoint(
                run.checkpoint, task.module, task.optimizer, run.arguments
            )
            self._scaler.load_state_dict(scaler)

    def train(self) -> None:
        """Runs all iterations that are left and writes the last checkpoint.

        Raises:
            TrainingError: the loss is not finite, or the data cannot be used.
            WeightsError: a checkpoint cannot be written.
            KeyboardInterrupt: the run was stopped; a checkpoint is written.
        """
        run = self._run
        positions = map(run.positions, range(self.iteration, run.iterations))
        with ExitStack() as stack:
            stop = stack.enter_context(_Stop())
            log = None
            if run.rank == 0:
                log = stack.enter_context(TrainingLog(run.out, self.iteration, run.iterations))
            for reads in batches(self._task.read, positions, run.workers):
                for message in (message for read in reads for message in read.skipped):
                    self.skipped.add(DataError(message))
                rate = learning_rate(run.learning_rate, self.iteration, run.iterations, run.warm_up)
                values, stopped = self._step([read.sample for read in reads], rate, stop)
                self.iteration += 1
                if log is not None:
                    log.add(values | {"learning_rate": rate}, run.batch * run.world)
                if stopped or self.iteration % run.checkpoint_every == 0:
                    self._save()
                if stopped:
                    wait_for_others()  # torchrun kills them all once the first has ended
                    raise KeyboardInterrupt
            self._save()

    def _step(self, samples: list[T], rate: float, stop: _Stop) -> tuple[dict[str, float], bool]:
        """One iteration: the means of the losses, and whether any process is to stop."""
        task, run = self._task, self._run
        sums = torch.zeros(len(task.terms) + 1, device=run.device)
        task.optimizer.zero_grad()
        for sample, count in task.parts(samples):
            share = count / (len(samples) * run.world)
            with torch.autocast(
                run.device.type, _AMP.get(run.amp or ""), enabled=run.amp is not None
            ):
                losses = task.losses(sample, run.device)
            self._scaler.scale(losses[0] * share).backward()
            sums[:-1] += losses.detach() * share
        sums[-1] = float(stop.asked)
        *means, stopped = sum_gradients(task.parameters, sums).tolist()
        values = dict(zip(task.terms, means, strict=True))
        self._check("loss", means[0])
        for group in task.optimizer.param_groups:
            group["lr"] = rate * group.get(SHARE, 1)
        self._scaler.unscale_(task.optimizer)
        norm = float(nn.utils.clip_grad_norm_(task.parameters, MAX_NORM))
        if not self._scaler.is_enabled():  # else it leaves such a step out and scales less
            self._check("gradient's norm", norm)
        self._scaler.step(task.optimizer)
        self._scaler.update()
        return values, stopped > 0

    def _check(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            kept = f"; {self._run.checkpoint} is kept" if self._run.checkpoint.exists() else ""
            raise TrainingError(
                f"iteration {self.iteration}: the {what} is {value}; "
                f"try a smaller --learning-rate{kept}"
            )

    def _save(self) -> None:
        if self._run.rank == 0:
            save_checkpoint(
                self._run.checkpoint,
                self._task.module,
                self._task.optimizer,
                self.iteration,
                self._run.arguments,
                self._scaler.state_dict(),
            )
