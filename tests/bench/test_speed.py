from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from rich.console import Console

from bench import contest, pipeline, report, speed, warp
from bench.picture import save_picture
from bench.rows import Row, save_rows
from hpvod.method import PRESETS

ROOT = Path(__file__).parents[2]
COMMON = {"backend", "device", "dtype", "shape", "ms", "floor_ms", "peers"}
WHERE_AND_WHEN = {"device_name", "threads", "versions", "date"}


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warp, "_SIZE", (8, 5, 6))
    monkeypatch.setattr(speed, "_OPS", (warp, Listed))
    monkeypatch.setattr(warp, "BACKENDS", ("cpu", "reference"))  # no Triton interpreter
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    monkeypatch.setattr(contest, "_SECONDS", 0)
    monkeypatch.setattr(contest, "copy_bandwidth", lambda device, moved, sets: 1e6)
    monkeypatch.setattr(pipeline, "matrix_rate", lambda device, dtype: 1e6)
    presets = {name: PRESETS[name] for name in ("per_frame", "dff")}
    monkeypatch.setattr(pipeline, "PRESETS", presets)


class Listed:
    """An op on listed pixels, as speed.py's `_OPS` has modules."""

    @staticmethod
    def cases(device: torch.device) -> list[SimpleNamespace]:
        return [SimpleNamespace(dtype=torch.float32)]

    @staticmethod
    def runnable_backends(device: torch.device, dtype: torch.dtype) -> list[str]:
        return ["cpu"]

    @staticmethod
    def contest(case: object, device: torch.device, backends: list[str]) -> contest.Contest:
        values = torch.rand(1, 2, 3, 4)
        return contest.Contest(
            op="listed",
            shape=(1, 2, 3, 4),
            dtype=torch.float32,
            layout="channels_last",
            device=device,
            backends={name: lambda _: values for name in backends},
            peers={"dense": {"contiguous": lambda _: values}},
            truth=(values.double(),),
            composed=(values,),
            sets=1,
            moved=8,
            density=0.25,
            columns={"layer": "some_layer"},
        )


@pytest.mark.usefixtures("_quick")
def test_both_tables_json_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "new" / "here.json"
    frames = tmp_path / "frames"
    frames.mkdir()
    for index, frame in enumerate(speed.clip.draw_clip(20, (72, 120))):
        Image.fromarray(frame).save(frames / f"{index:02}.png")
    arguments = ["--device", "cpu", "--short-side", "64", "--frames", "20"]
    assert speed.main([*arguments, "--video", str(frames), "--json", str(target)]) == 0

    printed = capsys.readouterr().out
    assert "warp_backward" in printed and "bfloat16" in printed and "grid_sample" in printed
    assert "some_layer" in printed and "25.0 %" in printed
    assert "per_frame" in printed and "dff" in printed and "1x3x64x107" in printed
    assert torch.__version__ in printed

    rows = json.loads(
        target.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(name)
    )
    assert isinstance(rows, list)
    for row in rows:
        assert row.keys() >= COMMON | WHERE_AND_WHEN
        assert ("op" in row) != ("method" in row)
        assert row["ms"] > 0 and row["floor_ms"] > 0
        assert all(ms > 0 for ms in row["peers"].values())
    ops = {(r["op"], r["backend"], r["dtype"], r["layout"]) for r in rows if "op" in r}
    assert len(ops) == 2 * 2 * 3 * 2 + 1
    (listed,) = (row for row in rows if row.get("op") == "listed")
    assert listed["density"] == 0.25
    assert listed["efficiency"] == pytest.approx(0.25 * listed["peers"]["dense"] / listed["ms"])
    assert [r["method"] for r in rows if "method" in r] == ["per_frame", "dff"]
    with Image.open(target.with_suffix(".png")) as picture:
        assert picture.width > 1500


