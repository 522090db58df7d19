"""The command `hpvod demo`: c3 beside the per-frame baseline, on clips made for the purpose."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from hpvod.commands.choices import Device, RefusedError, load_network
from hpvod.memory import keep_freed_memory
from hpvod.progress import progress_bar
from hpvod.video import VideoError
from hpvod.whole_file import whole_file

if TYPE_CHECKING:
    from hpvod.demo import Compared, Demo
    from hpvod.model import HPVODModel


def demo(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder of demo.mp4 and demo.json.")
    ] = Path("hpvod-demo"),
    weights: Annotated[
        Path, typer.Option(help="Another model than the one that comes with hpvod.")
    ] = Path("tiny"),
    clips: Annotated[int, typer.Option(min=1, help="Clips to make.")] = 6,
    frames: Annotated[int, typer.Option(min=1, help="Frames of a clip.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Another seed makes other clips.")] = 0,
    device: Device = None,
) -> None:
    """Compare c3 with a detector run on every frame, in synthetic clips no model was trained on.

    Writes both side by side as an annotated video, thin white boxes being the truth, and what they
    compare by: average precision, speed, and the shares of key frames and of what was recomputed.
    So few clips are a sample; `hpvod eval` measures.
    """
    from hpvod.demo import Demo

    run: Demo | None = None
    bar = progress_bar()
    task = bar.add_task("frames", total=2 * clips * frames)
    video, figures = out / "demo.mp4", out / "demo.json"
    try:
        network = _load(weights, device)
        _make(out, figures)
        keep_freed_memory()
        run = Demo(network, video)
        with bar:
            run.run(clips, frames, seed, lambda: bar.advance(task))
        compared = run.compare()
        _save(figures, compared, weights, seed)
    except (RefusedError, VideoError) as error:
        typer.echo(f"hpvod: error: {error}{_kept(run)}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        typer.echo(f"hpvod: interrupted{_kept(run)}", err=True)
        raise typer.Exit(130) from error
    Console().print(_table(compared))
    typer.echo(f"{video}: {run.frames} frames; {figures}: the figures", err=True)


def _kept(run: Demo | None) -> str:
    return f"; the video holds {run.frames} frames" if run is not None and run.frames else ""


def _load(weights: Path, device: str | None) -> HPVODModel:
    from hpvod.synthetic import SYNTHETIC_CLASSES

    network = load_network(weights, None, device, None)
    if not set(SYNTHETIC_CLASSES) & set(network.config.classes):
        raise RefusedError(
            f"{weights}: detects none of the classes that the clips show "
            f"({', '.join(SYNTHETIC_CLASSES)})"
        )
    return network


def _make(folder: Path, figures: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        figures.unlink(missing_ok=True)  # they would be of another video
    except OSError as error:
        raise RefusedError(f"{folder}: cannot be written ({error.strerror})") from error


def _save(path: Path, compared: dict[str, Compared], weights: Path, seed: int) -> None:
    figures = {
        "weights": str(weights),
        "seed": seed,
        "methods": {
            name: {
                **each.results.to_json(),
                "milliseconds": each.run.milliseconds,
                "multiply_adds": each.multiply_adds,
                "key_frames": each.run.key_frames,
                "updated": each.run.updated,
            }
            for name, each in compared.items()
        },
    }
    try:
        with whole_file(path) as unfinished:
            unfinished.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise RefusedError(f"{path}: cannot be written ({error.strerror})") from error


def _table(compared: dict[str, Compared]) -> Table:
    table = Table("", *(Column(name, justify="right") for name in compared))
    methods = list(compared.values())
    for group in methods[0].results.mean:
        name = "mAP" if group == "all" else f"mAP, {group}"
        table.add_row(name, *(_percent(each.results.mean[group]) for each in methods))
    table.add_section()
    table.add_row("frames/s", *(f"{1000 / each.run.milliseconds:.1f}" for each in methods))
    operations = (f"{each.multiply_adds / 1e9:.2f} G" for each in methods)
    table.add_row("multiply-adds a frame", *operations)
    key_shares = (each.run.key_frames / each.run.frames for each in methods)
    table.add_row("key frames", *map(_percent, key_shares))
    table.add_row("updated", *(_percent(each.run.updated) for each in methods))
    return table


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.1%}"
