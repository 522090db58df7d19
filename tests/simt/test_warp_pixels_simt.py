"""The CUDA sources of `warp_pixels_`, run on the CPU, against the reference."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from ops.listed_cases import DTYPES, dense_clone, dense_map, listed_pixels
from ops.warp_pixels_cases import (
    Inputs,
    check_against_reference,
    compose,
    evaluate,
    exact_inputs,
    random_inputs,
)
from simt import simt_build
from simt.op_calls import OpCall, bytes_of, name_of, run_sanitized, tensor_of
from torch import Tensor

CPU = torch.device("cpu")
SOURCES = [
    simt_build.KERNELS / "warp_pixels.cu",
    simt_build.HERE / "bindings" / "warp_pixels.cpp",
]


@pytest.fixture(scope="module")
def module(cache: Path) -> ModuleType:
    return simt_build.load(simt_build.build("warp_pixels", SOURCES, cache))


@pytest.fixture(scope="module")
def sanitized(cache: Path, _sanitizer: None) -> Path:
    return simt_build.build("warp_pixels", SOURCES, cache, sanitize=True)


def make_call(inputs: Inputs, address: int = 0) -> OpCall:
    batch, channels, height, width = inputs.out.shape
    # Not as bytes: the flow keeps its own alignment whatever the maps' is.
    flow = inputs.flow.flatten().view(torch.int16).numpy()
    arrays = {
        "feature": bytes_of(inputs.feature),
        "flow": flow,
        "pixels": inputs.pixels.indices.numpy(),
        "count": inputs.pixels.count.numpy(),
        "output": bytes_of(inputs.out),
    }
    if inputs.scale is not None:
        arrays["scale"] = bytes_of(inputs.scale)
    return OpCall(
        {
            "batch": batch,
            "channels": channels,
            "height": height,
            "width": width,
            "flow_height": inputs.flow.shape[2],
            "flow_width": inputs.flow.shape[3],
            "ratio": inputs.ratio,
            "dtype": name_of(inputs.feature.dtype),
            "flow_dtype": name_of(inputs.flow.dtype),
        },
        arrays,
        address,
    )


def random_call(index: int) -> OpCall:
    """Every third case at an address where 16-byte accesses would fault."""
    inputs = random_inputs(index, CPU)
    return make_call(inputs, inputs.feature.element_size() if index % 3 == 0 else 0)


def output_of(results: dict[str, np.ndarray], inputs: Inputs) -> Tensor:
    return dense_clone(inputs.out).copy_(tensor_of(results["output"], inputs.out))


def whole_map(shape: tuple[int, int, int, int], ratio: int = 1) -> Inputs:
    """Every pixel is listed."""
    mask = torch.ones(shape[0], 1, *shape[2:], dtype=torch.bool)
    sides = [-(-side // ratio) for side in shape[2:]]
    return Inputs(
        out=dense_map(torch.full(shape, math.nan), CPU),
        feature=dense_map(torch.randn(shape), CPU),
        flow=torch.randn(shape[0], 2, *sides),
        scale=None,
        mask=mask,
        pixels=listed_pixels(mask, CPU),
        ratio=ratio,
    )


@pytest.mark.parametrize("index", range(144))
def test_agrees_with_reference(module: ModuleType, index: int) -> None:
    inputs = random_inputs(index, CPU)
    check_against_reference(output_of(random_call(index).run(module), inputs), inputs)


@pytest.mark.parametrize("ratio", [1, 2, 4, 8])
def test_exact_where_the_sums_are(module: ModuleType, ratio: int) -> None:
    inputs = exact_inputs(CPU, ratio)
    output = output_of(make_call(inputs).run(module), inputs)
    assert torch.equal(output, evaluate(compose, inputs))


@pytest.mark.parametrize("order", ["reversed", "1"])
def test_the_order_of_threads_changes_nothing(
    module: ModuleType, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [random_call(index) for index in range(36)]
    expected = [call.run(module)["output"] for call in calls]
    monkeypatch.setenv("HPVOD_SIMT_ORDER", order)
    for call, wanted in zip(calls, expected, strict=True):
        assert np.array_equal(call.run(module)["output"], wanted)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, 2.0**31, -(2.0**31)])
def test_flow_that_points_nowhere(module: ModuleType, bad: float, dtype: torch.dtype) -> None:
    exact = exact_inputs(CPU)
    flow = exact.flow.clone()
    flow[:, int(bad > 0)][torch.rand(flow[:, 0].shape) < 0.3] = bad
    out, feature, scale = (
        dense_map(tensor.to(dtype), CPU) for tensor in (exact.out, exact.feature, exact.scale)
    )
    inputs = replace(exact, out=out, feature=feature, scale=scale, flow=flow)
    check_against_reference(output_of(make_call(inputs).run(module), inputs), inputs)


def test_what_has_no_weight_is_not_read(module: ModuleType) -> None:
    exact = exact_inputs(CPU, ratio=1)
    feature = dense_map(exact.feature, CPU)
    feature[0, :, ::2] = math.nan
    flow = torch.zeros_like(exact.flow)
    inputs = replace(exact, feature=feature, flow=flow)
    output = output_of(make_call(inputs).run(module), inputs)
    expected = torch.where(exact.mask, feature * exact.scale, exact.out)
    assert torch.equal(output.nan_to_num(nan=99), expected.nan_to_num(nan=99))


@pytest.mark.parametrize(("channels", "side"), [(1, 726), (300, 47)])
def test_more_than_the_grid_has_threads_for(module: ModuleType, channels: int, side: int) -> None:
    """So that a thread takes a second pixel, or a second run of channels."""
    inputs = whole_map((1, channels, side, side), ratio=2)
    check_against_reference(output_of(make_call(inputs).run(module), inputs), inputs)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_empty(module: ModuleType, shape: tuple[int, int, int, int]) -> None:
    make_call(whole_map(shape)).run(module)


def test_a_list_without_room(module: ModuleType) -> None:
    inputs = whole_map((1, 3, 4, 5))
    nothing = inputs.pixels._replace(indices=torch.empty(0, dtype=torch.int32))
    call = make_call(replace(inputs, pixels=nothing))
    assert np.array_equal(call.run(module)["output"], call.arrays["output"])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"height": 2**15, "width": 2**15 + 1}, r"N \* H \* W must not exceed 2\^30"),
        ({"flow_height": 2**15, "flow_width": 2**14 + 1}, r"nor N \* h \* w 2\^29"),
        ({"batch": 2**62}, r"N \* H \* W must not exceed 2\^30"),
        ({"height": 1, "width": 2**29 + 1}, "a side must not exceed"),
        ({"channels": 2**31}, "neither C nor"),
        ({"ratio": 0}, "ratio must be 1"),
        ({"flow_height": 0}, "the flow is empty"),
    ],
)
def test_what_the_launcher_refuses(module: ModuleType, values: dict[str, int], reason: str) -> None:
    call = make_call(whole_map((1, 3, 6, 6)))
    with pytest.raises(RuntimeError, match=reason):
        replace(call, values={**call.values, **values}).run(module)


def test_passes_the_sanitizers(module: ModuleType, sanitized: Path, tmp_path: Path) -> None:
    """And gives the same results there, wild flows among them."""
    calls = []
    for index in range(36):
        inputs = random_inputs(index, CPU)
        if index % 3 == 0:
            wild = torch.tensor([math.nan, math.inf, -math.inf, 1e30, -1e30, 2.0**31])
            chosen = torch.rand(inputs.flow.shape) < 0.3
            inputs.flow[chosen] = wild.to(inputs.flow.dtype)[torch.arange(int(chosen.sum())) % 6]
        calls.append(make_call(inputs, inputs.feature.element_size() if index % 4 == 0 else 0))
    for call, results in zip(calls, run_sanitized(sanitized, calls, tmp_path), strict=True):
        assert np.array_equal(call.run(module)["output"], results["output"])
