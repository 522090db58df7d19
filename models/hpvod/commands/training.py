"""What `hpvod train` and `hpvod pretrain-flow` share: options, and how a run ends that fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from hpvod.memory import keep_freed_memory

Out = Annotated[Path, typer.Option(help="Folder of the run; with a checkpoint, it goes on.")]
Iterations = Annotated[int, typer.Option(min=1)]
Batch = Annotated[int, typer.Option(min=1, help="Pairs an iteration and process.")]
LearningRate = Annotated[float, typer.Option(min=0)]
Seed = Annotated[int, typer.Option(min=0)]
Workers = Annotated[int, typer.Option(min=0, help="Processes that read images.")]
Amp = Annotated[str | None, typer.Option(help="Mixed precision: bf16 or fp16.")]
CheckpointEvery = Annotated[int, typer.Option(min=1, help="Iterations.")]


@contextmanager
def training_run() -> Iterator[None]:
    """Keeps memory for the next iteration's tensors, and names what ends the command.

    That is one line and an exit status where the run fails or is interrupted.
    """
    from hpvod.data import DataError
    from hpvod.device import DeviceError
    from hpvod.tensor_file import WeightsError
    from hpvod.training.errors import TrainingError

    keep_freed_memory()
    try:
        yield
    except (DataError, DeviceError, OSError, TrainingError, WeightsError) as error:
        typer.echo(f"hpvod: error: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        message = "hpvod: interrupted; the same command goes on from the last checkpoint, if any"
        typer.echo(message, err=True)
        raise typer.Exit(130) from error


def report_skipped(files: int) -> None:
    """Says how many files of the data set could not be used; each was named when it was met."""
    if files:
        typer.echo(f"hpvod: {files} files were skipped", err=True)
