"""The command `hpvod train`: the detector on videos and still images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Videos in ImageNet VID's layout, split train.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; with a checkpoint, it goes on.")],
    det: Annotated[
        Path | None, typer.Option(help="Still images in ImageNet DET's layout: every second one.")
    ] = None,
    model: Annotated[str, typer.Option(help="resnet101 or tiny.")] = "resnet101",
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
    iterations: Annotated[int, typer.Option(min=1)] = 120_000,
    batch: Annotated[int, typer.Option(min=1, help="Pairs an iteration and process.")] = 1,
    learning_rate: Annotated[float, typer.Option(min=0)] = 1e-3,
    area_weight: Annotated[
        float,
        typer.Option(
            min=0, help="Lambda of Eq. 12: the larger, the less is recomputed; not tuned."
        ),
    ] = 0.1,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read images.")] = 2,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:N.", show_default="cuda if there is one")
    ] = None,
    amp: Annotated[str | None, typer.Option(help="Mixed precision: bf16 or fp16.")] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Nothing is pre-trained: train every layer.")
    ] = False,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Iterations.")] = 500,
) -> None:
    """Train the detector; the same command again goes on from the last checkpoint.

    With several GPUs: torchrun --nproc-per-node N -m hpvod train ...
    """
    from hpvod.data import DataError
    from hpvod.device import DeviceError
    from hpvod.training.errors import TrainingError
    from hpvod.training.train_detector import Order, train_detector
    from hpvod.weights import WeightsError

    order = Order(
        data=data,
        out=out,
        det=det,
        model=model,
        weights=weights,
        resnet=resnet,
        flow=flow,
        classes=classes,
        iterations=iterations,
        batch=batch,
        learning_rate=learning_rate,
        area_weight=area_weight,
        seed=seed,
        workers=workers,
        device=device,
        amp=amp,
        from_scratch=from_scratch,
        checkpoint_every=checkpoint_every,
    )
    try:
        train_detector(order)
    except (DataError, DeviceError, TrainingError, WeightsError) as error:
        typer.echo(f"hpvod: error: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        message = "hpvod: interrupted; the same command goes on from the last checkpoint, if any"
        typer.echo(message, err=True)
        raise typer.Exit(130) from error
