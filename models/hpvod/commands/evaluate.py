"""The command `hpvod eval`: average precision on a data set."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, TextIO

import typer
from rich.console import Console

from hpvod.commands.choices import (
    Device,
    Gamma,
    Interval,
    RefusedError,
    ShortSide,
    Tau,
    choose_method,
    load_network,
)
from hpvod.memory import keep_freed_memory
from hpvod.method import PRESETS, Method
from hpvod.progress import progress_bar

if TYPE_CHECKING:
    from hpvod.data import Dataset, Skipped
    from hpvod.data.clip import BoolArray
    from hpvod.evaluation.columns import Detections, Truth
    from hpvod.evaluation.detections import Run
    from hpvod.evaluation.statistics import RunStatistics

# One process may be done long before another.
_PATIENCE = timedelta(days=30)


@dataclass(frozen=True)
class _Model:
    """The options that say what detects."""

    weights: Path | None
    method: str | None
    interval: int | None
    tau: float | None
    gamma: float | None
    short_side: int | None
    device: str | None

    def chosen(self) -> tuple[Method, str]:
        """The method, and what results call it; raises RefusedError where there is no such one."""
        knobs = {"interval": self.interval, "tau": self.tau, "gamma": self.gamma}
        method = choose_method(self.method or "c3", **knobs)
        given = (f"{knob}={value:g}" for knob, value in knobs.items() if value is not None)
        return method, " ".join([method.name, *given])


def evaluate(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="ImageNet VID's layout; with --coco, the folder of the images."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for results.json and detections.safetensors.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="The model, an hpvod .safetensors.")] = None,
    detections: Annotated[
        Path | None,
        typer.Option(help="Evaluate this detections.safetensors again, without a model."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of the videos.", show_default="val")] = None,
    coco: Annotated[
        Path | None, typer.Option(help="COCO's JSON with videos, in place of ImageNet's layout.")
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(help="Names of the only classes to evaluate, one a line."),
    ] = None,
    motion: Annotated[
        Path | None,
        typer.Option(
            help="FGFA's .mat of motion IoUs (needs SciPy).", show_default="from the annotations"
        ),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(PRESETS)}.", show_default="c3")
    ] = None,
    interval: Interval = None,
    tau: Tau = None,
    gamma: Gamma = None,
    short_side: ShortSide = None,
    device: Device = None,
) -> None:
    """Measure average precision by ImageNet VID's protocol, for slow, medium and fast objects too.

    A detection is right at an IoU of 0.5, or of less for small objects. With several GPUs or
    processes: torchrun --nproc-per-node N -m hpvod eval ...
    """
    from hpvod.data import DataError, Skipped
    from hpvod.evaluation.error import EvaluationError

    model = _Model(weights, method, interval, tau, gamma, short_side, device)
    try:
        _check_options(out, detections, model)
        dataset = _open(data, split, coco, classes)
        if out is not None:
            _make_folder(out)
        _evaluate(dataset, model, detections, motion, out, Skipped())
    except (DataError, EvaluationError, RefusedError) as error:
        typer.echo(f"hpvod: error: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        typer.echo("hpvod: interrupted; there are no results", err=True)
        raise typer.Exit(130) from error


def _check_options(out: Path | None, detections: Path | None, model: _Model) -> None:
    if detections is None:
        if model.weights is None:
            raise RefusedError("nothing to evaluate: give --weights FILE or --detections FILE")
        if out is None:
            raise RefusedError("no --out FOLDER for the detections and results")
        model.chosen()
        return
    for name, value in vars(model).items():
        if value is not None:
            option = name.replace("_", "-")
            raise RefusedError(f"--{option} means nothing to --detections, which are there already")


def _open(data: Path, split: str | None, coco: Path | None, classes: Path | None) -> Dataset:
    from hpvod.data import CocoVideo, ImageNetVID, read_classes

    if coco is None:
        return ImageNetVID(data, split or "val", read_classes(classes) if classes else None)
    for option, value in (("split", split), ("classes", classes)):
        if value is not None:
            raise RefusedError(f"--{option} means nothing to --coco, whose file says it")
    return CocoVideo(coco, data)


def _make_folder(out: Path) -> None:
    """Finds before the work whether its results can be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=out).close()
    except OSError as error:
        raise RefusedError(f"{out}: cannot be written into ({error.strerror})") from error


