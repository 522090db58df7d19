"""Writes the README's tables from bench/results: `python bench/readme.py`."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
DENSITY = "_density"  # ends the names of masked_conv.py's results
STREAMS = "_streams"  # and of streams.py's
_BEGIN, _END = "<!-- results: python bench/readme.py -->\n", "<!-- end of results -->\n"

Json = dict[str, Any]


def tables(results: Path = RESULTS) -> str:
    """The results as Markdown: accuracy, then the CPU's speed and every GPU's, or that none was.

    Accuracy is what tradeoff.py has measured, with its tables and figures.
    """
    files = {path: json.loads(path.read_text(encoding="utf-8")) for path in results.glob("*.json")}
    paths = sorted(files, key=lambda path: (files[path][0]["device"] != "cpu", path.name))
    parts = [_accuracy(folder) for folder in sorted(results.glob("tradeoff_*"))]
    parts += [_file_tables(path, files[path]) for path in paths]
    if all(rows[0]["device"] == "cpu" for rows in files.values()):
        parts.append("**GPU**: not measured yet.\n")
    return "\n".join(parts)


def _accuracy(folder: Path) -> str:
    """The table of orderings and the figures of a folder of tradeoff.py."""
    content = json.loads((folder / "points.json").read_text(encoding="utf-8"))
    where = content["points"][0]["where"]
    lines = [f"Accuracy, {where['device_name']}, {where['date'][:10]}:", ""]
    lines += [(folder / "orderings.md").read_text(encoding="utf-8")]
    for picture in sorted(folder.glob("figure*.png")):
        number = picture.stem.removeprefix("figure")
        lines += [f"![Figure {number}](bench/results/{folder.name}/{picture.name})", ""]
    return "\n".join(lines)


def _file_tables(path: Path, rows: list[Json]) -> str:
    first = rows[0]
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    threads = f", {first['threads']} threads" if first["device"] == "cpu" else ""
    lines = [f"**{first['device_name']}**{threads}; {versions}; {first['date'][:10]}", ""]
    ops = [row for row in rows if "op" in row and row["backend"] != "reference"]
    if path.stem.endswith(DENSITY):
        return "\n".join([*lines, *_density_tables(ops, path.with_suffix(".png"))])
    if path.stem.endswith(STREAMS):
        return "\n".join([*lines, *_streams_table(rows, path.with_suffix(".png"))])
    dense, sparse = ([row for row in ops if ("density" in row) == kind] for kind in (False, True))
    if dense:
        lines += _ops_table(dense)
    if sparse:
        lines += _sparse_table(sparse)
    methods = [row for row in rows if "method" in row]
    if methods:
        lines += _methods_table(methods)
    return "\n".join(lines)


def _ops_table(rows: list[Json]) -> list[str]:
    peers = _peers(rows)
    columns = ("op", "backend", "shape", "dtype", "layout", "ms", "of a copy", "of the floor")
    lines = _header(*columns, *peers)
    for row in rows:
        variant = f", {row['variant']}" if "variant" in row else ""
        copy = row["peers"].get("copy")
        of_a_copy = "" if copy is None else f"{row['ms'] / copy:.2f}x"
        lines.append(
            f"| `{row['op']}`{variant} | {row['backend']} | {_shape(row)} "
            f"| {row['dtype']} | {row['layout']} | {row['ms']:.3f} "
            f"| {of_a_copy} | {row['ms'] / row['floor_ms']:.2f}x "
            f"| {' | '.join(_speed_ups(row, peers))} |"
        )
    return [*lines, "", *_explained(peers)]


def _sparse_table(rows: list[Json]) -> list[str]:
    peers = _peers(rows)
    columns = ("op", "layer", "backend", "shape", "dtype", "density", "ms", "efficiency")
    lines = _header(*columns, "of the floor", *peers)
    for row in rows:
        efficiency = f"{row['efficiency']:.2f}" if "efficiency" in row else ""
        lines.append(
            f"| `{row['op']}` | {row.get('layer', '')} | {row['backend']} | {_shape(row)} "
            f"| {row['dtype']} | {100 * row['density']:.1f} % | {row['ms']:.3f} | {efficiency} "
            f"| {row['ms'] / row['floor_ms']:.2f}x | {' | '.join(_speed_ups(row, peers))} |"
        )
    return [*lines, "", *_explained(peers)]


def _density_tables(rows: list[Json], picture: Path) -> list[str]:
    """For each dtype, batch and backend a table with a line a layer and a column a density."""
    lines = []
    if picture.exists():
        lines += [f"![Time against density](bench/results/{picture.name})", ""]
    rows = [row for row in rows if "efficiency" in row]
    kinds = dict.fromkeys((row["dtype"], row["shape"][0], row["backend"]) for row in rows)
    for kind in kinds:
        shown = [row for row in rows if (row["dtype"], row["shape"][0], row["backend"]) == kind]
        densities = sorted({_percent(row) for row in shown})
        lines += ["Masked convolution, {}, batch {}, `{}` backend:".format(*kind), ""]
        lines += _header("layer", "dense, ms", *(f"{density} %" for density in densities))
        for layer in dict.fromkeys(row["layer"] for row in shown):
            of_layer = {_percent(row): row for row in shown if row["layer"] == layer}
            dense = statistics.median(row["peers"]["dense"] for row in of_layer.values())
            cells = [_efficiency(of_layer.get(density)) for density in densities]
            lines.append(f"| {layer} | {dense:.3f} | {' | '.join(cells)} |")
        lines.append("")
    return [
        *lines,
        "Cells: efficiency, which is the speed-up over dense times density; speed-up. In brackets, "
        "where it is below 0.9, the efficiency at the dense convolution's rate: at the border of "
        "the map, which a mask in its middle does not reach, there is less to compute.",
        "",
    ]


def _streams_table(rows: list[Json], picture: Path) -> list[str]:
    """Frames a second of all streams together; a line a method, a column a number of streams."""
    first = rows[0]
    rows = [row for row in rows if row["density"] == first["density"]]
    lines = [f"![Frames a second against streams and density](bench/results/{picture.name})", ""]
    size = "x".join(map(str, first["shape"][1:]))
    lines += [
        f"Frames a second of all streams, `{first['model']}` at {size}, {first['dtype']}, "
        f"{100 * first['density']:g} % updated:",
        "",
    ]
    counts = list(dict.fromkeys(row["streams"] for row in rows))
    lines += _header("method", *(f"{n} stream{'s' * (n > 1)}" for n in counts))
    for method in dict.fromkeys(row["method"] for row in rows):
        rates = {row["streams"]: 1e3 / row["ms"] for row in rows if row["method"] == method}
        lines.append(f"| `{method}` | {' | '.join(f'{rates[n]:.1f}' for n in counts)} |")
    return [*lines, ""]


def _percent(row: Json) -> int:
    return round(100 * float(row["updated"]))


def _efficiency(row: Json | None) -> str:
    if row is None:
        return ""
    limit = row.get("equal_rate", 1.0)
    at_equal_rate = f" ({limit:.2f})" if limit < 0.9 else ""
    return f"{row['efficiency']:.2f}{at_equal_rate}; {row['peers']['dense'] / row['ms']:.1f}x"


def _methods_table(rows: list[Json]) -> list[str]:
    first = rows[0]
    lines = [f"End to end, `{first['model']}` at {_shape(first)}, {first['dtype']}:", ""]
    lines += _header("method", "ms a frame", "speed-up", "key frame", "other frame", "key frames")
    for row in rows:
        lines.append(
            f"| `{row['method']}` | {row['ms']:.1f} | {row['peers']['per_frame'] / row['ms']:.2f}x "
            f"| {_ms(row['key_ms'])} | {_ms(row['non_key_ms'])} | {100 * row['key_share']:.0f} % |"
        )
    notes = dict.fromkeys(note for row in rows for note in row.get("notes", ()))
    return [*lines, "", *(f"{note[0].upper()}{note[1:]}." for note in notes), ""]


def _peers(rows: list[Json]) -> list[str]:
    return list(dict.fromkeys(peer for row in rows for peer in row["peers"] if peer != "copy"))


def _speed_ups(row: Json, peers: list[str]) -> list[str]:
    times = [row["peers"].get(peer) for peer in peers]
    return ["" if time is None else f"{time / row['ms']:.1f}x" for time in times]


def _explained(peers: list[str]) -> list[str]:
    named = ", ".join(f"`{peer}`" for peer in peers)
    return [f"Columns {named}: how many times faster than that.", ""]


def _shape(row: Json) -> str:
    return "x".join(map(str, row["shape"]))


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
