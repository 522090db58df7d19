"""Frames a second against streams and against density: `python bench/streams.py`.

Runs methods of Algorithm 1 on 1, 2, 4 and 8 videos in one batch, those that update features
partially also where more or less is updated, prints tables, and saves the rows as JSON, with a
picture, under bench/results. README.md in this folder documents them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

# Last, so that the hpvod that is installed is measured and not the sources beside this file.
sys.path.append(str(Path(__file__).parents[1]))

from bench import clip, machine
from bench.most_changed import MostChanged
from bench.pipeline import BASELINE, Frames, Setup
from bench.readme import STREAMS
from bench.rows import Row, dtype_name, save_rows
from bench.running import DTYPES, own_stream, print_setting, progress_bars
from hpvod.config import ModelConfig
from hpvod.detector import VideoDetector
from hpvod.memory import keep_freed_memory
from hpvod.method import PRESETS
from hpvod.model import HPVODModel
from hpvod.preprocess import Preprocess
from hpvod_ops.backends import choose_backend

_RESULTS = Path(__file__).parent / "results"
_METHODS = (BASELINE, "dff", "c1", "c2", "c3")
_COUNTS = (1, 2, 4, 8)
_DENSITIES = (0.1, 0.05, 0.2, 0.4, 1.0)
_WARM_UP = 4  # turns: on a GPU the graphs are captured by then
_INTERVAL = 10  # turns timed at least: every phase of a fixed schedule


@dataclass(frozen=True)
class Case:
    """What one row is about: a preset, how many videos, and the share of U = 1 on other frames."""

    method: str
    streams: int
    density: float


def cases(methods: Sequence[str], counts: Sequence[int], densities: Sequence[float]) -> list[Case]:
    """Every number of streams at the first density; the others where there is a U, at both ends."""
    found = [Case(method, count, densities[0]) for method in methods for count in counts]
    ends = dict.fromkeys((min(counts), max(counts)))
    partial = [method for method in methods if PRESETS[method].do_spatial]
    return found + [Case(m, n, d) for m in partial for n in ends for d in densities[1:]]


class Streams:
    """As many videos under one method, each at a place of its own in the clip.

    Args:
        model: the networks.
        case: what is measured.
        frames: of the clip, which every video goes through again and again.
    """

    def __init__(self, model: HPVODModel, case: Case, frames: Frames) -> None:
        self.count = case.streams
        self._frames = frames
        self._turn = 0
        self._detector = VideoDetector(
            model,
            PRESETS[case.method],
            batch=case.streams,
            consistency=MostChanged(case.density),
        )

    def turn(self, _: int = 0) -> float:
        """The next frame of every video; seconds until its results are there."""
        length = len(self._frames)
        frames = [self._frames[(self._turn + 7 * n) % length] for n in range(self.count)]
        self._turn += 1
        start = time.perf_counter()
        self._detector.step_all(frames)
        return time.perf_counter() - start


def measure(
    setup: Setup,
    cases: Sequence[Case],
    frames: Frames,
    turns: int,
    done: Callable[[], None],
) -> list[Row]:
    """A row for every case; all take turns, and means are of all turns.

    A mean, for a key frame takes many times as long as others, and all of a batch wait for it.

    Args:
        setup: what runs; its density is each case's own.
        cases: the baseline among them.
        frames: of the clip.
        turns: that are timed of each.
        done: called after each turn of all.
    """
    model = setup.build()
    runs = {case: Streams(model, case, frames) for case in cases}
    seconds: dict[Case, list[float]] = {case: [] for case in cases}
    for number in range(_WARM_UP + turns):
        for case, run in runs.items():
            spent = run.turn()
            if number >= _WARM_UP:
                seconds[case].append(spent)
        done()
    size = Preprocess(model.config).image_size(*frames[0].shape[:2])
    mean = {case: 1e3 * statistics.fmean(s) / case.streams for case, s in seconds.items()}
    baseline = min(ms for case, ms in mean.items() if case.method == BASELINE)
    return [
        Row(
            name=case.method,
            kind="method",
            backend=choose_backend(setup.device, setup.dtype),
            device=setup.device.type,
            dtype=dtype_name(setup.dtype),
            shape=(case.streams, 3, *size),
            ms=ms,
            floor_ms=None,
            peers={BASELINE: baseline},
            more={
                "streams": case.streams,
                "model": setup.model,
                "density": case.density,
                "turns": turns,
                **machine.describe(setup.device),
            },
        )
        for case, ms in mean.items()
    ]


def at_the_first_density(rows: Sequence[Row]) -> list[Row]:
    """Those at the density at which every number of streams was measured."""
    return [row for row in rows if row.more["density"] == rows[0].more["density"]]


def table(rows: Sequence[Row]) -> Table:
    """Frames a second of all streams together; a line a method, a column a number of streams."""
    counts = list(dict.fromkeys(row.more["streams"] for row in rows))
    found = Table(
        title=f"Frames a second of all streams together, {rows[0].more['model']}, {rows[0].dtype}",
        title_justify="left",
        title_style="bold",
    )
    found.add_column("method", no_wrap=True)
    for count in counts:
        found.add_column(f"{count} streams", justify="right")
    found.add_column(f"{BASELINE} / ms", justify="right")
    for method in dict.fromkeys(row.name for row in rows):
        of_method = {row.more["streams"]: row for row in rows if row.name == method}
        best = min(of_method.values(), key=lambda row: row.ms)
        found.add_row(
            method,
            *(f"{1e3 / of_method[count].ms:.1f}" for count in counts),
            f"{best.peers[BASELINE] / best.ms:.2f} x",
        )
    return found


def density_table(rows: Sequence[Row]) -> Table:
    """Frames a second of all streams together; a line a method and number, a column a density."""
    lines = _by_density(rows)
    densities = sorted({row.more["density"] for line in lines.values() for row in line})
    found = Table(
        title="Frames a second of all streams together, by the share that is updated",
        title_justify="left",
        title_style="bold",
    )
    found.add_column("method", no_wrap=True)
    found.add_column("streams", justify="right")
    for density in densities:
        found.add_column(f"{100 * density:g} %", justify="right")
    for (method, count), line in lines.items():
        found.add_row(method, str(count), *(f"{1e3 / row.ms:.1f}" for row in line))
    return found


def _by_density(rows: Sequence[Row]) -> dict[tuple[str, int], list[Row]]:
    """The rows of each method and number of streams that have several densities, by density."""
    lines: dict[tuple[str, int], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.more["density"]):
        lines.setdefault((row.name, row.more["streams"]), []).append(row)
    return {key: line for key, line in sorted(lines.items()) if len(line) > 1}


def save_picture(rows: Sequence[Row], path: Path) -> None:
    """Frames a second against streams, a line a method, and against density beside it."""
    lines = _by_density(rows)
    figure = Figure(figsize=(12 if lines else 7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    by_streams, *by_density = figure.subplots(1, 2 if lines else 1, squeeze=False)[0]
    first = at_the_first_density(rows)
    for method in dict.fromkeys(row.name for row in first):
        of_method = [row for row in first if row.name == method]
        _plot(by_streams, of_method, "streams", 1, method)
    counts = list(dict.fromkeys(row.more["streams"] for row in first))
    by_streams.set_xscale("log", base=2)
    by_streams.set_xticks(counts, map(str, counts))
    by_streams.set(xlabel=f"streams in one batch, {100 * first[0].more['density']:g} % updated")
    for axes in by_density:
        for (method, count), line in lines.items():
            _plot(axes, line, "density", 100, f"{method}, {count} stream{'s' * (count > 1)}")
        axes.set(xlabel="updated on frames that are not key frames, %")
    for axes in (by_streams, *by_density):
        axes.set(ylabel="frames a second, all streams together")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
    more = rows[0].more
    figure.suptitle(
        f"{more['model']}, {'x'.join(map(str, rows[0].shape[2:]))}, {rows[0].dtype}, "
        f"{more['device_name']}",
        fontsize="medium",
    )
    figure.savefig(path, dpi=150)


def _plot(axes: Axes, rows: Sequence[Row], column: str, factor: float, label: str) -> None:
    at = [factor * row.more[column] for row in rows]
    axes.plot(at, [1e3 / row.ms for row in rows], marker="o", label=label)


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark."""
    options = _parse(arguments)
    device = torch.device(options.device)
    console = Console() if sys.stdout.isatty() else Console(width=180)
    print_setting(console, device)
    keep_freed_memory()
    setup = Setup(
        model=options.model,
        short_side=options.short_side or ModelConfig.preset(options.model).short_side,
        density=options.densities[0],
        device=device,
        dtype=DTYPES[options.dtype],
    )
    frames = list(clip.draw_clip(40))
    with progress_bars(Console(stderr=True)) as progress, own_stream(device):
        task = progress.add_task("every method, turn by turn", total=_WARM_UP + options.turns)
        rows = measure(
            setup,
            cases(options.methods, options.streams, options.densities),
            frames,
            options.turns,
            lambda: progress.advance(task),
        )
    console.print(table(at_the_first_density(rows)))
    if len(options.densities) > 1:
        console.print(density_table(rows))
    target = options.json or _RESULTS / f"{machine.device_kind(device)}{STREAMS}.json"
    save_rows(rows, target)
    save_picture(rows, target.with_suffix(".png"))
    console.print(f"Saved {target} and {target.with_suffix('.png')}", highlight=False)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--methods", nargs="+", choices=PRESETS, default=_METHODS)
    parser.add_argument("--streams", nargs="+", type=int, default=_COUNTS, metavar="N")
    parser.add_argument("--model", choices=("tiny", "resnet101"), default="tiny")
    parser.add_argument("--short-side", type=int, help="of the image, in pixels (default: model's)")
    parser.add_argument(
        "--densities", nargs="+", type=float, default=_DENSITIES, metavar="D",
        help="shares of positions that are updated, the first with every number of streams "
        "(0.1 0.05 0.2 0.4 1)",
    )  # fmt: skip
    parser.add_argument(
        "--turns", type=int, default=2 * _INTERVAL, help=f"that are timed ({2 * _INTERVAL})"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--json", type=Path, help="to save (bench/results/<device>_streams.json)")
    options = parser.parse_args(arguments)
    if BASELINE not in options.methods:
        parser.error(f"--methods: {BASELINE} is what the others are compared with")
    if min(options.streams) < 1:
        parser.error(f"--streams: at least 1, not {min(options.streams)}")
    if not all(0 < density <= 1 for density in options.densities):
        parser.error("--densities: shares above 0, up to 1")
    if options.turns < _INTERVAL or options.turns % _INTERVAL:
        parser.error(f"--turns: multiples of {_INTERVAL}, the key frames' interval")
    return options


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"streams.py: {error}")
