"""Detection in a whole data set, by the processes that torchrun has started."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import distributed as dist

from hpvod.data import DataError, Dataset, Skipped
from hpvod.evaluation.columns import Detections
from hpvod.evaluation.detections import Origin, Run, merge_runs, save_run
from hpvod.evaluation.statistics import RunStatistics

Detect = Callable[[Sequence[int]], tuple[Detections, RunStatistics]]


def detect_in_parts(
    detect: Detect,
    dataset: Dataset,
    method: str,
    out: Path,
    skipped: Skipped,
    rank: int,
    world: int,
) -> Run | None:
    """Detects in this process's clips; the first process puts all parts together.

    Args:
        detect: Called with the numbers of the clips.
        dataset: In which they are.
        method: What results call it.
        out: Folder, the same in all processes, for detections.safetensors and meanwhile the parts.
        skipped: Of this process; the first one's is told what the others have skipped.
        rank: Number of this process.
        world: Number of processes.

    Returns:
        The whole, which is saved; None in the other processes.

    Raises:
        EvaluationError: A file cannot be written, or read by the first process.
    """
    detections, statistics = detect(range(rank, len(dataset.clips), world))
    run = Run(detections, statistics, Origin.of(dataset, method))
    whole = out / "detections.safetensors"
    if world == 1:
        save_run(whole, run)
        return run
    parts = [out / f"detections.{number}.safetensors" for number in range(world)]
    save_run(parts[rank], run)
    messages: list[list[str]] | None = [[]] * world if rank == 0 else None
    # The first process goes on once all have come here, their parts being written.
    dist.gather_object(skipped.messages, messages)
    if messages is None:
        return None
    for message in (message for of_one in messages for message in of_one):
        skipped.add(DataError(message))
    run = merge_runs(parts)
    save_run(whole, run)
    for part in parts:
        part.unlink()
    return run
