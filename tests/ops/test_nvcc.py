"""The CUDA sources compile for every GPU that the build serves, and no kernel spills.

A spilled register or an array that the compiler cannot keep in registers lies in local memory,
which is global memory: for kernels that are bound by memory, a loss that no other test sees.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = sorted((Path(__file__).parents[2] / "csrc" / "kernels").glob("*.cu"))
FUNCTION = re.compile(
    r"Function properties for (\w+)\s+"
    r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
)


@pytest.fixture(scope="module")
def nvcc() -> str:
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    found = shutil.which("nvcc") or shutil.which("nvcc", path=f"{home}/bin")
    if found is None:
        pytest.skip("nvcc is not installed")
    return found


@pytest.mark.parametrize("architecture", ["75", "80", "90a", "newest"])
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_compiles_without_local_memory(
    nvcc: str, source: Path, architecture: str, tmp_path: Path
) -> None:
    if architecture == "newest":
        listed = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True)
        architecture = str(max(map(int, re.findall(r"compute_(\d+)", listed.stdout))))
    target = tmp_path / "kernels.o"
    # The host's pass as well: it finds what -cubin lets through, such as a barrier in a function
    # that is for the host too.
    command = [nvcc, "-std=c++17", f"-arch=sm_{architecture}", "-Xptxas", "-v", "-c"]
    done = subprocess.run([*command, "-o", target, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    functions = FUNCTION.findall(done.stderr)
    kernels = len(re.findall(r"Compiling entry function '\w+'", done.stderr))
    assert len(functions) >= kernels > 0
    for name, *used in functions:
        assert used == ["0", "0", "0"], name
