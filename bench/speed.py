"""How fast every op and every method is here: `python bench/speed.py`.

Prints two tables and saves their rows as JSON, with a picture, under bench/results. README.md in
this folder says how it measures and documents the rows.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

# Last, so that the hpvod that is installed is measured and not the sources beside this file.
sys.path.append(str(Path(__file__).parents[1]))

from bench import (
    aggregate,
    batched_nms,
    clip,
    contest,
    machine,
    masked_conv2d,
    masked_max_pool2d,
    pipeline,
    ps_roi_pool,
    report,
    update_plan,
    warp,
    warp_aggregate,
    warp_pixels,
)
from bench.picture import save_picture
from bench.rows import Row, save_rows
from bench.running import DTYPES, own_stream, print_setting, progress_bars, run_cases
from hpvod.config import ModelConfig
from hpvod.memory import keep_freed_memory

_RESULTS = Path(__file__).parent / "results"
_OPS = (
    warp,
    masked_conv2d,
    masked_max_pool2d,
    warp_pixels,
    update_plan,
    ps_roi_pool,
    batched_nms,
    aggregate,
    warp_aggregate,
)
_FRAMES = 40


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmarks; the exit status is 1 where a result was wrong and not timed."""
    options = _parse(arguments)
    device = torch.device(options.device)
    errors = Console(stderr=True)
    # Where the output is no terminal, lines must not be cut at 80 columns.
    console = Console() if sys.stdout.isatty() else Console(width=180)
    print_setting(console, device)
    keep_freed_memory()
    wrong: list[str] = []
    with progress_bars(errors) as progress, own_stream(device):
        cases = [(op, case) for op in _OPS for case in op.cases(device)]
        ops = run_cases(cases, device, progress, wrong) if options.only != "methods" else []
        methods = _run_methods(options, device, progress, wrong) if options.only != "ops" else []

    for table in report.ops_tables(ops):
        console.print(table)
    if methods:
        console.print(report.methods_table(methods))
    for note in report.notes([*ops, *methods]):
        console.print(f"Note: {note}.", markup=False, highlight=False)
    for message in wrong:
        errors.print(f"[red]wrong:[/red] {message}", highlight=False)

    target = options.json or _RESULTS / f"{machine.device_kind(device)}.json"
    save_rows([*ops, *methods], target)
    console.print(f"Saved {target}", highlight=False)
    if ops and methods and not wrong:
        save_picture(ops, methods, target.with_suffix(".png"))
        console.print(f"Saved {target.with_suffix('.png')}", highlight=False)
    return 1 if wrong else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--video", help="a video file, folder of frames or glob (default: a clip drawn here)"
    )
    parser.add_argument("--only", choices=("ops", "methods"), help="one of the two tables")
    parser.add_argument("--model", choices=("tiny", "resnet101"), default="tiny")
    parser.add_argument("--short-side", type=int, help="of the image, in pixels (default: model's)")
    parser.add_argument(
        "--density", type=float, default=0.1, help="share of positions that are updated (0.1)"
    )
    parser.add_argument("--frames", type=int, default=_FRAMES, help=f"to run ({_FRAMES})")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of the networks; ops run in all three"
    )
    parser.add_argument("--json", type=Path, help="file to save (bench/results/<device>.json)")
    options = parser.parse_args(arguments)
    if not 0 <= options.density <= 1:
        parser.error(f"--density: a share from 0 to 1 is needed, not {options.density:g}")
    if options.short_side is not None and options.short_side < 32:
        parser.error(f"--short-side: at least 32 pixels are needed, not {options.short_side}")
    if options.frames < pipeline.FEWEST_FRAMES:
        parser.error(f"--frames: at least {pipeline.FEWEST_FRAMES}, not {options.frames}")
    return options


def _run_methods(
    options: argparse.Namespace, device: torch.device, progress: Progress, wrong: list[str]
) -> list[Row]:
    task = progress.add_task("drawing the clip", total=options.frames)
    if options.video:
        frames = clip.read_video(options.video, options.frames)
    else:
        frames = list(progress.track(clip.draw_clip(options.frames), task_id=task))
    setup = pipeline.Setup(
        model=options.model,
        short_side=options.short_side or ModelConfig.preset(options.model).short_side,
        density=options.density,
        device=device,
        dtype=DTYPES[options.dtype],
    )
    progress.reset(task, total=len(frames), description="every preset, frame by frame")
    try:
        return pipeline.measure(setup, frames, lambda: progress.advance(task))
    except contest.WrongResultError as error:
        wrong.append(str(error))
        return []


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"speed.py: {error}")
