"""The CPU kernels as older processors run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpvod_ops import native

TESTS = Path(__file__).parents[1]
ISAS = ("portable", "avx2", "avx512")
KERNELS = {path.stem for path in (TESTS.parent / "csrc" / "cpu" / "isa").glob("*.cpp")}
OPS = sorted(op for op in KERNELS if (TESTS / "ops" / f"test_{op}.py").exists())
CHOSEN = "(cpu and (agrees or exact)) or threads or depends_on_no_other"


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("isa", ISAS[:2])
def test_older_instruction_sets_pass_the_same_tests(isa: str, op: str) -> None:
    if ISAS.index(isa) >= ISAS.index(native.cpu_isa()):
        pytest.skip(f"this processor's own path is {native.cpu_isa()}")
    code = "from hpvod_ops import native; print('isa', native.cpu_isa())"
    environment = {**os.environ, "HPVOD_CPU_ISA": isa, "PYTHONSAFEPATH": "1"}
    used = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert used.stdout == f"isa {isa}\n", used.stderr
    tests = str(TESTS / "ops" / f"test_{op}.py")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", CHOSEN, tests],
        env=environment,
        capture_output=True,
        text=True,
        cwd=TESTS.parent,
    )
    assert run.returncode == 0, run.stdout[-3000:]
