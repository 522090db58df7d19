"""Which backend runs, and what is said where none can."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import hpvod_ops
from hpvod_ops import backends, native, reference, use_backend, warp

CPU = torch.device("cpu")


def test_the_cpu_serves_the_cpu() -> None:
    assert backends.choose_backend(CPU, torch.float32) == "cpu"


def test_override_holds_inside_only() -> None:
    with use_backend("reference"):
        assert backends.choose_backend(CPU, torch.float32) == "reference"
        with use_backend("cpu"):
            assert backends.choose_backend(CPU, torch.float32) == "cpu"
        assert backends.choose_backend(CPU, torch.float32) == "reference"
    assert backends.choose_backend(CPU, torch.float32) == "cpu"


def test_override_is_undone_by_an_error() -> None:
    with pytest.raises(KeyError), use_backend("reference"):
        raise KeyError
    assert backends.choose_backend(CPU, torch.float32) == "cpu"


def test_the_backend_that_was_asked_for_is_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(
        reference, "warp", lambda *arguments: calls.append(arguments) or torch.zeros(())
    )
    feature, flow = torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2, 2)
    warp(feature, flow)
    assert not calls
    with use_backend("reference"):
        warp(feature, flow)
    assert len(calls) == 1


def test_a_backend_that_cannot_run_is_an_error_not_a_fall_back() -> None:
    feature, flow = torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2, 2)
    with (
        use_backend("cuda"),
        pytest.raises(RuntimeError, match=r"'cuda' was asked for but cannot run: .* on cpu"),
    ):
        warp(feature, flow)


def test_unknown_backend() -> None:
    with (
        pytest.raises(ValueError, match="'cudnn' is no backend; there are cpu, cuda, triton"),
        use_backend("cudnn"),
    ):
        pass


def test_a_device_that_none_serves_says_why_for_each() -> None:
    with pytest.raises(RuntimeError, match=r"no backend runs .* on meta \(cpu: .*; cuda: .*"):
        backends.choose_backend(torch.device("meta"), torch.float32)


def test_explain() -> None:
    text = hpvod_ops.explain("cpu")
    assert text.startswith("torch.float32 on cpu: cpu\n  cpu: chosen")
    assert "  cuda: no, the tensor is on cpu" in text
    with use_backend("reference"):
        assert "  reference: chosen, asked for" in hpvod_ops.explain("cpu")
    assert "torch.int8 is not supported" in hpvod_ops.explain("cpu", torch.int8)


@pytest.mark.parametrize(
    ("built", "capability", "runs"),
    [
        ("80-real", (8, 0), True),
        ("80-real", (8, 9), True),  # binaries run on later minors of their major
        ("80-real", (9, 0), False),
        ("90a-real", (9, 0), True),
        ("90a-real", (10, 0), False),
        ("86-real", (8, 0), False),
        ("80", (9, 0), True),  # its PTX
        ("80-virtual", (12, 1), True),
        ("80-virtual", (7, 5), False),
        ("120", (12, 0), True),
        ("120", (10, 0), False),
    ],
)
def test_which_gpu_a_build_runs_on(
    built: str, capability: tuple[int, int], runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "cuda_architectures", lambda: (built,))
    assert native.cuda_runs_on(capability) is runs


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONSAFEPATH": "1", **environment},
        capture_output=True,
        text=True,
    )


def test_environment_variable() -> None:
    code = "import hpvod_ops; print(hpvod_ops.explain('cpu').splitlines()[0])"
    assert run("-c", code, HPVOD_BACKEND="reference").stdout.endswith("cpu: reference\n")
    wrong = run("-c", code, HPVOD_BACKEND="cudnn")
    assert wrong.returncode and "HPVOD_BACKEND='cudnn' is no backend" in wrong.stderr


def test_importing_does_not_import_triton() -> None:
    code = "import sys, hpvod_ops; print('triton' in sys.modules)"
    before = run("-c", "import sys, torch; print('triton' in sys.modules)").stdout
    assert run("-c", code).stdout == before


def test_module_prints_what_was_built() -> None:
    result = run("-m", "hpvod_ops")
    assert result.returncode == 0, result.stderr
    assert f"torch {torch.__version__}" in result.stdout
    assert f"CPU kernels:  {native.cpu_isa()}" in result.stdout
    assert "Backends on cpu:\nfloat32, float16, bfloat16, float64: cpu\n" in result.stdout
