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


def density_row(**changes: object) -> dict[str, object]:
    row = json.loads((readme.RESULTS / "cpu.json").read_text(encoding="utf-8"))[0]
    row.update(op="masked_conv2d", layer="some_layer", updated=0.1003, density=0.1)
    row.update(ms=2.0, floor_ms=1.0, peers={"dense": 18.0}, efficiency=0.9)
    return {**row, **changes}


def test_efficiency_is_shown_by_layer_and_density(tmp_path: Path) -> None:
    rows = [
        density_row(),
        density_row(updated=1.0, density=1.0, ms=20.0),
        density_row(layer="other", equal_rate=0.874),
    ]
    (tmp_path / "cpu_density.json").write_text(json.dumps(rows))
    (tmp_path / "cpu_density.png").touch()
    text = readme.tables(tmp_path)
    assert "![Time against density](bench/results/cpu_density.png)" in text
    assert "Masked convolution, float32, batch 1, `cpu` backend:" in text
    assert "| layer | dense, ms | 10 % | 100 % |" in text
    assert "| some_layer | 18.000 | 0.90; 9.0x | 0.90; 0.9x |" in text
    assert "| other | 18.000 | 0.90 (0.87); 9.0x |  |" in text
    assert text.endswith("**GPU**: not measured yet.\n")


def test_ops_at_listed_pixels_have_a_table_of_their_own(tmp_path: Path) -> None:
    rows = json.loads((readme.RESULTS / "cpu.json").read_text(encoding="utf-8"))[:1]
    (tmp_path / "cpu.json").write_text(json.dumps([*rows, density_row()]))
    lines = readme.tables(tmp_path).splitlines()
    (line,) = (line for line in lines if "masked_conv2d" in line)
    assert line.endswith(
        "| some_layer | cpu | 1x1024x38x63 | float32 | 10.0 % | 2.000 | 0.90 | 2.00x | 9.0x |"
    )
    assert not any("of a copy" in line and "dense" in line for line in lines)


def test_accuracy_comes_first_with_its_figures(tmp_path: Path) -> None:
    folder = tmp_path / "tradeoff_cpu"
    folder.mkdir()
    where = {"device_name": "Some CPU", "date": "2026-11-29T10:00:00"}
    (folder / "points.json").write_text(json.dumps({"points": [{"where": where}]}))
    (folder / "orderings.md").write_text("| method | mAP |\n|---|---|\n| c3 | 50 |\n")
    (folder / "figure3.png").touch()
    assert readme.tables(tmp_path) == (
        "Accuracy, Some CPU, 2026-11-29:\n\n| method | mAP |\n|---|---|\n| c3 | 50 |\n\n"
        "![Figure 3](bench/results/tradeoff_cpu/figure3.png)\n\n**GPU**: not measured yet.\n"
    )
