"""The table of orderings: every method's accuracy and speed, and what the paper says of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from bench.tradeoff_plan import orderings
from bench.tradeoff_results import GROUPS, Point, Tradeoff

Cells = list[list[str]]
"""A table's lines, of which the first is its head."""

_OfSeed = Mapping[str, Point]
"""The methods' points of one model and data set."""


@dataclass(frozen=True)
class Claim:
    """What the paper has come out of its comparison.

    Attributes:
        text: the claim.
        value: what it is about, of one model and data set.
        least: above which it holds.
    """

    text: str
    value: Callable[[_OfSeed], float]
    least: float


def _ap(seed: _OfSeed, method: str, group: str = "all") -> float:
    value = seed[method].ap[group]
    return float("nan") if value is None else 100 * value


def _gain(method: str, other: str) -> Callable[[_OfSeed], float]:
    return lambda seed: _ap(seed, method) - _ap(seed, other)


def _gain_of(seed: _OfSeed, group: str) -> float:
    return _ap(seed, "fgfa", group) - _ap(seed, "per_frame", group)


CLAIMS = (
    Claim("fgfa above per_frame by 2 mAP", _gain("fgfa", "per_frame"), 2),
    Claim(
        "fgfa's gain is largest for fast motion",
        # The less of the two differences: NaN, where it is known of no group, stays so.
        lambda seed: float(
            np.min([_gain_of(seed, "fast") - _gain_of(seed, other) for other in ("slow", "medium")])
        ),
        0,
    ),
    Claim("dff within 2 mAP of per_frame", _gain("dff", "per_frame"), -2),
    Claim("c1 above dff", _gain("c1", "dff"), 0),
    Claim("c2 above c1", _gain("c2", "c1"), 0),
    Claim("c3 above per_frame by 1 mAP", _gain("c3", "per_frame"), 1),
    Claim(
        "c3 faster than per_frame by 4 times, by operations",
        lambda seed: seed["per_frame"].gmac / seed["c3"].gmac,
        4,
    ),
    Claim("oracle above c3", _gain("oracle", "c3"), 0),
)


def methods_table(tradeoff: Tradeoff) -> Cells:
    """A line a method, over all models and data sets on which every method was measured."""
    seeds = _seeds(tradeoff)
    head = ["method", *("mAP" if group == "all" else group for group in GROUPS)]
    head += ["ms a frame", "10⁹ multiply-adds", "of per_frame's", "key frames", "updated"]
    lines = [head]
    for method in orderings(tradeoff):
        lines.append(
            [
                method,
                *(_spread([_ap(seed, method, group) for seed in seeds]) for group in GROUPS),
                _spread([seed[method].ms for seed in seeds]),
                _spread([seed[method].gmac for seed in seeds], 2),
                _spread([100 * s[method].gmac / s["per_frame"].gmac for s in seeds], 0, " %"),
                _spread([100 * seed[method].key_share for seed in seeds], 0, " %"),
                _spread([100 * seed[method].updated for seed in seeds], 0, " %"),
            ]
        )
    return lines


def claims_table(tradeoff: Tradeoff) -> Cells:
    """A line a claim: what came out, and in how many models and data sets it did."""
    seeds = _seeds(tradeoff)
    lines = [["claim", "came out", "in", "on the mean"]]
    for claim in CLAIMS:
        # Unknown where a group of motion has no boxes.
        values = [value for value in map(claim.value, seeds) if not math.isnan(value)]
        held = sum(value > claim.least for value in values)
        holds = "-"
        if values:
            holds = "yes" if statistics.fmean(values) > claim.least else "no"
        lines.append([claim.text, _spread(values), f"{held} of {len(values)}", holds])
    return lines


def rich_table(cells: Cells, title: str) -> Table:
    """The cells for a terminal."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, name in enumerate(cells[0]):
        table.add_column(name, justify="right" if number else "left")
    for line in cells[1:]:
        table.add_row(*line)
    return table


def markdown(cells: Cells) -> str:
    """The cells in Markdown."""
    head, *lines = cells
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *lines))


def _seeds(tradeoff: Tradeoff) -> list[_OfSeed]:
    """The models and data sets on which all methods were measured."""
    by_method = {
        method: {(p.place.weights, p.place.data): p for p in tradeoff.found(places)}
        for method, places in orderings(tradeoff).items()
    }
    common = set.intersection(*(set(points) for points in by_method.values()))
    return [
        {method: points[seed] for method, points in by_method.items()} for seed in sorted(common)
    ]


def _spread(values: Sequence[float], digits: int = 1, unit: str = "") -> str:
    """Mean and standard deviation of those that are known."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "-"
    mean = f"{statistics.fmean(known):.{digits}f}"
    if len(known) < 2:
        return f"{mean}{unit}"
    return f"{mean} ± {statistics.stdev(known):.{digits}f}{unit}"
