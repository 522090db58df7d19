"""The command `hpvod pretrain-flow`: the flow network on pairs of images with known flow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def pretrain_flow(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Flying Chairs, or alike.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; with a checkpoint, it goes on.")],
    model: Annotated[str, typer.Option(help="Whose flow network: resnet101 or tiny.")] = (
        "resnet101"
    ),
    split: Annotated[str, typer.Option(help="train, val or all.")] = "train",
    iterations: Annotated[int, typer.Option(min=1)] = 600_000,
    batch: Annotated[int, typer.Option(min=1, help="Pairs an iteration and process.")] = 8,
    learning_rate: Annotated[float, typer.Option(min=0)] = 1e-4,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read images.")] = 2,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:N.", show_default="cuda if there is one")
    ] = None,
    amp: Annotated[str | None, typer.Option(help="Mixed precision: bf16 or fp16.")] = None,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Iterations.")] = 500,
) -> None:
    """Train the flow network; OUT/flow.safetensors is for `hpvod train --flow`."""
    from hpvod.config import ModelConfig
    from hpvod.data import DataError, FlyingChairs
    from hpvod.device import DeviceError, choose_device
    from hpvod.model import build_model
    from hpvod.processes import process_group
    from hpvod.training.errors import TrainingError
    from hpvod.training.flow_pretraining import FlowTask
    from hpvod.training.flow_weights import save_flow_weights
    from hpvod.training.train_detector import check_amp, make_folder
    from hpvod.training.trainer import Run, Trainer

    try:
        where = choose_device(device)
        check_amp(amp, where)
        if split not in ("train", "val", "all"):
            raise TrainingError(f"--split: must be train, val or all, not {split!r}")
        chairs = FlyingChairs(data, split)  # type: ignore[arg-type]
        try:
            config = ModelConfig.preset(model)
        except ValueError as error:
            raise TrainingError(f"--model: {error}") from error
        network = build_model(config, seed).flow.to(where)
        make_folder(out)
        with process_group("nccl" if where.type == "cuda" else "gloo") as (rank, world):
            arguments = {
                "data": str(data),
                "model": model,
                "split": split,
                "iterations": iterations,
                "batch": batch,
                "learning_rate": learning_rate,
                "seed": seed,
                "amp": amp,
                "processes": world,
            }
            run = Run(
                out=out,
                arguments=arguments,
                iterations=iterations,
                batch=batch,
                learning_rate=learning_rate,
                device=where,
                workers=workers,
                amp=amp,
                checkpoint_every=checkpoint_every,
                rank=rank,
                world=world,
            )
            Trainer(FlowTask(network, chairs, seed), run).train()
            if rank == 0:
                save_flow_weights(network, out / "flow.safetensors")
    except (DataError, DeviceError, TrainingError) as error:
        typer.echo(f"hpvod: error: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        message = "hpvod: interrupted; the same command goes on from the last checkpoint, if any"
        typer.echo(message, err=True)
        raise typer.Exit(130) from error
