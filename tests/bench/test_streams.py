from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import readme, streams

SMALL = ["--short-side", "48", "--device", "cpu", "--turns", "10"]


def test_table_json_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cpu_streams.json"
    options = ["--methods", "per_frame", "c2", "--streams", "1", "3", "--json", str(path)]
    options += ["--densities", "0.1", "0.5"]
    assert streams.main([*SMALL, *options]) == 0
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert [(row["method"], row["streams"], row["density"]) for row in rows] == [
        *(("per_frame", 1, 0.1), ("per_frame", 3, 0.1), ("c2", 1, 0.1), ("c2", 3, 0.1)),
        *(("c2", 1, 0.5), ("c2", 3, 0.5)),
    ]
    fastest = min(row["ms"] for row in rows[:2])
    for row in rows:
        assert row["ms"] > 0
        assert row["shape"][0] == row["streams"]
        assert row["peers"] == {"per_frame": fastest}
        assert row["floor_ms"] is None
    assert path.with_suffix(".png").stat().st_size > 0
    printed = capsys.readouterr().out
    assert f"{1e3 / rows[3]['ms']:.1f}" in printed
    assert f"{1e3 / rows[5]['ms']:.1f}" in printed
    text = readme.tables(tmp_path)
    assert "| method | 1 stream | 3 streams |" in text
    assert f"| `c2` | {1e3 / rows[2]['ms']:.1f} | {1e3 / rows[3]['ms']:.1f} |" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methods", "c2"], "per_frame is what the others are compared with"),
        (["--streams", "0"], "--streams: at least 1, not 0"),
        (["--densities", "0"], "--densities: shares above 0, up to 1"),
        (["--turns", "15"], "--turns: multiples of 10"),
    ],
)
def test_options(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        streams.main(options)
    assert message in capsys.readouterr().err
