"""Which points the table of orderings and the paper's Figures 3 to 7 are made of."""

from __future__ import annotations

from dataclasses import dataclass

from bench.tradeoff_results import Tradeoff
from bench.tradeoff_settings import NON_RECURSIVE, Place, Setting
from hpvod.method import PRESETS
from hpvod.oracle import ORACLE

METHODS = (*PRESETS, ORACLE.name)


@dataclass(frozen=True)
class Line:
    """Points that a figure connects.

    Attributes:
        label: what they share.
        places: of the points.
        knobs: what tells each of them from the others, for those at the ends.
    """

    label: str
    places: list[Place]
    knobs: list[str]


def orderings(tradeoff: Tradeoff) -> dict[str, list[Place]]:
    """For every method its places in the table: one for each model and data set."""
    return {
        method: [
            Place(Setting.of(method), weights, data)
            for weights in tradeoff.seeds
            for data in tradeoff.data
        ]
        for method in METHODS
    }


def figures(tradeoff: Tradeoff) -> dict[str, list[Line]]:
    """The lines of Figures 3 to 7, by the figure's number."""
    plan, sweeps = _Plan(tradeoff), tradeoff.sweeps
    per_frame = Line("per_frame", [tradeoff.place(Setting.of("per_frame"))], [""])
    windows = [tradeoff.place(Setting.of("fgfa", window=window)) for window in sweeps.windows]
    return {
        "3": [
            per_frame,
            plan.by_interval("dff", "dff"),
            Line("fgfa", windows, [f"±{window}" for window in sweeps.windows]),
            plan.by_interval("c1", "c1"),
            plan.by_load("c2", "c2"),
            plan.by_load("c3", "c3"),
        ],
        "4": [
            plan.by_interval("c1: recursive", "c1"),
            *(
                plan.by_interval(f"{keys} key frames", NON_RECURSIVE, keys=keys)
                for keys in sweeps.keys
            ),
        ],
        "5": [
            plan.by_load(f"c2, l={interval}", "c2", interval=interval)
            for interval in sweeps.partial_intervals
        ],
        "6": [
            plan.by_interval(f"c2 {name}".rstrip(), "c2", weights)
            for weights, name in plan.lambdas.items()
        ],
        "7": [
            *(
                plan.by_load(rf"c3, $\gamma$={gamma:g}", "c3", gamma=gamma)
                for gamma in sweeps.gammas
            ),
            plan.by_load("oracle", "oracle"),
        ],
    }


class _Plan:
    """Lines along a knob.

    Attributes:
        lambdas: the models of Figures 5 to 7, by rising lambda, with what to call them.
    """

    def __init__(self, tradeoff: Tradeoff) -> None:
        self._tradeoff = tradeoff
        self._sweeps = tradeoff.sweeps
        rising = sorted(tradeoff.lambdas.items(), key=lambda item: item[1])
        self.lambdas = {weights: rf"$\lambda$={value:g}" for weights, value in rising}
        self.lambdas = self.lambdas or {tradeoff.seeds[0]: ""}

    def by_interval(
        self, label: str, method: str, weights: str | None = None, **knobs: float
    ) -> Line:
        """Along l."""
        settings = [
            Setting.of(method, interval=interval, **knobs) for interval in self._sweeps.intervals
        ]
        places = [self._tradeoff.place(setting, weights) for setting in settings]
        return Line(label, places, [f"l={interval}" for interval in self._sweeps.intervals])

    def by_load(self, label: str, method: str, **knobs: float) -> Line:
        """Along what makes a method recompute more or less: lambda, and tau."""
        main = self._tradeoff.seeds[0]
        loads: list[tuple[str, dict[str, float], str]]
        loads = [(weights, {}, name) for weights, name in self.lambdas.items()]
        loads += [(main, {"tau": tau}, rf"$\tau$={tau:g}") for tau in self._sweeps.taus]
        places = [
            self._tradeoff.place(Setting.of(method, **knobs, **load), weights)
            for weights, load, _ in loads
        ]
        return Line(label, places, [name for *_, name in loads])
