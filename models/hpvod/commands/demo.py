"""The command `hpvod demo`: c3 beside the per-frame baseline, on clips made for the purpose."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from hpvod.commands.choices import RefusedError, load_network
from hpvod.memory import keep_freed_memory
from hpvod.progress import progress_bar
from hpvod.video import VideoError

if TYPE_CHECKING:
    from hpvod.evaluation.statistics import RunStatistics
    from hpvod.evaluation.table import Results
    from hpvod.model import HPVODModel


def demo(
    out: Annotated[
        Path, typer.Argument(metavar="[OUT]", help="Folder of demo.mp4 and demo.json.")
    ] = Path("hpvod-demo"),
    weights: Annotated[
        Path, typer.Option(help="Another model than the one that comes with hpvod.")
    ] = Path("tiny"),
    clips: Annotated[int, typer.Option(min=1, help="Clips to make.")] = 6,
    frames: Annotated[int, typer.Option(min=1, help="Frames of a clip.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Another seed makes other clips.")] = 0,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:N.", show_default="cuda if there is one")
    ] = None,
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
        typer.echo(f"hpvod: error: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        kept = f"; {run.frames} frames are kept in {video}" if run and run.frames else ""
        typer.echo(f"hpvod: interrupted{kept}", err=True)
        raise typer.Exit(130) from error
    Console().print(_table(compared))
    typer.echo(f"{video}: {run.frames} frames; {figures}: the figures", err=True)


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


def _save(
    path: Path, compared: dict[str, tuple[Results, RunStatistics]], weights: Path, seed: int
) -> None:
    figures = {
        "weights": str(weights),
        "seed": seed,
        "methods": {
            name: {
                **results.to_json(),
                "milliseconds": run.milliseconds,
                "key_frames": run.key_frames,
                "updated": run.updated,
            }
            for name, (results, run) in compared.items()
        },
    }
    try:
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise RefusedError(f"{path}: cannot be written ({error.strerror})") from error


def _table(compared: dict[str, tuple[Results, RunStatistics]]) -> Table:
    table = Table()
    for column in ("", "mAP", "slow", "medium", "fast", "frames/s", "key frames", "updated"):
        table.add_column(column, justify="right" if column else "left")
    for name, (results, run) in compared.items():
        table.add_row(
            name,
            *(_percent(mean) for mean in results.mean.values()),
            f"{1000 / run.milliseconds:.1f}",
            f"{run.key_frames / run.frames:.0%}",
            f"{run.updated:.0%}",
        )
    return table


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.1%}"
