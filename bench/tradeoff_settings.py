"""What runs at a point of a speed-accuracy curve."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hpvod.method import PRESETS, Method
from hpvod.oracle import ORACLE

NON_RECURSIVE = "non_recursive"  # of `bench.non_recursive`
_ROWS = {**PRESETS, ORACLE.name: ORACLE, NON_RECURSIVE: PRESETS["c1"]}


@dataclass(frozen=True)
class Setting:
    """What runs at a point: a method and the knobs that it reads; None for those that it does not.

    Attributes:
        method: name of a row of Table 1, "oracle", or "non_recursive".
        interval: as of `Method`; likewise the next.
        window: of fgfa.
        gamma: of c3.
        tau: where features are partially updated.
        keys: as of `NonRecursive`.
    """

    method: str
    interval: int | None = None
    window: int | None = None
    gamma: float | None = None
    tau: float | None = None
    keys: int | None = None

    @classmethod
    def of(cls, name: str, **knobs: float) -> Setting:
        """A method with its own knobs but for those that are given."""
        own: dict[str, Any] = {}
        row = _ROWS[name]
        if row.window:
            own["window"] = row.window
        elif row.key == "adaptive":
            own["gamma"] = row.gamma
        elif row.interval > 1 and row is not ORACLE:
            own["interval"] = row.interval
        if row.do_spatial:
            own["tau"] = row.tau
        return cls(name, **{**own, **knobs})

    @property
    def row(self) -> Method:
        """The method of Table 1, or what the oracle stands in for."""
        knobs = self._knobs()
        knobs.pop("keys", None)
        return dataclasses.replace(_ROWS[self.method], **knobs)

    def __str__(self) -> str:
        return " ".join([self.method, *(f"{name}={v:g}" for name, v in self._knobs().items())])

    def _knobs(self) -> dict[str, Any]:
        """Those that the method reads."""
        values = dataclasses.asdict(self)
        del values["method"]
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Place:
    """Where a point belongs; no two points have the same.

    Attributes:
        setting: what ran.
        weights: digest of the model's file.
        data: name of the data set.
    """

    setting: Setting
    weights: str
    data: str


@dataclass(frozen=True)
class Sweeps:
    """The values of the knobs that figures are made of.

    Attributes:
        intervals: l of Figures 3, 4 and 6.
        partial_intervals: l of c2's lines in Figure 5.
        windows: r of FGFA's frames i - r to i + r.
        gammas: of c3's lines in Figure 7.
        taus: what c2, c3 and the oracle run at in Figures 3, 5 and 7, beside 0. A tau is a bias of
            Q (Section 3.2): more or less is recomputed, as with another lambda, without a training.
        keys: how many key frames are aggregated without recursion in Figure 4.
    """

    intervals: Sequence[int] = (1, 2, 3, 5, 7, 10)
    partial_intervals: Sequence[int] = (5, 10, 15)
    windows: Sequence[int] = (1, 2, 4, 6, 9)
    gammas: Sequence[float] = (0.1, 0.2, 0.3, 0.5)
    taus: Sequence[float] = (-0.5, 0.5)
    keys: Sequence[int] = (2, 3, 5)
