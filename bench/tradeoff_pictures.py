"""The paper's Figures 2 to 7, drawn from what tradeoff.py has measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bench import card
from bench.card import INK, MUTED
from bench.tradeoff_plan import Line, figures
from bench.tradeoff_results import Area, Point, Tradeoff

_SIZE = (12.4, 5.6)  # inches
_AREA_SIZE = (12.4, 3.9)
_COLOURS = ("#2f6f9f", "#d9a45b", "#b9637a", "#7fae8c", "#6b4f8a", "#475569", "#8fb8d4", "#b8bec6")
_OF_METHODS = {
    "per_frame": "#22262b",
    "dff": "#d9a45b",
    "fgfa": "#6b4f8a",
    "c1": "#7fae8c",
    "c2": "#2f6f9f",
    "c3": "#b9637a",
    "oracle": "#22262b",
}
_MARKERS = "osD^vPX*"
_WIDE = 3  # ratio of speeds from which on they are drawn on a logarithmic scale
_KEY, _OTHER = "#d9a45b", "#2f6f9f"

_TITLES = {
    "3": "The methods of Table 1",
    "4": "c1: recursive aggregation against that of the last key frames",
    "5": "c2: each line shares a key frame interval",
    "6": "c2: each line shares a weight of the updated area",
    "7": "c3: the share that makes a key frame, and the oracle",
}


def draw(tradeoff: Tradeoff, folder: Path) -> dict[str, int]:
    """Draws figure2.png to figure7.png: those of which all is measured.

    Returns:
        {figure: how many of its points are missing} for the others.

    Raises:
        OSError: a file cannot be written.
    """
    left_out: dict[str, int] = {}
    if tradeoff.area is None:
        left_out["2"] = 1
    else:
        _draw_area(tradeoff.area, folder / "figure2.png")
    for number, lines in figures(tradeoff).items():
        missing = tradeoff.missing([place for line in lines for place in line.places])
        if missing:
            left_out[number] = len(missing)
        else:
            _draw_figure(number, lines, tradeoff, folder / f"figure{number}.png")
    return left_out


def _draw_figure(number: str, lines: Sequence[Line], tradeoff: Tradeoff, path: Path) -> None:
    figure = card.new(_SIZE)
    height = _SIZE[1]
    points = [tradeoff.found(line.places) for line in lines]
    some = points[0][0]
    card.titles(
        figure,
        0.035,
        1 - 0.55 / height,
        f"Figure {number}. {_TITLES[number]}",
        f"mAP in % against what a frame costs; {tradeoff.data[0]}, {some.frames} frames",
    )
    panels: list[tuple[str, Callable[[Point], float]]] = [
        ("multiply-adds a frame, 10$^9$", lambda point: point.gmac)
    ]
    if number != "4":  # what it compares with is no fast code: its time says nothing
        panels.insert(0, ("milliseconds a frame", lambda point: point.ms))
    width = 0.915 / len(panels) - 0.055 * (len(panels) - 1) / 2
    for place, (label, speed) in enumerate(panels):
        left = 0.06 + place * (width + 0.055)
        axes = figure.add_axes((left, 1.35 / height, width, (height - 2.5) / height))
        for order, (line, of_line) in enumerate(zip(lines, points, strict=True)):
            _draw_line(axes, order, line, of_line, speed)
        speeds = [speed(point) for of_line in points for point in of_line]
        if max(speeds) > _WIDE * min(speeds):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
            axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
        axes.margins(0.07, 0.1)
        axes.set_xlabel(label, color=MUTED, fontsize=9.5)
        card.clear(axes, "both")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="lower left", bbox_to_anchor=(0.027, 0.46 / height), ncols=len(labels),
        frameon=False, fontsize=9, labelcolor=INK, handlelength=2.2, columnspacing=2,
    )  # fmt: skip
    card.save_signed(figure, some.where["device"], some.where, path)


def _draw_line(
    axes: Axes,
    order: int,
    line: Line,
    points: Sequence[Point],
    speed: Callable[[Point], float],
) -> None:
    colour = _OF_METHODS.get(line.label, _COLOURS[order % len(_COLOURS)])
    # From fast to slow whatever the knob: some lines have two.
    named = sorted(zip(points, line.knobs, strict=True), key=lambda pair: pair[0].gmac)
    at = [speed(point) for point, _ in named]
    accuracy = [100 * (point.ap["all"] or 0.0) for point, _ in named]
    axes.plot(
        at, accuracy, color=colour, marker=_MARKERS[order % len(_MARKERS)], markersize=5,
        linewidth=1.6, label=line.label, zorder=3,
    )  # fmt: skip
    for end in dict.fromkeys((0, len(named) - 1)):
        axes.annotate(
            named[end][1], (at[end], accuracy[end]), (0, 7), textcoords="offset points",
            ha="center", fontsize=7.5, color=colour, zorder=4,
        )  # fmt: skip


def _draw_area(area: Area, path: Path) -> None:
    figure = card.new(_AREA_SIZE)
    height = _AREA_SIZE[1]
    card.titles(
        figure,
        0.035,
        1 - 0.55 / height,
        "Figure 2. The area to recompute, and the key frames that it makes",
        rf"positions with Q $\leq$ $\tau$, %; a frame with more than $\gamma$ = {area.gamma:g} is "
        f"a key frame; {area.data}, {area.clip}",
    )
    axes = figure.add_axes((0.06, 1.05 / height, 0.915, (height - 2.15) / height))
    shares = [100 * share for share in area.shares]
    frames = range(1, len(shares) + 1)
    axes.plot(frames, shares, color=MUTED, linewidth=1.2, zorder=2)
    for kind, colour, label in ((True, _KEY, "key frame"), (False, _OTHER, "other frame")):
        chosen = [frame for frame in frames if area.keys[frame - 1] == kind]
        axes.plot(
            chosen, [shares[frame - 1] for frame in chosen], "o", color=colour, markersize=5,
            label=label, zorder=3,
        )  # fmt: skip
    axes.axhline(100 * area.gamma, color=INK, linewidth=1, linestyle=":", label=r"$\gamma$")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("frame", color=MUTED, fontsize=9.5)
    card.clear(axes, "both")
    figure.legend(
        *axes.get_legend_handles_labels(), loc="upper right", ncols=3, frameon=False, fontsize=9,
        bbox_to_anchor=(0.98, 1 - 0.3 / height), labelcolor=INK, handlelength=1.5,
    )  # fmt: skip
    card.save_signed(figure, area.where["device"], area.where, path)
