"""What the benchmark programs share: where they run, their progress, and cases by the dozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import contest, machine
from bench.rows import Row
from hpvod_ops import explain

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def print_setting(console: Console, device: torch.device) -> None:
    """Where and when this is, and which backend runs here."""
    setting = machine.describe(device)
    versions = ", ".join(f"{name} {version}" for name, version in setting["versions"].items())
    console.print(f"{setting['device_name']}, CPU threads: {setting['threads']}", highlight=False)
    console.print(f"{versions}; {setting['date']}", highlight=False)
    console.print(explain(device), highlight=False, markup=False)


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """On a GPU a stream other than the default one, which CUDA graphs cannot capture."""
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)
    with torch.cuda.device(device), torch.cuda.stream(stream):
        yield


def progress_bars(console: Console) -> Progress:
    """To be entered; `run_cases` adds its bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console)


def run_cases(
    cases: Sequence[tuple[ModuleType, Any]],
    device: torch.device,
    progress: Progress,
    wrong: list[str],
    done: Callable[[list[Row]], None] = lambda rows: None,
) -> list[Row]:
    """The rows of all cases.

    Args:
        cases: pairs of an op's module and one of its cases; README.md says what such a module has.
        device: where they run.
        progress: shows the case that is running.
        wrong: gets a message for every case whose result was wrong.
        done: called after each case with the rows so far.
    """
    rows: list[Row] = []
    task = progress.add_task("ops", total=len(cases))
    for op, case in cases:
        progress.update(task, description=str(case))
        try:
            backends = op.runnable_backends(device, case.dtype)
            rows += contest.measure(op.contest(case, device, backends))
        except contest.WrongResultError as error:
            wrong.append(str(error))
        done(rows)
        progress.advance(task)
    progress.update(task, description="ops")
    return rows
