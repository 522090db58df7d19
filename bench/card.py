"""What the pictures of the results have in common: an opaque light card, its inks and titles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from bench.rows import Row

# A card with round corners reads the same on white and on dark pages.
_CARD = "#fbfbf9"
INK, MUTED, GRID = "#22262b", "#6b7280", "#e2e4e7"


def new(size: tuple[float, float]) -> Figure:
    """An empty card of a width and height in inches."""
    figure = Figure(figsize=size, dpi=150)
    FigureCanvasAgg(figure)
    background = FancyBboxPatch(
        (0.12, 0.12),
        size[0] - 0.24,
        size[1] - 0.24,
        boxstyle="round,pad=0,rounding_size=0.22",
        transform=figure.dpi_scale_trans,
        facecolor=_CARD,
        edgecolor=GRID,
        linewidth=1,
        zorder=-10,
    )
    figure.patches.append(background)
    return figure


def titles(figure: Figure, x: float, y: float, title: str, subtitle: str) -> None:
    """A title at a place of the card, 0 to 1 from left and bottom, and a line below it."""
    below = 0.27 / figure.get_figheight()
    figure.text(x, y, title, fontsize=13, fontweight="bold", color=INK)
    figure.text(x, y - below, subtitle, fontsize=9.5, color=MUTED)


def clear(axes: Axes, grid: Literal["x", "y", "both"]) -> None:
    """Leaves of the axes' furniture a grid and labels."""
    axes.set_facecolor("none")
    axes.grid(axis=grid, color=GRID, linewidth=0.8, zorder=0)
    axes.minorticks_off()
    for axis in ("x", "y"):
        values = grid in (axis, "both")
        axes.tick_params(
            axis=axis, colors=MUTED if values else INK, labelsize=9 if values else 9.5, length=0
        )
    for spine in axes.spines.values():
        spine.set_visible(False)


def save(figure: Figure, row: Row, path: Path) -> None:
    """Writes the card as PNG, signed with where and when the row was measured.

    Raises:
        OSError: the file cannot be written.
    """
    save_signed(figure, row.device, row.more, path)


def save_signed(figure: Figure, device: str, where: Mapping[str, Any], path: Path) -> None:
    """Writes the card as PNG, signed.

    Args:
        figure: the card.
        device: "cpu" or "cuda".
        where: what `machine.describe` said of it.
        path: of the PNG file.

    Raises:
        OSError: the file cannot be written.
    """
    signature = [where["device_name"]]
    if device == "cpu":
        signature.append(f"CPU threads: {where['threads']}")
    signature += [f"torch {where['versions']['torch']}", where["date"][:10]]
    y = 0.243 / figure.get_figheight()
    figure.text(0.035, y, ", ".join(signature), color=MUTED, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, transparent=True)
