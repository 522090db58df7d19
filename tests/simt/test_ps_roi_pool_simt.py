"""The CUDA sources of `ps_roi_pool`, run on the CPU, against the reference."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from ops.ps_roi_pool_cases import (
    LAYOUTS,
    Inputs,
    check_against_reference,
    evaluate,
    exact_inputs,
    random_inputs,
    random_rois,
)
from simt import simt_build
from simt.op_calls import OpCall, name_of, run_sanitized
from torch import Tensor

from hpvod_ops import reference
from models import literal_boxes

CPU = torch.device("cpu")
SOURCES = [simt_build.KERNELS / "ps_roi_pool.cu", simt_build.HERE / "bindings" / "ps_roi_pool.cpp"]


@pytest.fixture(scope="module")
def module(cache: Path) -> ModuleType:
    return simt_build.load(simt_build.build("ps_roi_pool", SOURCES, cache))


@pytest.fixture(scope="module")
def sanitized(cache: Path, _sanitizer: None) -> Path:
    return simt_build.build("ps_roi_pool", SOURCES, cache, sanitize=True)


def make_call(inputs: Inputs, layout: torch.memory_format, address: int = 0) -> OpCall:
    """The output is poisoned."""
    batch, all_channels, height, width = inputs.score_maps.shape
    channels = all_channels // inputs.groups**2
    channels_last = layout == torch.channels_last
    maps = inputs.score_maps.permute(0, 2, 3, 1) if channels_last else inputs.score_maps
    shape = (len(inputs.rois), channels, inputs.groups, inputs.groups)
    output = torch.full(shape, math.nan, dtype=maps.dtype)
    return OpCall(
        {
            "batch": batch,
            "channels": channels,
            "height": height,
            "width": width,
            "rois": len(inputs.rois),
            "groups": inputs.groups,
            "stride": inputs.stride,
            "channel_step": 1 if channels_last else height * width,
            "pixel_step": all_channels if channels_last else 1,
            "dtype": name_of(maps.dtype),
        },
        {
            "score_maps": maps.contiguous().flatten().view(torch.uint8).numpy(),
            "boxes": inputs.rois.contiguous().numpy(),
            "output": output.flatten().view(torch.uint8).numpy(),
        },
        address,
    )


def random_call(index: int) -> OpCall:
    """Every third case at an address of its elements' alignment alone."""
    inputs = random_inputs(index, CPU)
    address = inputs.score_maps.element_size() if index % 3 == 0 else 0
    return make_call(inputs, LAYOUTS[index // 4 % 2], address)


def output_of(results: dict[str, np.ndarray], inputs: Inputs) -> Tensor:
    output = torch.empty(inputs.grad_output.shape, dtype=inputs.score_maps.dtype)
    output.view(-1).view(torch.uint8)[:] = torch.from_numpy(results["output"])
    return output


@pytest.mark.parametrize("index", range(120))
def test_agrees_with_reference(module: ModuleType, index: int) -> None:
    inputs = random_inputs(index, CPU)
    check_against_reference((output_of(random_call(index).run(module), inputs),), inputs)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_exact_where_the_averages_are(module: ModuleType, layout: torch.memory_format) -> None:
    inputs = exact_inputs(CPU)
    output = output_of(make_call(inputs, layout).run(module), inputs)
    assert torch.equal(output, evaluate(reference.ps_roi_pool, inputs)[0])


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_stay_in_their_bins(
    module: ModuleType, bad: float, layout: torch.memory_format
) -> None:
    maps = torch.randn(2, 5 * 9, 6, 7)
    maps[torch.rand(maps.shape) < 0.02] = bad
    rois = random_rois(30, 2, 96, 112, 0)
    rois = rois[rois.isfinite().all(1) & (rois[:, 0] >= 0) & (rois[:, 0] < 2)]
    rois[:, 1:] = rois[:, 1:].abs()
    inputs = Inputs(maps, rois, 3, 16, torch.empty(len(rois), 5, 3, 3))
    expected = literal_boxes.ps_roi_pool(maps.double().numpy(), rois.numpy(), 3, 16)
    found = output_of(make_call(inputs, layout).run(module), inputs)
    torch.testing.assert_close(
        found.double(), torch.from_numpy(expected), rtol=1e-5, atol=1e-6, equal_nan=True
    )


@pytest.mark.parametrize("order", ["reversed", "1"])
def test_the_order_of_threads_changes_nothing(
    module: ModuleType, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [random_call(index) for index in range(24)]
    expected = [call.run(module)["output"] for call in calls]
    monkeypatch.setenv("HPVOD_SIMT_ORDER", order)
    for call, wanted in zip(calls, expected, strict=True):
        assert np.array_equal(call.run(module)["output"], wanted)


@pytest.mark.parametrize(("count", "channels"), [(2100, 1), (1, 300)])
def test_more_than_the_grid_has_threads_for(module: ModuleType, count: int, channels: int) -> None:
    """So that a block alone has a RoI, or several share one."""
    maps = torch.randn(1, channels * 9, 3, 4)
    rois = random_rois(count, 1, 48, 64, 0)
    inputs = Inputs(maps, rois, 3, 16, torch.zeros(count, channels, 3, 3))
    output = output_of(make_call(inputs, torch.channels_last).run(module), inputs)
    check_against_reference((output,), inputs)


@pytest.mark.parametrize(
    ("shape", "count"),
    [((2, 8, 3, 3), 0), ((0, 8, 3, 3), 2), ((2, 0, 3, 3), 2), ((2, 8, 0, 3), 2)],
)
def test_empty(module: ModuleType, shape: tuple[int, int, int, int], count: int) -> None:
    rois = torch.tensor([[0.0, 0, 0, 50, 50]]).repeat(count, 1)
    inputs = Inputs(torch.randn(shape), rois, 2, 16, torch.empty(count, shape[1] // 4, 2, 2))
    output = output_of(make_call(inputs, torch.contiguous_format).run(module), inputs)
    assert not output.any()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"height": 2**15, "width": 2**15 + 1}, r"N \* h \* w must not exceed 2\^30"),
        ({"batch": 2**62}, r"N \* h \* w must not exceed 2\^30"),
        ({"channels": 2**29}, r"neither C \* groups \* groups nor R"),
        ({"rois": 2**31}, r"neither C \* groups \* groups nor R"),
        ({"groups": 0}, "groups must be 1"),
        ({"groups": 1025, "channels": 1}, "groups must be 1"),
        ({"stride": 0}, "stride must be 1"),
        ({"stride": 2**20 + 1}, "stride must be 1"),
    ],
)
def test_what_the_launcher_refuses(module: ModuleType, values: dict[str, int], reason: str) -> None:
    call = make_call(exact_inputs(CPU), torch.contiguous_format)
    with pytest.raises(RuntimeError, match=reason):
        replace(call, values={**call.values, **values}).run(module)


def test_passes_the_sanitizers(module: ModuleType, sanitized: Path, tmp_path: Path) -> None:
    """And gives the same results there."""
    calls = [random_call(index) for index in range(36)]
    for call, results in zip(calls, run_sanitized(sanitized, calls, tmp_path), strict=True):
        assert np.array_equal(call.run(module)["output"], results["output"])
