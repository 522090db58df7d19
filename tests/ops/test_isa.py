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


@pytest.mark.parametrize("isa", ISAS[:2])
def test_older_instruction_sets_pass_the_same_tests(isa: str) -> None:
    if ISAS.index(isa) >= ISAS.index(native.cpu_isa()):
        pytest.skip(f"this processor's own path is {native.cpu_isa()}")
    code = "from hpvod_ops import native; print('isa', native.cpu_isa())"
    environment = {**os.environ, "HPVOD_CPU_ISA": isa, "PYTHONSAFEPATH": "1"}
    used = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert used.stdout == f"isa {isa}\n", used.stderr
    tests = str(TESTS / "ops" / "test_warp.py")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "cpu and (agrees or exact or threads)", tests],
        env=environment,
        capture_output=True,
        text=True,
        cwd=TESTS.parent,
    )
    assert run.returncode == 0, run.stdout[-3000:]