@pytest.mark.usefixtures("_quick")
def test_a_wrong_result_is_told_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = warp.warp
    monkeypatch.setattr(warp, "warp", lambda feature, flow: right(feature, flow) * 1.1)
    monkeypatch.setattr(speed, "_OPS", (warp,))
    target = tmp_path / "rows.json"
    assert speed.main(["--device", "cpu", "--only", "ops", "--json", str(target)]) == 1
    assert "warp by cpu, float32" in " ".join(capsys.readouterr().err.split())
    assert json.loads(target.read_text(encoding="utf-8")) == []
    assert not target.with_suffix(".png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--density", "1.5"], "--density: a share from 0 to 1 is needed, not 1.5"),
        (["--short-side", "20"], "--short-side: at least 32 pixels are needed, not 20"),
        (["--frames", "19"], "--frames: at least 20, not 19"),
        (["--model", "large"], "--model"),
    ],
)
def test_bad_options(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        speed.main(arguments)
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


def test_missing_video_is_one_line(tmp_path: Path) -> None:
    arguments = ["--only", "methods", "--device", "cpu", "--video", str(tmp_path / "none.mp4")]
    result = subprocess.run(
        [sys.executable, str(ROOT / "bench/speed.py"), *arguments],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "speed.py: " in result.stderr and "none.mp4: no such file" in result.stderr
    assert "Traceback" not in result.stderr


def op_row(**changes: object) -> Row:
    values = {
        "name": "warp",
        "kind": "op",
        "backend": "cpu",
        "device": "cpu",
        "dtype": "float32",
        "shape": (1, 1024, 38, 63),
        "ms": 0.25,
        "floor_ms": 0.125,
        "peers": {"copy": 0.1, "grid_sample": 5.0},
        "more": {"layout": "channels_last"},
    }
    return Row(**{**values, **changes})  # type: ignore[arg-type]


def test_ratios_of_the_ops_table() -> None:
    console = Console(width=180, record=True, file=io.StringIO())
    slow = op_row(ms=10.0, dtype="float16", peers={"copy": 0.1})
    console.print(*report.ops_tables([op_row(), slow]))
    cells = [line.split("│")[1:-1] for line in console.export_text().splitlines() if "│" in line]
    first, second = ([cell.strip() for cell in line] for line in cells)
    assert first[5:] == ["0.250", "2 x", "2.5 x", "20 x"]
    assert second[5:] == ["10.000", "80 x", "100 x", "-"]


def test_rows_as_json(tmp_path: Path) -> None:
    save_rows([op_row()], tmp_path / "a.json")
    (row,) = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert row == {
        "op": "warp",
        "backend": "cpu",
        "device": "cpu",
        "dtype": "float32",
        "shape": [1, 1024, 38, 63],
        "ms": 0.25,
        "floor_ms": 0.125,
        "peers": {"copy": 0.1, "grid_sample": 5.0},
        "layout": "channels_last",
    }


def test_every_column_is_documented() -> None:
    """README.md's tables name every key that the modules write."""
    text = (ROOT / "bench/README.md").read_text(encoding="utf-8")
    ops = ("masked_conv2d.py", "masked_max_pool2d.py", "sparse_network.py", "warp_pixels.py")
    for module in ("contest.py", "pipeline.py", "machine.py", *ops):
        source = (ROOT / "bench" / module).read_text(encoding="utf-8")
        body = source[source.find("more={") :] if "more={" in source else source
        for key in WHERE_AND_WHEN | COMMON:
            assert f"`{key}`" in text
        for line in body.splitlines():
            name, colon, _ = line.strip().partition('":')
            if colon and name.startswith('"') and line.startswith(" " * 12):
                assert f"`{name[1:]}`" in text, f"{module}: {name[1:]}"


def method_row(name: str, ms: float) -> Row:
    stages = dict.fromkeys(pipeline.STAGES, ms / len(pipeline.STAGES))
    where = {
        "device_name": "some processor",
        "threads": 2,
        "versions": {"torch": "2.15"},
        "date": "2026-11-23T00:00:00+00:00",
    }
    more = {"model": "tiny", "density": 0.1, "stages": stages, **where}
    return op_row(name=name, shape=(1, 3, 256, 427), ms=ms, peers={"per_frame": 9.0}, more=more)


def test_picture_is_readable_on_any_page(tmp_path: Path) -> None:
    ops = [op_row(), op_row(name="warp_backward", ms=6.0), op_row(backend="reference", ms=90.0)]
    save_picture(ops, [method_row("per_frame", 9.0), method_row("c3", 3.0)], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        alpha = picture.getchannel("A")
        width, height = picture.size
        assert alpha.getpixel((0, 0)) == 0  # round corners
        middle = alpha.crop((width // 20, height // 20, width * 19 // 20, height * 19 // 20))
        assert middle.getextrema() == (255, 255)  # an opaque card


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_on_gpu_goes_on_after_a_failure_and_says_so(tmp_path: Path) -> None:
    """Every tool is a stand-in that fails where its arguments name the tests."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("python3", "compute-sanitizer", "nvidia-smi"):
        (tools / name).write_text(
            "#!/bin/bash\n"
            'echo "$(basename "$0") $*"\n'
            '[[ "$*" == *"-q tests/ops -k not triton"* ]] && exit 3\n'
            '[[ "$*" == *device_kind* ]] && exit 1\n'
            "exit 0\n"
        )
        (tools / name).chmod(0o755)
    out = tmp_path / "out"
    result = subprocess.run(
        ["bash", str(ROOT / "bench/on_gpu.sh"), str(out)],
        env={"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    log = (out / "log.txt").read_text(encoding="utf-8")
    summary = log.partition("=== summary")[2].splitlines()[1:]
    status = dict(re.fullmatch(r"(\w+) +\d+ s  (.*)", line).groups() for line in summary)
    assert status.pop("tests") == "failed with status 3"
    assert set(status.values()) == {"passed"}
    steps = {"build", "backends", "speed", "density", "float16", "bfloat16"}
    assert steps | {"memcheck", "racecheck", "triton", "nvcc"} <= set(status)
    assert "pip install -v --no-deps --no-build-isolation ." in log
    assert f"--json {out}/gpu.json" in log
    assert f"--dtypes bfloat16 --json {out}/gpu_density.json" in log
    sanitized = re.findall(r"^compute-sanitizer .*", log, re.MULTILINE)
    assert len(sanitized) == 2
    assert all(
        "test_masked_conv2d.py::test_agrees_with_reference[cuda-19]" in line for line in sanitized
    )
    assert sorted(path.name for path in out.iterdir()) == ["log.txt"]


def test_on_gpu_needs_a_folder() -> None:
    result = subprocess.run(
        ["bash", str(ROOT / "bench/on_gpu.sh")], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "usage: bench/on_gpu.sh OUT" in result.stderr
