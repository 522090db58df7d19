"""What the commands that train have in common: their options, and how a run starts from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from hpvod.config import ModelConfig
from hpvod.device import choose_device
from hpvod.processes import process_group
from hpvod.training.errors import TrainingError
from hpvod.training.trainer import Run


@dataclass(frozen=True)
class Options:
    """Options of `hpvod train` and `hpvod pretrain-flow`, as their help explains them."""

    out: Path
    iterations: int
    batch: int
    learning_rate: float
    seed: int
    workers: int
    device: str | None
    amp: str | None
    checkpoint_every: int


@contextmanager
def started(
    options: Options, arguments: Mapping[str, str | float | None], warm_up: int = 0
) -> Iterator[Run]:
    """Joins torchrun's other processes, where there are any, for as long as the run goes.

    Args:
        options: as they were given.
        arguments: the command's own, on which the result depends.
        warm_up: as of `Run`.

    Yields:
        This process's part of the run.

    Raises:
        DeviceError: there is no such device.
        TrainingError: the device has no such mixed precision.
    """
    device = choose_device(options.device)
    _check_amp(options.amp, device)
    with process_group("nccl" if device.type == "cuda" else "gloo") as (rank, world):
        # Nothing of the result depends on the other options: they may change when a run goes on.
        common = {
            "iterations": options.iterations,
            "batch": options.batch,
            "learning_rate": options.learning_rate,
            "seed": options.seed,
            "amp": options.amp,
            "processes": world,
        }
        yield Run(
            out=options.out,
            arguments={**arguments, **common},
            iterations=options.iterations,
            batch=options.batch,
            learning_rate=options.learning_rate,
            device=device,
            warm_up=warm_up,
            workers=options.workers,
            amp=options.amp,
            checkpoint_every=options.checkpoint_every,
            rank=rank,
            world=world,
        )


def model_preset(name: str) -> ModelConfig:
    """The configuration of `--model`; raises TrainingError where there is none."""
    try:
        return ModelConfig.preset(name)
    except ValueError as error:
        raise TrainingError(f"--model: {error}") from error


def _check_amp(amp: str | None, device: torch.device) -> None:
    if amp not in (None, "bf16", "fp16"):
        raise TrainingError(f"--amp: must be bf16 or fp16, not {amp!r}")
    if amp == "fp16" and device.type != "cuda":
        raise TrainingError("--amp fp16: needs a GPU; choose bf16")
