"""The rows as one picture: speed-ups of `warp`, and where a frame's time goes in each method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from bench import card
from bench.card import INK, MUTED
from bench.pipeline import BASELINE, STAGES
from bench.rows import Row

_OPS = ("warp", "warp_backward")
_PEERS = {"grid_sample": "#475569", "torch.compile": "#94a3b8", "embedding_bag": "#c9d3df"}
_STAGES = {
    "preprocess": "#b8bec6",
    "flow": "#d9a45b",
    "plan": "#6b4f8a",
    "features": "#2f6f9f",
    "embedding": "#7fae8c",
    "aggregation": "#b9637a",
    "detection": "#8fb8d4",
    "other": "#e2e4e7",
}
_SIZE = (12.4, 5.4)  # inches


def save_picture(ops: Sequence[Row], methods: Sequence[Row], path: Path) -> None:
    """Draws the picture as PNG.

    Args:
        ops: rows of every op; of `warp` and its backward pass those in float32 by the fastest
            backend, for the largest batch, are shown.
        methods: a row for every preset.
        path: of the PNG file.

    Raises:
        OSError: the file cannot be written.
    """
    figure = card.new(_SIZE)
    left = figure.add_axes((0.125, 0.24, 0.335, 0.56))
    right = figure.add_axes((0.565, 0.24, 0.385, 0.56))
    shown = _shown(ops)
    _draw_ops(left, shown)
    _draw_methods(right, methods)
    card.titles(figure, 0.035, 0.895, *_ops_titles(shown[0]))
    card.titles(figure, 0.495, 0.895, *_methods_titles(methods[0]))
    card.save(figure, methods[0], path)


def _shown(ops: Sequence[Row]) -> list[Row]:
    rows = [row for row in ops if row.name in _OPS and row.dtype == "float32"]
    rows = [row for row in rows if row.backend != "reference"]
    batch = max(row.shape[0] for row in rows)
    rows = [row for row in rows if row.shape[0] == batch]
    total = {
        row.backend: sum(other.ms for other in rows if other.backend == row.backend) for row in rows
    }
    fastest = min(total, key=lambda backend: total[backend])
    return sorted((row for row in rows if row.backend == fastest), key=lambda row: row.name)


def _draw_ops(axes: Axes, rows: Sequence[Row]) -> None:
    peers = [peer for peer in _PEERS if any(peer in row.peers for row in rows)]
    places, labels = [], []
    place = 0.0
    for row in rows:
        shown = [peer for peer in peers if peer in row.peers]
        first = place
        for peer in shown:
            ratio = row.peers[peer] / row.ms
            label = peer if peer not in axes.get_legend_handles_labels()[1] else None
            axes.barh(
                place, ratio - 1, left=1, height=0.86, color=_PEERS[peer], label=label, zorder=2
            )
            axes.annotate(
                f"{ratio:.3g}x",
                (max(ratio, 1), place),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                color=INK,
            )
            place += 1
        places.append((first + place - 1) / 2)
        direction = "backward" if row.name.endswith("backward") else "forward"
        labels.append(f"{direction}\n{row.more['layout']}")
        place += 0.7
    axes.set_yticks(places, labels)
    axes.set_xscale("log")
    ratios = [row.peers[peer] / row.ms for row in rows for peer in peers if peer in row.peers]
    axes.set_xlim(min(1, 0.9 * min(ratios)), 2.2 * max(*ratios, 1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.axvline(1, color=MUTED, linewidth=1, zorder=3)
    _finish(axes)


def _draw_methods(axes: Axes, rows: Sequence[Row]) -> None:
    for place, row in enumerate(rows):
        start = 0.0
        for stage in STAGES:
            width = row.more["stages"][stage]
            label = None if place else stage
            axes.barh(
                place, width, left=start, height=0.66, color=_STAGES[stage], label=label, zorder=2
            )
            start += width
        ratio = row.peers[BASELINE] / row.ms
        axes.annotate(
            f"{row.ms:.3g}" if row.name == BASELINE else f"{row.ms:.3g} ({ratio:.2g}x)",
            (start, place),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=INK,
        )
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_xlim(0, 1.22 * max(sum(row.more["stages"].values()) for row in rows))
    _finish(axes)


def _ops_titles(row: Row) -> tuple[str, str]:
    shape = " x ".join(map(str, row.shape))
    return (
        "warp: speed-up over other ways to write it",
        f"{row.backend} backend, {shape}, {row.dtype}",
    )


def _methods_titles(row: Row) -> tuple[str, str]:
    return (
        "A frame, by method: ms, and speed-up over per_frame",
        f"{row.more['model']} at {row.shape[2]} x {row.shape[3]}, {row.dtype}, untrained; "
        f"c2 and c3 recompute {100 * row.more['density']:g} %",
    )


def _finish(axes: Axes) -> None:
    axes.invert_yaxis()
    card.clear(axes, "x")
    axes.legend(
        loc="upper left", bbox_to_anchor=(-0.02, -0.09), ncols=4, frameon=False, fontsize=9,
        labelcolor=INK, handlelength=1, handleheight=1, columnspacing=1.4,
    )  # fmt: skip
