"""The figures of an evaluation as a JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from hpvod.evaluation.detections import Run
from hpvod.evaluation.error import EvaluationError
from hpvod.evaluation.table import Results
from hpvod.whole_file import whole_file


def write_report(path: Path, results: Results, run: Run, skipped: Sequence[str]) -> None:
    """Writes what `Results.to_json` has, the method, how the run went, and what was skipped.

    Args:
        path: Of the file; an older one is replaced.
        results: The figures.
        run: Whose figures they are.
        skipped: Messages that name the files that could not be used.

    Raises:
        EvaluationError: The file cannot be written.
    """
    statistics = run.statistics
    went = {
        "frames": statistics.frames,
        "key_frames": statistics.key_frames,
        "updated": statistics.updated,
        "milliseconds": statistics.milliseconds,
    }
    report = {
        "method": run.origin.method,
        **results.to_json(),
        "run": {name: None if math.isnan(value) else value for name, value in went.items()},
        "skipped": list(skipped),
    }
    try:
        with whole_file(path) as unfinished:
            unfinished.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be written ({error.strerror})") from error
