"""The rows of masked_conv.py as a picture: time against density, beside what would be ideal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from bench import card
from bench.card import INK, MUTED
from bench.rows import Row
from bench.sparse_network import NETWORK

_COLUMNS = 4
_WIDTH, _HEAD, _PANEL, _FOOT = 12.4, 1.25, 2.65, 0.95  # inches; _PANEL is a line of panels
_LINES = {
    "this": ("hpvod", "#2f6f9f", "-", "o"),
    "gathered": ("gathered rows and GEMM", "#d9a45b", "-", "s"),
    "dense": ("dense, its faster layout", "#475569", "--", ""),
    "ideal": ("ideal: density x dense", "#b9637a", ":", ""),
}


def save_density_picture(rows: Sequence[Row], path: Path) -> None:
    """Draws the picture as PNG: a panel for each layer, and one for the whole network.

    Args:
        rows: of masked_conv.py; those of the smallest batch are shown, in bfloat16 where there
            are any, else in float32, by the fastest backend.
        path: of the PNG file.

    Raises:
        OSError: the file cannot be written.
    """
    panels = _panels(rows)
    lines = math.ceil(len(panels) / _COLUMNS)
    height = _HEAD + lines * _PANEL + _FOOT
    figure = card.new((_WIDTH, height))
    first = panels[0][0]
    dtype = f"{first.dtype}, batch {first.shape[0]}, {first.backend} backend"
    card.titles(
        figure,
        0.035,
        1 - 0.57 / height,
        "Time against density, ms; and efficiency: speed-up over dense, times density",
        f"{dtype}; U is where a moving scene changed most; bias, residual and ReLU are included",
    )
    for place, panel in enumerate(panels):
        line, column = divmod(place, _COLUMNS)
        bottom = height - _HEAD - (line + 1) * _PANEL + 0.55
        axes = figure.add_axes(
            (0.06 + 0.237 * column, bottom / height, 0.185, (_PANEL - 1.0) / height)
        )
        _draw(axes, panel)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="lower left", bbox_to_anchor=(0.027, 0.46 / height), ncols=len(labels),
        frameon=False, fontsize=9, labelcolor=INK, handlelength=2.2, columnspacing=2,
    )  # fmt: skip
    card.save(figure, first, path)


def _panels(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows that are shown, by layer."""
    rows = [row for row in rows if "efficiency" in row.more]
    dtypes = [row.dtype for row in rows]
    dtype = next((name for name in ("bfloat16", "float32") if name in dtypes), dtypes[0])
    batch = min(row.shape[0] for row in rows if row.dtype == dtype)
    rows = [row for row in rows if row.dtype == dtype and row.shape[0] == batch]
    total = {
        row.backend: sum(other.ms for other in rows if other.backend == row.backend) for row in rows
    }
    fastest = min(total, key=lambda backend: total[backend])
    layers = list(dict.fromkeys(row.more["layer"] for row in rows))
    layers.sort(key=lambda layer: layer == NETWORK)  # the whole after its parts
    rows = sorted(rows, key=lambda row: float(row.more["density"]))
    return [
        [row for row in rows if row.more["layer"] == layer and row.backend == fastest]
        for layer in layers
    ]


def _draw(axes: Axes, rows: Sequence[Row]) -> None:
    densities = [100 * row.more["density"] for row in rows]
    dense = [row.peers["dense"] for row in rows]
    ideal = [row.peers["dense"] * row.more["density"] for row in rows]
    lines = {"dense": dense, "ideal": ideal, "this": [row.ms for row in rows]}
    if all("gathered" in row.peers for row in rows):
        lines["gathered"] = [row.peers["gathered"] for row in rows]
    for name, (label, colour, style, marker) in _LINES.items():
        if name in lines:
            axes.plot(
                densities, lines[name], color=colour, linestyle=style, marker=marker, markersize=4,
                linewidth=1.6, label=label, zorder=4 if name == "this" else 3,
            )  # fmt: skip
    top = 1.12 * max(*dense, *lines["this"])
    axes.set_xlim(0, 104)
    axes.set_ylim(0, top)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axes.set_xticks([10, 40, 60, 100])
    worst, best = (f(row.more["efficiency"] for row in rows) for f in (min, max))
    axes.text(0, 1.17, _title(rows[0]), transform=axes.transAxes, fontsize=10, color=INK)
    axes.text(
        0, 1.05, f"efficiency {worst:.2f} to {best:.2f}", transform=axes.transAxes, fontsize=9,
        color=MUTED,
    )  # fmt: skip
    card.clear(axes, "both")


def _title(row: Row) -> str:
    return str(row.more["layer"]).replace("_", " ")