def _evaluate(
    dataset: Dataset,
    model: _Model,
    detections: Path | None,
    motion: Path | None,
    out: Path | None,
    skipped: Skipped,
) -> None:
    from hpvod.evaluation.detections import load_run_of
    from hpvod.evaluation.report import write_report
    from hpvod.evaluation.table import results_of
    from hpvod.processes import process_group

    with process_group("gloo", _PATIENCE) as (rank, world), _skips_named(rank):
        if detections is not None:
            find: Callable[[], Run | None] = partial(load_run_of, dataset, detections)
        else:
            assert out is not None  # by _check_options
            find = _detection(dataset, model, out, skipped, rank, world)
        # What is wrong with the annotations ends the run before hours of work.
        annotated = _annotated(dataset, motion, skipped) if rank == 0 else None
        run = find()
    if annotated is None or run is None:  # not the first process
        return
    truth, usable = annotated
    statistics = run.statistics
    usable = usable & statistics.covered(len(usable))
    results = results_of(run.detections, truth, usable, dataset.classes)
    if out is not None:
        write_report(out / "results.json", results, run, skipped.messages)
    Console().print(results.to_table())
    typer.echo(
        f"{results.frames} of {len(usable)} frames evaluated, {len(skipped)} files skipped; "
        f"{statistics.key_frames} key frames, mean updated {statistics.updated:.1%}, "
        f"{statistics.milliseconds:.1f} ms a frame",
        err=True,
    )


def _annotated(dataset: Dataset, motion: Path | None, skipped: Skipped) -> tuple[Truth, BoolArray]:
    """The annotations, and the frames that have them."""
    from hpvod.evaluation.error import EvaluationError
    from hpvod.evaluation.motion_file import read_motion
    from hpvod.evaluation.truth import read_truth

    truth, usable = read_truth(dataset, skipped)
    if not usable.any():
        raise EvaluationError(f"no annotation can be used; the first: {skipped.messages[0]}")
    if motion is not None:
        truth = replace(truth, motion=read_motion(motion, truth, usable))
    return truth, usable


@contextmanager
def _skips_named(rank: int) -> Iterator[None]:
    """Prints a line for each file skipped; what other processes skip comes to the first one."""
    from hpvod.data import SkippedWarning

    with warnings.catch_warnings():
        if rank > 0:
            warnings.simplefilter("ignore", SkippedWarning)
        show = warnings.showwarning

        def named(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, SkippedWarning):
                typer.echo(f"hpvod: {message}", err=True)
            else:
                show(message, category, filename, lineno, file, line)

        warnings.showwarning = named
        yield


def _detection(
    dataset: Dataset, model: _Model, out: Path, skipped: Skipped, rank: int, world: int
) -> Callable[[], Run | None]:
    """Loads the model; what is returned detects."""
    from hpvod.evaluation.in_parts import detect_in_parts
    from hpvod.evaluation.run import detect_clips

    method, name = model.chosen()
    network = load_network(model.weights, None, model.device, model.short_side)
    unknown = sorted(set(dataset.classes) - set(network.config.classes))
    if unknown and rank == 0:
        typer.echo(f"hpvod: the model does not know these classes: {', '.join(unknown)}", err=True)
    keep_freed_memory()
    bar = progress_bar()
    bar.disable = bar.disable or rank > 0

    def detect(clips: Sequence[int]) -> tuple[Detections, RunStatistics]:
        task = bar.add_task("frames", total=sum(len(dataset.clips[clip].frames) for clip in clips))
        with bar:
            return detect_clips(
                network, method, dataset, clips, skipped, partial(bar.advance, task)
            )

    return lambda: detect_in_parts(detect, dataset, name, out, skipped, rank, world)
