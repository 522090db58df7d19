"""masked_max_pool2d in Triton; where there is a GPU, test_masked_max_pool2d.py runs it as well."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from ops.compile_triton import Job, compile_kernels
from ops.listed_cases import bits
from ops.masked_max_pool2d_cases import (
    Inputs,
    check_against_reference,
    evaluate,
    random_inputs,
)

from hpvod_ops import masked_max_pool2d_, use_backend

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

from hpvod_ops.triton import _launch, _row_tile
from hpvod_ops.triton._row_tile import row_tile


def pool(inputs: Inputs) -> None:
    with use_backend("triton"):
        masked_max_pool2d_(
            inputs.out,
            inputs.x,
            inputs.pixels,
            kernel=inputs.kernel,
            stride=inputs.stride,
            padding=inputs.padding,
        )


# Without those that take the interpreter seconds.
@pytest.mark.parametrize("index", [each for each in range(36) if each not in (11, 19)])
def test_random_cases(index: int, device: torch.device) -> None:
    inputs = random_inputs(index, device)
    check_against_reference(evaluate(pool, inputs), inputs)


@pytest.mark.parametrize("index", [3, 7])
def test_a_program_does_one_tile_after_another(
    index: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_row_tile, "PROGRAMS_PER_PROCESSOR", 1)
    monkeypatch.setattr(_launch, "processors", lambda _: 1)
    inputs = random_inputs(index, device)
    check_against_reference(evaluate(pool, inputs), inputs)


@pytest.mark.parametrize("index", range(36, 40))
def test_wide_offsets_give_the_same(
    index: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = random_inputs(index, device)
    narrow = evaluate(pool, inputs)
    monkeypatch.setattr(_launch, "INT32_ELEMENTS", 0)
    assert torch.equal(bits(evaluate(pool, inputs)), bits(narrow))


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_values_that_are_not_numbers(value: float, device: torch.device) -> None:
    inputs = random_inputs(7, device)
    inputs.x[:, :, ::3, ::2] = value
    check_against_reference(evaluate(pool, inputs), inputs)


def test_compiles_ahead_of_time(tmp_path: Path) -> None:
    jobs = []
    for capability, dtype, size, wide in (
        (90, "bf16", 2, False),
        (90, "fp32", 4, True),
        (80, "fp16", 2, False),
        (80, "fp64", 8, False),
    ):
        tile = row_tile(64, size)
        arguments = {"input": f"*{dtype}", "output": f"*{dtype}", "pixels": "*i32", "count": "*i32"}
        constants = {"KERNEL": 3, "WIDE": wide, "PIXELS": tile.pixels, "CHANNELS": tile.channels}
        kernel = "hpvod_ops.triton._masked_max_pool2d_kernels:max_pool_kernel"
        name = f"sm_{capability} {dtype}"
        jobs.append(Job(name, kernel, capability, arguments | constants, tile.warps))
    for name, compiled in compile_kernels(jobs, tmp_path).items():
        assert compiled.stack == 0, f"{name} spills"
        wide_loads = compiled.ptx.count("ld.global.v4.b32") + compiled.ptx.count("ld.global.v2.b64")
        assert wide_loads == 9, name
