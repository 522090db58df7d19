"""warp_pixels in Triton; where there is a GPU, test_warp_pixels.py runs it as well."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ops.compile_triton import Job, compile_kernels
from ops.listed_cases import at, bits
from ops.warp_pixels_cases import (
    Inputs,
    check_against_reference,
    compose,
    evaluate,
    exact_inputs,
    random_inputs,
)

from hpvod_ops import use_backend, warp_pixels_

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

from hpvod_ops.triton import _launch, _row_tile
from hpvod_ops.triton._row_tile import row_tile


def warp(inputs: Inputs) -> None:
    with use_backend("triton"):
        warp_pixels_(
            inputs.out,
            inputs.feature,
            inputs.flow,
            inputs.pixels,
            ratio=inputs.ratio,
            scale=inputs.scale,
        )


# Without those that take the interpreter seconds.
@pytest.mark.parametrize("index", [each for each in range(36) if each not in (11, 19)])
def test_random_cases(index: int, device: torch.device) -> None:
    inputs = random_inputs(index, device)
    check_against_reference(evaluate(warp, inputs), inputs)


@pytest.mark.parametrize("index", [3, 7])
def test_a_program_does_one_tile_after_another(
    index: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_row_tile, "PROGRAMS_PER_PROCESSOR", 1)
    monkeypatch.setattr(_launch, "processors", lambda _: 1)
    inputs = random_inputs(index, device)
    check_against_reference(evaluate(warp, inputs), inputs)


@pytest.mark.parametrize("ratio", [1, 4])
def test_wide_offsets_give_the_same(
    ratio: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = exact_inputs(device, ratio)
    narrow = evaluate(warp, inputs)
    monkeypatch.setattr(_launch, "INT32_ELEMENTS", 0)
    assert torch.equal(bits(evaluate(warp, inputs)), bits(narrow))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # the interpreter's, in NumPy
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
def test_flow_that_is_not_finite_reads_nothing(value: float, device: torch.device) -> None:
    inputs = exact_inputs(device)
    inputs.flow[:, 0, 1, 2] = value
    expected = at(inputs.mask, evaluate(compose, inputs))
    assert (expected == 0).all(dim=1).any()
    assert torch.equal(at(inputs.mask, evaluate(warp, inputs)), expected)


def test_strides_of_the_flow_do_not_matter(device: torch.device) -> None:
    inputs = exact_inputs(device)
    flow = inputs.flow.contiguous(memory_format=torch.channels_last)
    strided = evaluate(warp, replace(inputs, flow=flow))
    assert torch.equal(bits(strided), bits(evaluate(warp, inputs)))


def test_compiles_ahead_of_time(tmp_path: Path) -> None:
    jobs = []
    for capability, dtype, size, scale, wide in (
        (90, "bf16", 2, True, False),
        (90, "fp32", 4, False, True),
        (80, "fp16", 2, False, False),
        (80, "fp64", 8, True, False),
    ):
        tile = row_tile(1024, size)
        arguments: dict[str, object] = dict.fromkeys(("feature", "scale", "output"), f"*{dtype}")
        arguments |= {"flow": "*fp32", "pixels": "*i32", "count": "*i32", "WIDE": wide}
        arguments |= {"PIXELS": tile.pixels, "CHANNELS": tile.channels}
        if not scale:
            arguments["scale"] = None
        kernel = "hpvod_ops.triton._warp_pixels_kernels:warp_pixels_kernel"
        jobs.append(Job(f"sm_{capability} {dtype}", kernel, capability, arguments, tile.warps))
    for job, compiled in zip(jobs, compile_kernels(jobs, tmp_path).values(), strict=True):
        assert compiled.stack == 0, f"{job.name} spills"
        wide_loads = compiled.ptx.count("ld.global.v4.b32") + compiled.ptx.count("ld.global.v2.b64")
        assert wide_loads == (5 if job.arguments["scale"] else 4), job.name
