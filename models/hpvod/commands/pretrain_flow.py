"""The command `hpvod pretrain-flow`: the flow network on pairs of images with known flow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpvod.commands.choices import Device
from hpvod.commands.training import (
    Amp,
    Batch,
    CheckpointEvery,
    Iterations,
    LearningRate,
    Out,
    Seed,
    Workers,
    report_skipped,
    training_run,
)


def pretrain_flow(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Flying Chairs, or alike.")],
    out: Out,
    model: Annotated[str, typer.Option(help="Whose flow network: resnet101 or tiny.")] = (
        "resnet101"
    ),
    split: Annotated[str, typer.Option(help="train, val or all.")] = "train",
    iterations: Iterations = 600_000,
    batch: Batch = 8,
    learning_rate: LearningRate = 1e-4,
    seed: Seed = 0,
    workers: Workers = 2,
    device: Device = None,
    amp: Amp = None,
    checkpoint_every: CheckpointEvery = 500,
) -> None:
    """Train the flow network; OUT/flow.safetensors is for `hpvod train --flow`."""
    with training_run():
        from hpvod.training.start import Options
        from hpvod.training.train_flow import train_flow

        options = Options(
            out=out,
            iterations=iterations,
            batch=batch,
            learning_rate=learning_rate,
            seed=seed,
            workers=workers,
            device=device,
            amp=amp,
            checkpoint_every=checkpoint_every,
        )
        report_skipped(len(train_flow(options, data, split, model)))
