"""The rows that every benchmark gives; README.md documents them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One measurement: an op by one backend, or a method end to end.

    Attributes:
        name: of the op, such as "warp", or of the method, such as "c2".
        kind: "op" or "method"; the key of `name` in JSON.
        backend: that ran it, or that ran the ops in it.
        device: "cpu" or "cuda".
        dtype: such as "float32".
        shape: of the feature map, or of the network's input image.
        ms: median milliseconds a call, or a frame.
        floor_ms: below which this device cannot go; None where that is not reckoned.
        peers: milliseconds of what a user would run otherwise, by name.
        more: further columns, as README.md documents them.
    """

    name: str
    kind: str
    backend: str
    device: str
    dtype: str
    shape: tuple[int, ...]
    ms: float
    floor_ms: float | None
    peers: dict[str, float]
    more: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The row as the JSON files hold it."""
        columns = asdict(self)
        more = columns.pop("more")
        return {columns.pop("kind"): columns.pop("name"), **columns, **more}


def save_rows(rows: list[Row], path: Path) -> None:
    """Writes rows as a JSON list, a row a line so that versions compare well.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row.to_json(), allow_nan=False) for row in rows)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def dtype_name(dtype: object) -> str:
    """A torch dtype without its module: "float32"."""
    return str(dtype).removeprefix("torch.")
