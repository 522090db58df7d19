"""How the masked convolution's time follows the mask: `python bench/masked_conv.py`.

Runs every layer and the whole feature network at every density, prints a table, and saves its rows
as JSON, with a picture, under bench/results. README.md in this folder says how it measures and
documents the rows.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from rich.console import Console

# Last, so that the hpvod that is installed is measured and not the sources beside this file.
sys.path.append(str(Path(__file__).parents[1]))

from bench import machine, masked_conv2d, report, sparse_network, update_plan
from bench.density_picture import save_density_picture
from bench.masked_conv2d import LAYERS
from bench.readme import DENSITY
from bench.rows import Row, save_rows
from bench.running import DTYPES, own_stream, print_setting, progress_bars, run_cases
from hpvod.memory import keep_freed_memory

_RESULTS = Path(__file__).parent / "results"
_DENSITIES = (0.05, 0.1, 0.2, 0.4, 0.6, 1.0)


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmarks; the exit status is 1 where a result was wrong and not timed."""
    options = _parse(arguments)
    device = torch.device(options.device)
    target = options.json or _RESULTS / f"{machine.device_kind(device)}{DENSITY}.json"
    errors = Console(stderr=True)
    # Where the output is no terminal, lines must not be cut at 80 columns.
    console = Console() if sys.stdout.isatty() else Console(width=180)
    print_setting(console, device)
    keep_freed_memory()
    wrong: list[str] = []

    def save(rows: list[Row]) -> None:
        # Again and again: what was measured is not lost where time runs out.
        save_rows(rows, target)

    with progress_bars(errors) as progress, own_stream(device):
        rows = run_cases(_cases(options), device, progress, wrong, save)

    if rows:
        console.print(report.sparse_table(rows))
    for note in report.notes(rows):
        console.print(f"Note: {note}.", markup=False, highlight=False)
    for message in wrong:
        errors.print(f"[red]wrong:[/red] {message}", highlight=False)
    console.print(f"Saved {target}", highlight=False)
    if rows and not wrong:
        save_density_picture(rows, target.with_suffix(".png"))
        console.print(f"Saved {target.with_suffix('.png')}", highlight=False)
    return 1 if wrong else 0


def _cases(options: argparse.Namespace) -> list[tuple[ModuleType, Any]]:
    ops = (update_plan, sparse_network) if options.network else ()
    layers = [layer for layer in LAYERS if layer.name in options.layers]
    cases: list[tuple[ModuleType, Any]] = []
    for dtype, batch in itertools.product(options.dtypes, options.batches):
        for op, density in itertools.product(ops, options.densities):
            cases.append((op, op.Case(density, batch, DTYPES[dtype])))
        for layer, density in itertools.product(layers, options.densities):
            case = masked_conv2d.Case(layer, density, batch, DTYPES[dtype])
            cases.append((masked_conv2d, case))
    return cases


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    names = [layer.name for layer in LAYERS]
    parser.add_argument(
        "--layers", nargs="*", choices=names, default=names, metavar="LAYER",
        help=f"to run, of {', '.join(names)} (all)",
    )  # fmt: skip
    parser.add_argument(
        "--densities", nargs="+", type=float, default=_DENSITIES, metavar="D",
        help="shares of positions that are updated (0.05 0.1 0.2 0.4 0.6 1)",
    )  # fmt: skip
    parser.add_argument(
        "--network", action=argparse.BooleanOptionalAction, default=True,
        help="whether the whole feature network runs too",
    )  # fmt: skip
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if on_gpu else "cpu")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, help="(float32; on a GPU all three)")
    parser.add_argument(
        "--batches", nargs="+", type=int, metavar="N", help="frames a call (1; on a GPU 1 and 8)"
    )
    parser.add_argument("--json", type=Path, help="to save (bench/results/<device>_density.json)")
    options = parser.parse_args(arguments)
    for density in options.densities:
        if not 0 < density <= 1:
            parser.error(f"--densities: a share above 0, up to 1, is needed, not {density:g}")
    on_gpu = torch.device(options.device).type == "cuda"
    options.dtypes = options.dtypes or (list(DTYPES) if on_gpu else ["float32"])
    options.batches = options.batches or ([1, 8] if on_gpu else [1])
    if min(options.batches) < 1:
        parser.error(f"--batches: at least 1, not {min(options.batches)}")
    return options


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"masked_conv.py: {error}")
