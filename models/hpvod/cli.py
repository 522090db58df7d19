"""The command `hpvod`. PyTorch takes seconds to import, so only a run that needs it does so."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpvod.commands.choices import (
    Device,
    Gamma,
    Interval,
    RefusedError,
    ShortSide,
    Tau,
    check_model_choice,
    choose_method,
    load_network,
)
from hpvod.commands.demo import demo
from hpvod.commands.evaluate import evaluate
from hpvod.commands.make_data import make_data
from hpvod.commands.pretrain_flow import pretrain_flow
from hpvod.commands.train import train
from hpvod.job import Job, Shown
from hpvod.memory import keep_freed_memory
from hpvod.method import PRESETS, Method
from hpvod.progress import RunProgress
from hpvod.results import ResultsError
from hpvod.video import DEFAULT_FPS, VideoError

if TYPE_CHECKING:
    from hpvod.model import HPVODModel

app = typer.Typer(no_args_is_help=True, add_completion=False)
for command in (demo, make_data, pretrain_flow, train):
    app.command()(command)
app.command("eval")(evaluate)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hpvod {importlib.metadata.version('hpvod')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Video object detection that recomputes only what has changed."""


@app.command()
def detect(
    videos: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO...", help="Video files, folders of frames or quoted globs of frames."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Annotated video to write (.mp4); of several, a folder for them."
        ),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(
            "--json", help="JSON Lines to write, one object a frame; of several, a folder."
        ),
    ] = None,
    streams: Annotated[
        int, typer.Option(min=1, help="Videos to go through the networks together.")
    ] = 8,
    method: Annotated[str, typer.Option(help=f"One of {', '.join(PRESETS)}.")] = "c3",
    weights: Annotated[Path | None, typer.Option(help="The model, an hpvod .safetensors.")] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Run an untrained model instead.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(help="Of --random-weights: resnet101 or tiny.", show_default="resnet101"),
    ] = None,
    score_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Leave out boxes that score less.")
    ] = 0.5,
    show_mask: Annotated[
        bool, typer.Option("--show-mask", help="Tint what was recomputed on non-key frames.")
    ] = False,
    interval: Interval = None,
    tau: Tau = None,
    gamma: Gamma = None,
    short_side: ShortSide = None,
    device: Device = None,
    fps: Annotated[
        float | None,
        typer.Option(help="Frames a second of a folder or glob.", show_default=f"{DEFAULT_FPS:g}"),
    ] = None,
) -> None:
    """Detect objects in videos; write them with boxes, the results as JSON Lines, or both.

    Everything written stays readable if the run fails or is interrupted. A video that fails leaves
    the others as they are.
    """
    progress = RunProgress()
    jobs: list[Job] = []
    errors: list[str] = []
    try:
        chosen = choose_method(method, interval=interval, tau=tau, gamma=gamma)
        if output is None and json is None:
            raise RefusedError("nothing to write: give --output, --json or both")
        check_model_choice(weights, random_weights, model)
        with ExitStack() as stack:
            for video, *targets in _targets(videos, output, json):
                try:
                    jobs.append(stack.enter_context(Job(video, fps, *targets)))
                except VideoError as error:
                    errors.append(str(error))
            inputs = [file for job in jobs for file in job.reader.files]
            outputs = [path for job in jobs for path in job.outputs]
            _check_outputs(outputs, [*inputs, *([weights] if weights else [])])
            if jobs:
                network = load_network(weights, model, device, short_side)
                shown = Shown(network.config, score_threshold, show_mask)
                stack.callback(progress.stop)
                _run(jobs, network, chosen, shown, streams, progress)
    except RefusedError as error:
        typer.echo(f"hpvod: error: {error}{_kept(progress.frames)}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        typer.echo(f"hpvod: interrupted{_kept(progress.frames)}", err=True)
        raise typer.Exit(130) from error
    errors += [f"{job.error}{_kept(job.frames)}" for job in jobs if job.error is not None]
    for message in errors:
        typer.echo(f"hpvod: error: {message}", err=True)
    if not errors or len(videos) > 1:
        typer.echo(f"{progress.frames} frames, {progress}", err=True)
    if errors:
        raise typer.Exit(1)


def _targets(
    videos: list[str], output: Path | None, json: Path | None
) -> Iterator[tuple[str, Path | None, Path | None]]:
    """Each video with the files to write: those that were given, or of its name in the folders."""
    if len(videos) == 1:
        yield videos[0], output, json
        return
    named: dict[str, str] = {}
    for video in videos:
        name = Path(video).stem if Path(video).is_file() else Path(video).name
        if name in named:
            raise RefusedError(
                f"{named[name]} and {video}: the results of both would be called {name}; run them "
                "one after the other"
            )
        named[name] = video
    for folder in (output, json):
        if folder is not None and not folder.is_dir():
            raise RefusedError(f"{folder}: several videos need a folder, and this is none")
    for name, video in named.items():
        yield (
            video,
            None if output is None else output / f"{name}.mp4",
            None if json is None else json / f"{name}.jsonl",
        )


def _run(
    jobs: list[Job],
    model: HPVODModel,
    method: Method,
    shown: Shown,
    streams: int,
    progress: RunProgress,
) -> None:
    """Takes the videos through the networks, those of one size in the network together."""
    from hpvod.detector import VideoDetector
    from hpvod.preprocess import Preprocess

    keep_freed_memory()
    groups: dict[tuple[int, int], list[Job]] = {}
    for job in jobs:
        width, height = job.reader.size
        try:
            size = Preprocess(model.config).image_size(height, width)
        except ValueError as error:
            job.error = RefusedError(f"{job.reader.files[0]}: {error}")
            continue
        groups.setdefault(size, []).append(job)
    counts = [job.reader.frame_count for job in jobs if job.error is None]
    known = [count for count in counts if count is not None]
    progress.start(sum(known) if len(known) == len(counts) else None)
    for group in groups.values():

        def failed(number: int, error: Exception, group: list[Job] = group) -> None:
            if not isinstance(error, VideoError | ResultsError):
                raise error
            group[number].error = error

        detector = VideoDetector(model, method, batch=min(streams, len(group)))
        runs = detector.run_all((job.read(shown) for job in group), on_error=failed)
        for number, result in runs:
            if group[number].write(result, shown):
                progress.add(result)


def _kept(frames: int) -> str:
    return f"; the results of {frames} frames are kept" if frames else ""


def _check_outputs(outputs: list[Path], inputs: list[Path]) -> None:
    """Finds before the work what would fail after it; nothing is overwritten yet."""
    taken = {_identity(path): path for path in inputs}
    for path in outputs:
        identity = _identity(path)
        if identity in taken:
            raise RefusedError(f"{path}: would overwrite {taken[identity]}")
        taken[identity] = path
        existed = path.exists()
        try:
            path.open("ab").close()
        except OSError as error:
            raise RefusedError(f"{path}: cannot be written ({error.strerror})") from error
        if not existed:
            path.unlink()


def _identity(path: Path) -> tuple[int, int] | str:
    """The same for every name of a file, hard links included."""
    try:
        status = path.stat()
    except OSError:
        return os.path.realpath(path)
    return status.st_dev, status.st_ino
