"""Writes the README's tables from bench/results: `python bench/readme.py`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
_BEGIN, _END = "<!-- results: python bench/readme.py -->\n", "<!-- end of results -->\n"

Json = dict[str, Any]


def tables(results: Path = RESULTS) -> str:
    """The results as Markdown: the CPU's, then every GPU's, or that none was measured."""
    paths = sorted(results.glob("*.json"))
    parts = [_device_tables(json.loads(path.read_text(encoding="utf-8"))) for path in paths]
    if {path.stem for path in paths} <= {"cpu"}:
        parts.append("**GPU**: not measured yet.\n")
    return "\n".join(parts)


def _device_tables(rows: list[Json]) -> str:
    first = rows[0]
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    threads = f", {first['threads']} threads" if first["device"] == "cpu" else ""
    lines = [f"**{first['device_name']}**{threads}; {versions}; {first['date'][:10]}", ""]
    ops = [row for row in rows if "op" in row and row["backend"] != "reference"]
    if ops:
        lines += _ops_table(ops)
    methods = [row for row in rows if "method" in row]
    if methods:
        lines += _methods_table(methods)
    return "\n".join(lines)


def _ops_table(rows: list[Json]) -> list[str]:
    peers = list(dict.fromkeys(peer for row in rows for peer in row["peers"] if peer != "copy"))
    columns = ("op", "backend", "shape", "dtype", "layout", "ms", "of a copy", "of the floor")
    lines = _header(*columns, *peers)
    for row in rows:
        times = [row["peers"].get(peer) for peer in peers]
        speed_ups = ["" if time is None else f"{time / row['ms']:.1f}x" for time in times]
        lines.append(
            f"| `{row['op']}` | {row['backend']} | {'x'.join(map(str, row['shape']))} "
            f"| {row['dtype']} | {row['layout']} | {row['ms']:.3f} "
            f"| {row['ms'] / row['peers']['copy']:.2f}x | {row['ms'] / row['floor_ms']:.2f}x "
            f"| {' | '.join(speed_ups)} |"
        )
    named = ", ".join(f"`{peer}`" for peer in peers)
    return [*lines, "", f"Columns {named}: how many times faster than that.", ""]


def _methods_table(rows: list[Json]) -> list[str]:
    first = rows[0]
    shape = "x".join(map(str, first["shape"]))
    lines = [f"End to end, `{first['model']}` at {shape}, {first['dtype']}:", ""]
    lines += _header("method", "ms a frame", "speed-up", "key frame", "other frame", "key frames")
    for row in rows:
        lines.append(
            f"| `{row['method']}` | {row['ms']:.1f} | {row['peers']['per_frame'] / row['ms']:.2f}x "
            f"| {_ms(row['key_ms'])} | {_ms(row['non_key_ms'])} | {100 * row['key_share']:.0f} % |"
        )
    notes = dict.fromkeys(note for row in rows for note in row.get("notes", ()))
    return [*lines, "", *(f"{note[0].upper()}{note[1:]}." for note in notes), ""]


def _header(*columns: str) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def insert(readme: str, text: str) -> str:
    """The README with the text between its two markers.

    Raises:
        ValueError: the markers are not there.
    """
    pattern = re.escape(_BEGIN) + ".*?" + re.escape(_END)
    if not re.search(pattern, readme, re.DOTALL):
        raise ValueError(f"README.md has no {_BEGIN.strip()} ... {_END.strip()}")
    return re.sub(pattern, lambda _: _BEGIN + text + _END, readme, count=1, flags=re.DOTALL)


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(insert(path.read_text(encoding="utf-8"), tables()), encoding="utf-8")
