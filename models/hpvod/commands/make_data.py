"""The command `hpvod make-data`: synthetic videos to train and evaluate on."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from hpvod.progress import progress_bar


def make_data(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make; new or empty.")],
    train: Annotated[int, typer.Option(min=0, help="Clips to train on.")] = 200,
    val: Annotated[int, typer.Option(min=0, help="Clips to evaluate on.")] = 40,
    frames: Annotated[int, typer.Option(min=1, help="Frames of a clip.")] = 32,
    stills: Annotated[int, typer.Option(min=0, help="Still images to train on.")] = 0,
    size: Annotated[str, typer.Option(metavar="HxW", help="Pixels of a frame.")] = "288x384",
    seed: Annotated[int, typer.Option(min=0, help="Another seed makes other data.")] = 0,
    flow: Annotated[
        int,
        typer.Option(
            min=0, max=99999, metavar="PAIRS", help="Pairs of frames with their exact flow."
        ),
    ] = 0,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes at work.", show_default="one a core")
    ] = None,
) -> None:
    """Make synthetic videos with boxes, tracks and flow, in the layouts of the public data sets.

    Textured objects of 8 classes over moving backgrounds, at times blurred, defocused, turned or
    hidden. ImageNet VID's layout, and for still images DET's, and Flying Chairs' in
    OUT/FlyingChairs. A seed always makes the same files.
    """
    from hpvod.data.clip import DataError
    from hpvod.synthetic.clip import LEAST_SIDE
    from hpvod.synthetic.make import Order, make_data

    numbers = re.fullmatch(r"(\d+)x(\d+)", size)
    if not numbers or min(map(int, numbers.groups())) < LEAST_SIDE:
        _fail(f"--size: must be HEIGHTxWIDTH, each {LEAST_SIDE} or more, not {size!r}")
    if not train + val + stills + flow:
        _fail("nothing to make: give --train, --val, --stills or --flow")
    height, width = map(int, numbers.groups())
    order = Order(train, val, frames, stills, (height, width), flow, seed)
    bar = progress_bar()
    task = bar.add_task("frames", total=(train + val) * frames + stills + 2 * flow)
    try:
        with bar:
            make_data(
                out,
                order,
                processes or _cores(),
                lambda made: bar.advance(task, made),
            )
    except DataError as error:
        _fail(str(error))
    except KeyboardInterrupt as error:
        typer.echo(f"hpvod: interrupted; {out} is unfinished, its files are whole", err=True)
        raise typer.Exit(130) from error
    made = f"{train} + {val} clips of {frames} frames, {stills} stills, {flow} pairs"
    typer.echo(f"{out}: {made}", err=True)


def _cores() -> int:
    """The cores that this process may use; where the system does not say, all of them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _fail(message: str) -> NoReturn:
    typer.echo(f"hpvod: error: {message}", err=True)
    raise typer.Exit(1)
