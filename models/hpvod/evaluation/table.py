"""The figures of an evaluation: of all boxes and of slow, medium and fast ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from hpvod.data.clip import BoolArray
from hpvod.evaluation.average_precision import average_precisions
from hpvod.evaluation.columns import Detections, Truth, select
from hpvod.evaluation.motion import motion_groups
from hpvod.evaluation.overlap import DoubleArray


@dataclass(frozen=True)
class Results:
    """Average precisions, 0 to 1, for the groups "all", "slow", "medium" and "fast".

    Attributes:
        classes: Names of the classes.
        frames: Number of frames that were evaluated.
        boxes: Number of annotated boxes of each group.
        average_precision: float64 [classes] for each group; NaN where it has no box of the class.
    """

    classes: tuple[str, ...]
    frames: int
    boxes: dict[str, int]
    average_precision: dict[str, DoubleArray]

    @property
    def mean(self) -> dict[str, float]:
        """Each group's mAP: the mean over the classes that it has boxes of; NaN without any."""
        means = {}
        for group, values in self.average_precision.items():
            known = values[~np.isnan(values)]
            means[group] = float(known.mean()) if len(known) else float("nan")
        return means

    def to_json(self) -> dict[str, Any]:
        """The figures for `json.dumps`, null where there is none.

        Its keys: frames; boxes, mean_ap and ap by group, the latter by class within it.
        """
        return {
            "frames": self.frames,
            "boxes": self.boxes,
            "mean_ap": {group: _number(value) for group, value in self.mean.items()},
            "ap": {
                group: dict(zip(self.classes, map(_number, values.tolist()), strict=True))
                for group, values in self.average_precision.items()
            },
        }

    def to_table(self) -> Table:
        """A line a class and one for the mean, in percent."""
        table = Table()
        table.add_column("AP in %")
        for group in self.boxes:
            table.add_column(group, justify="right")
        for label, name in enumerate(self.classes):
            table.add_row(name, *(_cell(ap[label]) for ap in self.average_precision.values()))
        table.add_section()
        table.add_row("mean", *map(_cell, self.mean.values()))
        table.add_row("boxes", *map(str, self.boxes.values()))
        return table


def results_of(
    detections: Detections, truth: Truth, usable: BoolArray, classes: Sequence[str]
) -> Results:
    """Evaluates detections by ImageNet VID's protocol, and by FGFA's for the motion groups.

    Args:
        detections: Of any frames.
        truth: Of any frames.
        usable: bool [frames of the data set], the frames to evaluate: those whose annotation was
            read (`read_truth`) and that were detected in (`RunStatistics.covered`). All that is in
            others is left out.
        classes: Names that labels are indices into.
    """
    found = usable[detections.frames]
    if not found.all():
        detections = select(detections, found)
    wanted = usable[truth.frames]
    if not wanted.all():
        truth = select(truth, wanted)
    groups = motion_groups(truth.motion)
    return Results(
        classes=tuple(classes),
        frames=int(usable.sum()),
        boxes={group: int(counted.sum()) for group, counted in groups.items()},
        average_precision=average_precisions(detections, truth, groups, len(classes)),
    )


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def _cell(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.1f}"
