"""The bindings compile against the headers of the oldest torch that hpvod supports.

The installed torch, in general a newer one, would let through what the oldest does not have.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

import pytest

OLDEST = "2.11"
ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "csrc" / "bindings").glob("*.cpp"))


@pytest.fixture(scope="module")
def include(request: pytest.FixtureRequest) -> Path:
    """Its headers, out of its wheel: half a gigabyte to fetch, so they are kept."""
    folder = request.config.cache.mkdir(f"torch-{OLDEST}")
    if not (folder / "torch").is_dir():
        # Renamed when whole: this may be interrupted.
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", unfinished]
            done = subprocess.run(
                [*command, "--only-binary=:all:", f"torch=={OLDEST}.*"],
                capture_output=True,
                text=True,
            )
            if done.returncode != 0:
                pytest.skip(f"pip cannot fetch torch {OLDEST}: {done.stderr.strip()[-300:]}")
            (wheel,) = Path(unfinished).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                names = archive.namelist()
                headers = [name for name in names if name.startswith("torch/include/")]
                archive.extractall(unfinished, headers)
            Path(unfinished, "torch").rename(folder / "torch")
    return folder / "torch" / "include"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_bindings_compile(include: Path, source: Path) -> None:
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no C++ compiler {compiler}")
    command = [compiler, "-std=c++17", "-fsyntax-only", "-isystem", include]
    command += ["-isystem", sysconfig.get_paths()["include"]]
    # As CMakeLists.txt has them.
    command += ["-DTORCH_TARGET_VERSION=0x020b000000000000", "-DPy_LIMITED_API=0x030a0000"]
    command += ["-DHPVOD_MODULE_NAME=_C"]
    if source.stem.endswith("_cuda"):
        command += ["-DUSE_CUDA", '-DHPVOD_CUDA_ARCHITECTURES="80"']
    done = subprocess.run([*command, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_cmake_targets_the_oldest() -> None:
    major, minor = map(int, OLDEST.split("."))
    target = f"TORCH_TARGET_VERSION=0x{major:02x}{minor:02x}" + "0" * 12
    assert target in (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
