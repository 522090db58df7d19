"""What tradeoff.py has measured: points of accuracy and speed, in one file that grows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.tradeoff_settings import Place, Setting, Sweeps
from hpvod.whole_file import whole_file

GROUPS = ("all", "slow", "medium", "fast")


@dataclass(frozen=True)
class Point:
    """One measurement.

    Attributes:
        place: what was measured.
        ap: mAP of every group of boxes, 0 to 1; None where it has no boxes.
        ms: milliseconds a frame, as `RunStatistics` has it.
        gmac: multiply-adds a frame in 10^9, as `hpvod.operations` counts.
        key_share: key frames a frame.
        updated: mean of U, which is 1 on key frames.
        frames: that were evaluated.
        where: what `machine.describe` says, and the device.
    """

    place: Place
    ap: dict[str, float | None]
    ms: float
    gmac: float
    key_share: float
    updated: float
    frames: int
    where: dict[str, Any]


@dataclass(frozen=True)
class Area:
    """Figure 2: what Q says of every frame of a clip but the first.

    Attributes:
        weights: digest of the model's file.
        data: name of the data set.
        clip: name of the clip.
        gamma: of Eq. 9.
        shares: of positions with Q <= tau, before the choice, frame by frame.
        keys: whether the frame became a key frame.
        where: as of `Point`.
    """

    weights: str
    data: str
    clip: str
    gamma: float
    shares: list[float]
    keys: list[bool]
    where: dict[str, Any]


@dataclass
class Tradeoff:
    """The file's content.

    Attributes:
        seeds: digests of the models that the table of orderings is of; the first is the figures'.
        lambdas: {digest: lambda of Eq. 12}; may name the first seed, too.
        data: names of the data sets; the first is the figures'.
        sweeps: of the figures.
        points: in the order in which they were measured.
        area: for Figure 2; None while it is missing.
    """

    seeds: list[str]
    lambdas: dict[str, float]
    data: list[str]
    sweeps: Sweeps
    points: list[Point] = field(default_factory=list)
    area: Area | None = None

    def place(self, setting: Setting, weights: str | None = None) -> Place:
        """A place in the figures."""
        return Place(setting, weights or self.seeds[0], self.data[0])

    def missing(self, places: Collection[Place]) -> list[Place]:
        """Those without a point, once each, in their order."""
        known = {point.place for point in self.points}
        return [place for place in dict.fromkeys(places) if place not in known]

    def found(self, places: Collection[Place]) -> list[Point]:
        """The points at the places, in the order of the places."""
        points = {point.place: point for point in self.points}
        return [points[place] for place in places if place in points]

    def save(self, path: Path) -> None:
        """Writes the file, a point a line; an older one is replaced once the new one is whole.

        Raises:
            OSError: it cannot be written.
        """
        values = dataclasses.asdict(self)
        del values["points"]
        lines = ",\n".join(
            json.dumps(dataclasses.asdict(point), allow_nan=False) for point in self.points
        )
        text = f'{json.dumps(values)[:-1]},\n"points": [\n{lines}\n]}}\n'
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Tradeoff:
        """What `save` wrote.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is no such file.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            points = [
                Point(**{**point, "place": _place(point["place"])}) for point in content["points"]
            ]
            content |= {"points": points, "sweeps": Sweeps(**content["sweeps"])}
            if content["area"] is not None:
                content["area"] = Area(**content["area"])
            return cls(**content)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}: is not a file of tradeoff.py ({error})") from error


def _place(values: dict[str, Any]) -> Place:
    return Place(Setting(**values["setting"]), values["weights"], values["data"])
