"""The command `hpvod train`: the detector on videos and still images."""

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


def train(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Videos in ImageNet VID's layout, split train.")
    ],
    out: Out,
    det: Annotated[
        Path | None, typer.Option(help="Still images in ImageNet DET's layout: every second one.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="resnet101 or tiny.", show_default="resnet101")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Start from this hpvod .safetensors.")
    ] = None,
    resnet: Annotated[
        Path | None, typer.Option(help="Start from ImageNet's ResNet-101 in torchvision's format.")
    ] = None,
    flow: Annotated[
        Path | None, typer.Option(help="Start from what pretrain-flow has written.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Names of the classes to detect, one a line.")
    ] = None,
    iterations: Iterations = 120_000,
    batch: Batch = 1,
    learning_rate: LearningRate = 1e-3,
    area_weight: Annotated[
        float,
        typer.Option(
            min=0, help="Lambda of Eq. 12: the larger, the less is recomputed; not tuned."
        ),
    ] = 0.1,
    flow_rate: Annotated[
        float,
        typer.Option(min=0, help="The pre-trained flow's share of the learning rate."),
    ] = 1.0,
    seed: Seed = 0,
    workers: Workers = 2,
    device: Device = None,
    amp: Amp = None,
    from_scratch: Annotated[
        bool,
        typer.Option(
            "--from-scratch", help="Train every layer, conv1, res2 and batch normalisation too."
        ),
    ] = False,
    checkpoint_every: CheckpointEvery = 500,
) -> None:
    """Train the detector; the same command again goes on from the last checkpoint.

    With several GPUs: torchrun --nproc-per-node N -m hpvod train ...
    """
    with training_run():
        from hpvod.training.initial_model import Start
        from hpvod.training.start import Options
        from hpvod.training.train_detector import train_detector

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
        start = Start(
            model=model, weights=weights, resnet=resnet, flow=flow, from_scratch=from_scratch
        )
        skipped = train_detector(
            options,
            start,
            data=data,
            det=det,
            classes=classes,
            area_weight=area_weight,
            flow_rate=flow_rate,
        )
        report_skipped(len(skipped))
