"""What is particular to ps_roi_pool in Triton; the interpreter takes a tenth of a second a RoI."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from ops.compile_triton import Job, compile_kernels
from ops.ps_roi_pool_cases import (
    LAYOUTS,
    check_against_reference,
    evaluate,
    exact_inputs,
    random_inputs,
)

from hpvod_ops import ps_roi_pool, reference, use_backend

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

from hpvod_ops.triton import ps_roi_pool as triton_pool


@pytest.mark.parametrize("index", range(16))
def test_random_cases(index: int, device: torch.device) -> None:
    inputs = random_inputs(index, device, most_rois=4)
    with use_backend("triton"):
        check_against_reference(evaluate(ps_roi_pool, inputs), inputs)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_bins_in_several_blocks(
    layout: torch.memory_format, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_pool, "MOST_BINS", 2)
    inputs = exact_inputs(device, layout)
    with use_backend("triton"):
        results = evaluate(ps_roi_pool, inputs)
    expected = evaluate(reference.ps_roi_pool, inputs, torch.float64)
    for result, truth in zip(results, expected, strict=True):
        assert torch.equal(result.double(), truth)


def test_rois_without_pixels_are_zero(device: torch.device) -> None:
    maps = torch.full((2, 4, 5, 6), math.nan, device=device)
    corners = [[math.nan, 0, 50, 50], [0, 0, 50, math.nan], [-90, 0, -40, 50], [0, 0, 50, 50]]
    image = torch.tensor([[0.0], [0], [1], [2]])
    rois = torch.cat((image, torch.tensor(corners)), 1).to(device)
    with use_backend("triton"):
        assert torch.equal(ps_roi_pool(maps, rois, 2, 16), maps.new_zeros(4, 1, 2, 2))


def test_opcheck(device: torch.device) -> None:
    inputs = exact_inputs(device, torch.channels_last)
    arguments = (inputs.score_maps.requires_grad_(), inputs.rois[:1], inputs.groups, inputs.stride)
    torch.library.opcheck(
        torch.ops.hpvod.ps_roi_pool.triton,
        arguments,
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


def test_compiles_ahead_of_time(tmp_path: Path) -> None:
    jobs = []
    for capability, dtype in ((90, "bf16"), (90, "fp32"), (80, "fp16"), (80, "fp64")):
        arguments = {"score_maps": f"*{dtype}", "boxes": "*fp32", "output": f"*{dtype}"}
        constants = {"CHANNELS": triton_pool.CHANNELS, "BINS": triton_pool.MOST_BINS}
        jobs.append(
            Job(
                f"sm_{capability} {dtype}",
                "hpvod_ops.triton._ps_roi_pool_kernels:pool_kernel",
                capability,
                arguments | constants,
            )
        )
    for name, compiled in compile_kernels(jobs, tmp_path).items():
        assert compiled.stack == 0, f"{name} spills"
