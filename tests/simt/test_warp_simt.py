"""The CUDA sources of `warp`, run on the CPU, against the reference."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from types import ModuleType

import pytest
import torch
from ops.warp_cases import (
    DTYPES,
    LAYOUTS,
    NAMES,
    Inputs,
    check_against_reference,
    evaluate,
    exact_inputs,
    random_inputs,
)
from simt import simt_build
from simt.warp_calls import Call
from torch import Tensor

from hpvod_ops import reference

CPU = torch.device("cpu")
LAYOUT_NAMES = {torch.contiguous_format: "contiguous", torch.channels_last: "channels_last"}


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def make_call(inputs: Inputs, layout: torch.memory_format, **more: object) -> Call:
    def to_bytes(tensor: Tensor, is_map: bool):
        if is_map and layout == torch.channels_last:
            tensor = tensor.permute(0, 2, 3, 1)
        return tensor.contiguous().flatten().view(torch.uint8).numpy()

    batch, channels, height, width = inputs.grad_output.shape
    tensors = {name: getattr(inputs, name) for name in ("feature", "flow", "scale", "grad_output")}
    return Call(
        shape={
            "batch": batch,
            "feature_batch": inputs.feature.shape[0],
            "channels": channels,
            "height": height,
            "width": width,
            "layout": LAYOUT_NAMES[layout],
            "dtype": name_of(inputs.feature.dtype),
            "flow_dtype": name_of(inputs.flow.dtype),
        },
        inputs={
            name: to_bytes(tensor, name != "flow")
            for name, tensor in tensors.items()
            if tensor is not None
        },
        **more,
    )


def to_tensors(results: dict, inputs: Inputs, layout: torch.memory_format) -> tuple[Tensor, ...]:
    """In the order of NAMES."""
    like = dict(
        zip(NAMES, (inputs.grad_output, inputs.feature, inputs.flow, inputs.scale), strict=True)
    )
    tensors = []
    for name in NAMES:
        if name not in results:
            continue
        shape = torch.Size(like[name].shape)
        flat = torch.empty(shape.numel(), dtype=like[name].dtype)
        flat.view(torch.uint8)[:] = torch.from_numpy(results[name])
        if name != "grad_flow" and layout == torch.channels_last:
            batch, channels, height, width = shape
            tensors.append(flat.view(batch, height, width, channels).permute(0, 3, 1, 2))
        else:
            tensors.append(flat.view(shape))
    return tuple(tensors)


def run(
    warp: ModuleType, inputs: Inputs, layout: torch.memory_format, **more: object
) -> tuple[Tensor, ...]:
    return to_tensors(make_call(inputs, layout, **more).run(warp), inputs, layout)


def assert_same(results: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for name, result, wanted in zip(NAMES, results, expected, strict=False):
        assert torch.equal(result, wanted), name


@pytest.mark.parametrize("index", range(208))
def test_agrees_with_reference(warp: ModuleType, index: int) -> None:
    inputs = random_inputs(index, CPU)
    # Every third case at an address where 16-byte accesses would fault.
    address = inputs.feature.element_size() if index % 3 == 0 else 0
    results = run(warp, inputs, LAYOUTS[index // 4 % 2], address=address)
    check_against_reference(results, inputs)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_exact_where_the_sums_are(warp: ModuleType, layout: torch.memory_format) -> None:
    inputs = exact_inputs(CPU)
    assert_same(run(warp, inputs, layout), evaluate(reference.warp, inputs))


@pytest.mark.parametrize("order", ["reversed", "1", "2"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_the_order_of_threads_changes_nothing(
    warp: ModuleType, layout: torch.memory_format, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [random_inputs(index, CPU) for index in range(24)]
    expected = [run(warp, inputs, layout) for inputs in cases]
    monkeypatch.setenv("HPVOD_SIMT_ORDER", order)
    for inputs, wanted in zip(cases, expected, strict=True):
        assert_same(run(warp, inputs, layout), wanted)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, -1e30, 2.0**31, -(2.0**31)])
def test_flow_that_points_nowhere(
    warp: ModuleType, bad: float, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    exact = exact_inputs(CPU)
    pixels = torch.rand(2, 5, 7) < 0.3
    axis = int(bad > 0)
    far, wild = exact.flow.clone(), exact.flow.clone()
    far[:, axis][pixels], wild[:, axis][pixels] = 1000.0, bad

    def inputs(flow: Tensor) -> Inputs:
        return Inputs(
            exact.feature.to(dtype), flow, exact.scale.to(dtype), exact.grad_output.to(dtype)
        )

    expected = run(warp, inputs(far), layout)
    results = run(warp, inputs(wild), layout)
    assert_same(results, expected)
    for result in (results[0], results[2], results[3]):
        assert not result.permute(0, 2, 3, 1)[pixels].any()


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_every_pixel_reads_the_same_four(warp: ModuleType, layout: torch.memory_format) -> None:
    exact = exact_inputs(CPU)
    flow = torch.empty(2, 2, 5, 7)
    flow[:, 0] = 2.25 - torch.arange(7)
    flow[:, 1] = 3.5 - torch.arange(5)[:, None]
    inputs = Inputs(exact.feature, flow, exact.scale, exact.grad_output)
    assert_same(run(warp, inputs, layout), evaluate(reference.warp, inputs))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_only_the_wanted_gradients(warp: ModuleType, layout: torch.memory_format) -> None:
    call = make_call(exact_inputs(CPU), layout)
    complete = call.run(warp)
    for name in ("feature", "flow", "scale"):
        one = Call(call.shape, call.inputs, wanted=frozenset((name,))).run(warp)
        assert one.keys() == {"output", f"grad_{name}"}
        assert (one[f"grad_{name}"] == complete[f"grad_{name}"]).all()


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_empty(
    warp: ModuleType, shape: tuple[int, int, int, int], layout: torch.memory_format
) -> None:
    batch, channels, height, width = shape
    maps = torch.randn(shape)
    inputs = Inputs(
        torch.randn(1, channels, height, width), torch.randn(batch, 2, height, width), maps, maps
    )
    for result in run(warp, inputs, layout):
        assert not result.any()


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_more_images_than_a_grid_is_high(warp: ModuleType, layout: torch.memory_format) -> None:
    maps = torch.randint(-4, 5, (65535 + 9, 1, 1, 1)).float()
    flow = torch.randint(-3, 4, (65535 + 9, 2, 1, 1)) / 4
    inputs = Inputs(maps, flow, None, maps.flip(0))
    assert_same(run(warp, inputs, layout), evaluate(reference.warp, inputs))


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({"height": 2**15, "width": 2**15}, r"N \* \(H \+ 1\) \* \(W \+ 1\) must not exceed 2\^30"),
        ({"batch": 2**62}, r"N \* \(H \+ 1\) \* \(W \+ 1\) must not exceed 2\^30"),
        ({"channels": 2**31}, r"C must not exceed 2\^30"),
    ],
)
def test_more_than_an_index_holds(warp: ModuleType, sizes: dict[str, int], reason: str) -> None:
    call = make_call(exact_inputs(CPU), torch.contiguous_format)
    shape = warp.WarpShape(**{**call.shape, **sizes})
    inputs = call.inputs
    with pytest.raises(RuntimeError, match=reason):
        warp.forward(shape, inputs["feature"], inputs["flow"], None, inputs["grad_output"])


def test_passes_the_sanitizers(warp: ModuleType, sanitized_warp: Path, tmp_path: Path) -> None:
    """And gives the same results there, wild flows among them."""
    calls = []
    for index in range(72):
        inputs = random_inputs(index, CPU)
        if index % 4 == 0:
            wild = torch.tensor([math.nan, math.inf, -math.inf, 1e30, -1e30, 2.0**31])
            chosen = torch.rand(inputs.flow.shape) < 0.3
            inputs.flow[chosen] = wild.to(inputs.flow.dtype)[torch.arange(int(chosen.sum())) % 6]
        address = inputs.feature.element_size() if index % 3 == 0 else 0
        calls.append(make_call(inputs, LAYOUTS[index // 4 % 2], address=address))
    (tmp_path / "calls").write_bytes(pickle.dumps(calls))
    done = simt_build.run_sanitized(
        sanitized_warp,
        "import runpy, sys\n"
        f"sys.argv[1:] = {[str(tmp_path / 'calls'), str(tmp_path / 'results')]}\n"
        "runpy.run_module('simt.warp_calls', run_name='__main__')\n",
    )
    assert done.returncode == 0, done.stderr
    for call, results in zip(calls, pickle.loads((tmp_path / "results").read_bytes()), strict=True):
        for name, expected in call.run(warp).items():
            assert (results[name] == expected).all(), name
