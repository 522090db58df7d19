from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import readme


def test_the_readme_shows_the_committed_results() -> None:
    text = (readme.ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.insert(text, readme.tables()) == text, "run: python bench/readme.py"


def test_a_gpu_that_was_not_measured_is_said_to_be(tmp_path: Path) -> None:
    assert readme.tables(tmp_path) == "**GPU**: not measured yet.\n"
    rows = json.loads((readme.RESULTS / "cpu.json").read_text(encoding="utf-8"))
    for row in rows:
        row.update(device="cuda", device_name="Some GPU")
    (tmp_path / "some_gpu.json").write_text(json.dumps(rows))
    tables = readme.tables(tmp_path)
    assert tables.startswith("**Some GPU**; ")
    assert "not measured" not in tables


def test_ratios_are_of_the_rows_own_figures(tmp_path: Path) -> None:
    row = json.loads((readme.RESULTS / "cpu.json").read_text(encoding="utf-8"))[0]
    row.update(ms=2.0, floor_ms=1.0, peers={"copy": 0.5, "grid_sample": 9.0})
    (tmp_path / "cpu.json").write_text(json.dumps([row]))
    assert "| 2.000 | 4.00x | 2.00x | 4.5x |" in readme.tables(tmp_path)


def test_missing_markers_are_named() -> None:
    with pytest.raises(ValueError, match=r"README.md has no <!-- results"):
        readme.insert("# hpvod", "tables")
