"""Frames a second against streams: `python bench/streams.py`.

Runs methods of Algorithm 1 on 1, 2, 4 and 8 videos in one batch, prints a table, and saves its rows
as JSON, with a picture, under bench/results. README.md in this folder documents them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
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
from hpvod.method import PRESETS
from hpvod.model import HPVODModel
from hpvod.preprocess import Preprocess
from hpvod_ops.backends import choose_backend

_RESULTS = Path(__file__).parent / "results"
_METHODS = (BASELINE, "dff", "c1", "c2", "c3")
_COUNTS = (1, 2, 4, 8)
_WARM_UP = 4  # turns: on a GPU the graphs are captured by then
_INTERVAL = 10  # turns timed at least: every phase of a fixed schedule


class Streams:
    """As many videos under one method, each at a place of its own in the clip.

    Args:
        model: the networks.
        method: name of the preset.
        count: of videos.
        setup: what runs.
        frames: of the clip, which every video goes through again and again.
    """

    def __init__(
        self, model: HPVODModel, method: str, count: int, setup: Setup, frames: Frames
    ) -> None:
        self.count = count
        self._frames = frames
        self._turn = 0
        self._device = setup.device
        self._detector = VideoDetector(
            model, PRESETS[method], batch=count, consistency=MostChanged(setup.density)
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
    methods: Sequence[str],
    counts: Sequence[int],
    frames: Frames,
    turns: int,
    done: Callable[[], None],
) -> list[Row]:
    """A row for every method and number of streams; all take turns, and means are of all turns.

    A mean, for a key frame takes many times as long as others, and all of a batch wait for it.

    Args:
        setup: what runs.
        methods: names of presets, the baseline among them.
        counts: numbers of streams.
        frames: of the clip.
        turns: that are timed of each.
        done: called after each turn of all.
    """
    model = setup.build()
    runs = {(m, n): Streams(model, m, n, setup, frames) for m in methods for n in counts}
    seconds: dict[tuple[str, int], list[float]] = {key: [] for key in runs}
    for number in range(_WARM_UP + turns):
        for key, run in runs.items():
            spent = run.turn()
            if number >= _WARM_UP:
                seconds[key].append(spent)
        done()
    size = Preprocess(model.config).image_size(*frames[0].shape[:2])
    mean = {key: 1e3 * statistics.fmean(spent) / key[1] for key, spent in seconds.items()}
    baseline = min(ms for (method, _), ms in mean.items() if method == BASELINE)
    return [
        Row(
            name=method,
            kind="method",
            backend=choose_backend(setup.device, setup.dtype),
            device=setup.device.type,
            dtype=dtype_name(setup.dtype),
            shape=(count, 3, *size),
            ms=mean[method, count],
            floor_ms=None,
            peers={BASELINE: baseline},
            more={
                "streams": count,
                "model": setup.model,
                "density": setup.density,
                "turns": turns,
                **machine.describe(setup.device),
            },
        )
        for method, count in runs
    ]


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


def save_picture(rows: Sequence[Row], path: Path) -> None:
    """Frames a second against streams, a line a method."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for method in dict.fromkeys(row.name for row in rows):
        of_method = [row for row in rows if row.name == method]
        counts = [row.more["streams"] for row in of_method]
        axes.plot(counts, [1e3 / row.ms for row in of_method], marker="o", label=method)
    axes.set(xlabel="streams in one batch", ylabel="frames a second, all streams together")
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, map(str, counts))
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    more = rows[0].more
    axes.set_title(
        f"{more['model']}, {'x'.join(map(str, rows[0].shape[2:]))}, {rows[0].dtype}, "
        f"{100 * more['density']:g} % updated\n{more['device_name']}",
        fontsize="medium",
    )
    figure.savefig(path, dpi=150)


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark."""
    options = _parse(arguments)
    device = torch.device(options.device)
    console = Console() if sys.stdout.isatty() else Console(width=180)
    print_setting(console, device)
    machine.keep_freed_memory()
    setup = Setup(
        model=options.model,
        short_side=options.short_side or ModelConfig.preset(options.model).short_side,
        density=options.density,
        device=device,
        dtype=DTYPES[options.dtype],
    )
    frames = list(clip.draw_clip(40))
    with progress_bars(Console(stderr=True)) as progress, own_stream(device):
        task = progress.add_task("every method, turn by turn", total=_WARM_UP + options.turns)
        rows = measure(
            setup,
            options.methods,
            options.streams,
            frames,
            options.turns,
            lambda: progress.advance(task),
        )
    console.print(table(rows))
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
        "--density", type=float, default=0.1, help="share of positions that are updated (0.1)"
    )
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
    if options.turns < _INTERVAL or options.turns % _INTERVAL:
        parser.error(f"--turns: multiples of {_INTERVAL}, the key frames' interval")
    return options


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"streams.py: {error}")
