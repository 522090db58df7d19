"""The CUDA sources of `masked_max_pool2d_`, run on the CPU, against the reference."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from ops.listed_cases import dense_clone, dense_map, listed_pixels
from ops.masked_max_pool2d_cases import Inputs, check_against_reference, random_inputs
from simt import simt_build
from simt.op_calls import OpCall, bytes_of, name_of, run_sanitized, tensor_of
from torch import Tensor

CPU = torch.device("cpu")
SOURCES = [
    simt_build.KERNELS / "masked_max_pool2d.cu",
    simt_build.HERE / "bindings" / "masked_max_pool2d.cpp",
]


@pytest.fixture(scope="module")
def module(cache: Path) -> ModuleType:
    return simt_build.load(simt_build.build("masked_max_pool2d", SOURCES, cache))


@pytest.fixture(scope="module")
def sanitized(cache: Path, _sanitizer: None) -> Path:
    return simt_build.build("masked_max_pool2d", SOURCES, cache, sanitize=True)


def make_call(inputs: Inputs, address: int = 0) -> OpCall:
    batch, channels, height, width = inputs.x.shape
    return OpCall(
        {
            "batch": batch,
            "channels": channels,
            "in_height": height,
            "in_width": width,
            "out_height": inputs.out.shape[2],
            "out_width": inputs.out.shape[3],
            "kernel": inputs.kernel,
            "stride": inputs.stride,
            "padding": inputs.padding,
            "dtype": name_of(inputs.x.dtype),
        },
        {
            "input": bytes_of(inputs.x),
            "pixels": inputs.pixels.indices.numpy(),
            "count": inputs.pixels.count.numpy(),
            "output": bytes_of(inputs.out),
        },
        address,
    )


def random_call(index: int) -> OpCall:
    """Every third case at an address where 16-byte accesses would fault."""
    inputs = random_inputs(index, CPU)
    return make_call(inputs, inputs.x.element_size() if index % 3 == 0 else 0)


def output_of(results: dict[str, np.ndarray], inputs: Inputs) -> Tensor:
    return dense_clone(inputs.out).copy_(tensor_of(results["output"], inputs.out))


def whole_map(shape: tuple[int, int, int, int], kernel: int, stride: int, padding: int) -> Inputs:
    """Every pixel is listed."""
    sides = [max((side + 2 * padding - kernel) // stride + 1, 0) for side in shape[2:]]
    mask = torch.ones(shape[0], 1, *sides, dtype=torch.bool)
    out = dense_map(torch.full((*shape[:2], *sides), math.nan), CPU)
    x = dense_map(torch.randn(shape), CPU)
    return Inputs(out, x, mask, listed_pixels(mask, CPU), kernel, stride, padding)


@pytest.mark.parametrize("index", range(144))
def test_agrees_with_reference(module: ModuleType, index: int) -> None:
    inputs = random_inputs(index, CPU)
    check_against_reference(output_of(random_call(index).run(module), inputs), inputs)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite(module: ModuleType, value: float) -> None:
    for shape in ((2, 8, 9, 7), (2, 3, 9, 7)):
        inputs = whole_map(shape, 3, 2, 1)
        inputs.x[torch.rand(shape) < 0.1] = value
        inputs.x[0] = -math.inf
        check_against_reference(output_of(make_call(inputs).run(module), inputs), inputs)


@pytest.mark.parametrize("order", ["reversed", "1"])
def test_the_order_of_threads_changes_nothing(
    module: ModuleType, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [random_call(index) for index in range(36)]
    expected = [call.run(module)["output"] for call in calls]
    monkeypatch.setenv("HPVOD_SIMT_ORDER", order)
    for call, wanted in zip(calls, expected, strict=True):
        assert np.array_equal(call.run(module)["output"], wanted)


@pytest.mark.parametrize(("channels", "side"), [(1, 730), (300, 47)])
def test_more_than_the_grid_has_threads_for(module: ModuleType, channels: int, side: int) -> None:
    """So that a thread takes a second pixel, or a second run of channels."""
    inputs = whole_map((1, channels, side, side), 1, 1, 0)
    check_against_reference(output_of(make_call(inputs).run(module), inputs), inputs)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 1, 5)])
def test_empty(module: ModuleType, shape: tuple[int, int, int, int]) -> None:
    make_call(whole_map(shape, 2, 2, 0)).run(module)


def test_a_list_without_room(module: ModuleType) -> None:
    inputs = whole_map((1, 3, 4, 5), 2, 2, 0)
    nothing = inputs.pixels._replace(indices=torch.empty(0, dtype=torch.int32))
    call = make_call(replace(inputs, pixels=nothing))
    assert np.array_equal(call.run(module)["output"], call.arrays["output"])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"in_height": 2**15, "in_width": 2**15 + 1}, r"N \* H \* W must not exceed 2\^30"),
        ({"batch": 2**62}, r"N \* H \* W must not exceed 2\^30"),
        ({"channels": 2**31}, "neither C nor"),
        ({"padding": 2}, "kernel must exceed padding"),
        ({"stride": 0}, "stride be at least 1"),
        ({"stride": 9}, "outside the input"),
    ],
)
def test_what_the_launcher_refuses(module: ModuleType, values: dict[str, int], reason: str) -> None:
    call = make_call(whole_map((1, 3, 6, 6), 2, 2, 0))
    with pytest.raises(RuntimeError, match=reason):
        replace(call, values={**call.values, **values}).run(module)


def test_passes_the_sanitizers(module: ModuleType, sanitized: Path, tmp_path: Path) -> None:
    """And gives the same results there."""
    calls = [random_call(index) for index in range(36)]
    for call, results in zip(calls, run_sanitized(sanitized, calls, tmp_path), strict=True):
        assert np.array_equal(call.run(module)["output"], results["output"])
