"""The paper's Figures 2 to 7 and the ordering of its methods: `python bench/tradeoff.py DATA`.

Evaluates every method of Table 1 and the oracle of Section 3.3 at many settings of their knobs,
saves each point as it comes, and draws a picture a figure. The same command again measures what is
missing. README.md in this folder documents it.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
import warnings
from collections.abc import Collection
from pathlib import Path

import torch
from rich.console import Console

# Last, so that the hpvod that is installed is measured and not the sources beside this file.
sys.path.append(str(Path(__file__).parents[1]))

from bench import machine
from bench.orderings import claims_table, markdown, methods_table, rich_table
from bench.running import own_stream, progress_bars
from bench.tradeoff_pictures import draw
from bench.tradeoff_plan import figures, orderings
from bench.tradeoff_results import Point, Tradeoff
from bench.tradeoff_run import Validation, measure, measure_area
from bench.tradeoff_settings import Place, Sweeps
from hpvod.commands.choices import load_network
from hpvod.data import ImageNetVID, SkippedWarning
from hpvod.memory import keep_freed_memory
from hpvod.model import HPVODModel

_RESULTS = Path(__file__).parent / "results"
_POINTS = "points.json"
_ORDERINGS, _AREA = "orderings", "2"
_PARTS = (_ORDERINGS, _AREA, "3", "4", "5", "6", "7")


class _Runner:
    """Measures, saving after each point.

    Args:
        tradeoff: what is there and what is to come.
        files: {digest: file} of the models.
        data: {name: folder} of the data sets.
        options: of the command.
        target: where the points are saved.
    """

    def __init__(
        self,
        tradeoff: Tradeoff,
        files: dict[str, Path],
        data: dict[str, Path],
        options: argparse.Namespace,
        target: Path,
    ) -> None:
        self._tradeoff = tradeoff
        self._files = files
        self._data = data
        self._options = options
        self._target = target
        self._console = Console(width=120)
        self._validations: dict[str, Validation] = {}
        self._model: tuple[str, HPVODModel] | None = None

    def read_truths(self) -> None:
        """Reads all annotations: a folder that is no data set is found before anything is saved."""
        for name in self._data:
            self._validation(name)

    def measure(self, places: Collection[Place]) -> None:
        """Measures what is missing of the places, model by model."""
        order = list(self._files)
        missing = sorted(self._tradeoff.missing(places), key=lambda at: order.index(at.weights))
        frames = sum(sum(self._validation(place.data).lengths) for place in missing)
        with progress_bars(Console(stderr=True)) as progress:
            task = progress.add_task("frames", total=frames)
            for place in missing:
                progress.update(task, description=str(place.setting))
                point = measure(
                    place,
                    self._network(place.weights),
                    self._validation(place.data),
                    lambda count: progress.advance(task, count),
                )
                self._tradeoff.points.append(point)
                self._tradeoff.save(self._target)
                self._console.print(_line(point), highlight=False)

    def measure_area(self, clip: int) -> None:
        """Measures Figure 2, if the one that is there is not of this clip."""
        weights, data = self._tradeoff.seeds[0], self._tradeoff.data[0]
        validation, area = self._validation(data), self._tradeoff.area
        clips = validation.dataset.clips
        if clip >= len(clips):
            raise ValueError(f"--clip: {data} has the clips 0 to {len(clips) - 1}, not {clip}")
        wanted = (weights, data, clips[clip].name)
        if area is None or (area.weights, area.data, area.clip) != wanted:
            network = self._network(weights)
            self._tradeoff.area = measure_area(weights, network, validation, clip)
            self._tradeoff.save(self._target)

    def report(self) -> None:
        """Prints what could not be used of the data sets."""
        for name, validation in self._validations.items():
            for message in validation.skipped.messages:
                self._console.print(f"{name}: skipped {message}", highlight=False, markup=False)

    def _validation(self, name: str) -> Validation:
        if name not in self._validations:
            dataset = ImageNetVID(self._data[name], self._options.split)
            self._validations[name] = Validation(name, dataset)
        return self._validations[name]

    def _network(self, weights: str) -> HPVODModel:
        if self._model is None or self._model[0] != weights:
            self._model = None  # its memory is free before the next one's is taken
            network = load_network(self._files[weights], None, self._options.device, None)
            self._model = weights, network
        return self._model[1]


def main(arguments: list[str] | None = None) -> int:
    """Runs the sweeps, or draws what they have measured."""
    options = _parse(arguments)
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    folder = options.out or _RESULTS / f"tradeoff_{machine.device_kind(device)}"
    target = folder / _POINTS
    if options.draw:
        _show(Tradeoff.load(target), folder)
        return 0
    data = {f"{path.resolve().name} {options.split}": path for path in options.data}
    if len(data) < len(options.data):
        raise ValueError("DATA: two data sets have the same name")
    seeds = {_digest(path): path for path in options.weights}
    lambdas = {_digest(path): (value, path) for value, path in options.weights_lambda}
    sweeps = Sweeps(**{f.name: getattr(options, f.name) for f in dataclasses.fields(Sweeps)})
    tradeoff = Tradeoff(
        list(seeds), {weights: value for weights, (value, _) in lambdas.items()}, list(data), sweeps
    )
    files = seeds | {weights: path for weights, (_, path) in lambdas.items()}
    if target.exists():
        old = Tradeoff.load(target)
        tradeoff.points = [
            point
            for point in old.points
            if point.place.weights in files and point.place.data in data
        ]
        if old.area and (old.area.weights, old.area.data) == (tradeoff.seeds[0], tradeoff.data[0]):
            tradeoff.area = old.area
    runner = _Runner(tradeoff, files, data, options, target)
    runner.read_truths()
    tradeoff.save(target)
    keep_freed_memory()
    warnings.simplefilter("ignore", SkippedWarning)  # reported at the end
    with own_stream(device):
        if _ORDERINGS in options.only:
            runner.measure([p for places in orderings(tradeoff).values() for p in places])
        if _AREA in options.only:
            runner.measure_area(options.clip)
        for number, lines in figures(tradeoff).items():
            if number in options.only:
                runner.measure([place for line in lines for place in line.places])
    runner.report()
    _show(tradeoff, folder)
    return 0


def _show(tradeoff: Tradeoff, folder: Path) -> None:
    """Prints and saves the tables, and draws the figures."""
    console = Console() if sys.stdout.isatty() else Console(width=180)
    missing = tradeoff.missing([p for places in orderings(tradeoff).values() for p in places])
    if missing:
        console.print(f"orderings: {len(missing)} points are missing", highlight=False)
    else:
        methods, claims = methods_table(tradeoff), claims_table(tradeoff)
        seeds = len(tradeoff.seeds) * len(tradeoff.data)
        console.print(rich_table(methods, f"Mean and standard deviation of {seeds}"))
        console.print(rich_table(claims, "What the paper has come out"))
        text = f"{markdown(methods)}\n{markdown(claims)}"
        (folder / "orderings.md").write_text(text, encoding="utf-8")
    for number, count in draw(tradeoff, folder).items():
        console.print(f"Figure {number}: {count} points are missing", highlight=False)
    console.print(f"Tables and figures are in {folder}", highlight=False)


def _line(point: Point) -> str:
    accuracy = 100 * (point.ap["all"] or 0.0)
    return (
        f"{point.place.data}, {point.place.weights[:6]}, {point.place.setting}: "
        f"mAP {accuracy:.1f}, {point.ms:.2f} ms, {point.gmac:.3f} GMAC, "
        f"keys {100 * point.key_share:.0f} %, updated {100 * point.updated:.0f} %"
    )


def _digest(path: Path) -> str:
    """Tells models apart, wherever their files lie."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument(
        "data", metavar="DATA", nargs="*", type=Path,
        help="videos in ImageNet VID's layout; of several, the figures are of the first",
    )  # fmt: skip
    parser.add_argument(
        "--weights", metavar="FILE", nargs="+", type=Path, default=[],
        help="models trained with other seeds; the figures are of the first",
    )  # fmt: skip
    parser.add_argument(
        "--weights-lambda", metavar="LAMBDA=FILE", nargs="+", type=_lambda, default=[],
        help="models for Figures 3 and 5 to 7, trained with other weights of the updated area",
    )  # fmt: skip
    parser.add_argument("--split", default="val")
    parser.add_argument(
        "--only", nargs="+", choices=_PARTS, default=_PARTS, help="some of the parts to measure"
    )
    parser.add_argument("--clip", type=int, default=0, help="number of Figure 2's clip (0)")
    for field in dataclasses.fields(Sweeps):
        assert isinstance(field.default, tuple)
        values = " ".join(f"{value:g}" for value in field.default)
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", nargs="+", type=type(field.default[0]),
            default=field.default, help=f"{values}; README.md says of what",
        )  # fmt: skip
    parser.add_argument("--device", help="cpu, cuda or cuda:N (cuda if there is one)")
    parser.add_argument("--out", type=Path, help="folder (bench/results/tradeoff_<device>)")
    parser.add_argument("--draw", action="store_true", help="draw only what is in the folder")
    options = parser.parse_args(arguments)
    if not options.draw and not (options.data and options.weights):
        parser.error("DATA and --weights are needed, but for --draw")
    return options


def _lambda(text: str) -> tuple[float, Path]:
    value, _, path = text.partition("=")
    return float(value), Path(path)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("tradeoff.py: interrupted; the same command goes on from the last point")
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"tradeoff.py: {error}")
