"""Rows as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from bench.pipeline import BASELINE, STAGES
from bench.rows import Row

_COPY = "copy"


def ops_tables(rows: Sequence[Row]) -> list[Table]:
    """A table for ops on whole maps, and one for those on listed pixels."""
    dense = [row for row in rows if "density" not in row.more]
    sparse = [row for row in rows if "density" in row.more]
    tables = [_dense_table(dense)] if dense else []
    return [*tables, sparse_table(sparse)] if sparse else tables


def _dense_table(rows: Sequence[Row]) -> Table:
    """One line a row: milliseconds, and how they compare with the floor and each peer."""
    peers = _peers(rows)
    table = _table("Ops: milliseconds, as multiples of the floor and of a copy, and speed-ups")
    for header in ("op", "backend", "shape", "dtype", "layout"):
        table.add_column(header, no_wrap=True)
    for header in ("ms", "ms / floor", "ms / copy", *(f"{peer} / ms" for peer in peers)):
        table.add_column(header, justify="right")
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        table.add_row(
            _named(row),
            row.backend,
            _shape(row),
            row.dtype,
            str(row.more["layout"]),
            f"{row.ms:.3f}",
            _ratio(row.ms, row.floor_ms),
            _ratio(row.ms, row.peers.get(_COPY)),
            *(_ratio(row.peers.get(peer), row.ms) for peer in peers),
            end_section=following is None or following.dtype != row.dtype,
        )
    return table


def sparse_table(rows: Sequence[Row]) -> Table:
    """One line a row: milliseconds, efficiency, and comparisons with the floor and each peer."""
    peers = _peers(rows)
    table = _table(
        "Ops at listed pixels: milliseconds, efficiency (speed-up over dense, times density), "
        "multiples of the floor, speed-ups"
    )
    for header in ("op", "layer", "backend", "shape", "dtype"):
        table.add_column(header, no_wrap=True)
    headers = ("density", "ms", "efficiency", "ms / floor", *(f"{peer} / ms" for peer in peers))
    for header in headers:
        table.add_column(header, justify="right")
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        more = row.more
        table.add_row(
            row.name,
            more.get("layer", ""),
            row.backend,
            _shape(row),
            row.dtype,
            f"{100 * more['density']:.1f} %",
            f"{row.ms:.3f}",
            f"{more['efficiency']:.3f}" if "efficiency" in more else "-",
            _ratio(row.ms, row.floor_ms),
            *(_ratio(row.peers.get(peer), row.ms) for peer in peers),
            end_section=following is None or following.more.get("layer") != more.get("layer"),
        )
    return table


def methods_table(rows: Sequence[Row]) -> Table:
    """One line a preset: milliseconds a frame by stage, key frames and the others apart."""
    table = _table(
        f"End to end: milliseconds a frame, {rows[0].more['model']} at {_shape(rows[0])}, "
        f"{rows[0].dtype}"
    )
    table.add_column("method", no_wrap=True)
    for stage in STAGES:
        table.add_column(stage, justify="right")
    table.add_column("all", justify="right", style="bold")
    headers = (f"{BASELINE} / ms", "ms / floor", "key frame", "other frame", "keys", "updated")
    for header in headers:
        table.add_column(header, justify="right")
    for row in rows:
        more = row.more
        table.add_row(
            row.name,
            *(_milliseconds(more["stages"][stage]) for stage in STAGES),
            _milliseconds(row.ms),
            _ratio(row.peers[BASELINE], row.ms),
            _ratio(row.ms, row.floor_ms),
            _milliseconds(more["key_ms"]),
            _milliseconds(more["non_key_ms"]),
            f"{100 * more['key_share']:.0f} %",
            "-" if more["updated"] is None else f"{100 * more['updated']:.0f} %",
        )
    return table


def notes(rows: Sequence[Row]) -> list[str]:
    """What must be said beside the tables: the rows' own notes, and peers that did not run."""
    own = dict.fromkeys(note for row in rows for note in row.more.get("notes", ()))
    left_out = dict.fromkeys(
        f"left out: {peer} of {row.name} in {row.dtype}, {reason}"
        for row in rows
        for peer, reason in row.more.get("peers_left_out", {}).items()
    )
    return [*own, *left_out]


def _peers(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(peer for row in rows for peer in row.peers if peer != _COPY))


def _named(row: Row) -> str:
    variant = row.more.get("variant")
    return f"{row.name}, {variant}" if variant else row.name


def _shape(row: Row) -> str:
    return "x".join(map(str, row.shape))


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold")


def _ratio(above: float | None, below: float | None) -> str:
    if above is None or below is None:
        return "-"
    ratio = above / below
    return f"{ratio:.0f} x" if ratio >= 100 else f"{ratio:.3g} x"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
