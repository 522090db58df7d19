"""The CUDA sources of `masked_conv2d`, run on the CPU, against the reference."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from ops.listed_cases import DTYPES, bits, dense_clone, dense_map, listed_pixels, patterned_mask
from ops.masked_conv2d_cases import (
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

from hpvod_ops import PixelList

CPU = torch.device("cpu")
SOURCES = [
    simt_build.KERNELS / "masked_conv2d.cu",
    simt_build.HERE / "bindings" / "masked_conv2d.cpp",
]
# Those of simt/device.h: on a few multiprocessors there are full rounds of tiles, on many, tiles
# are cut; and each of these without and with tensor cores.
FEW, FEW_MMA, MANY, MANY_MMA = range(4)
DEVICES = {"few": FEW, "few-mma": FEW_MMA, "many": MANY, "many-mma": MANY_MMA}
devices = pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES.keys())


@pytest.fixture(scope="module")
def module(cache: Path) -> ModuleType:
    return simt_build.load(simt_build.build("masked_conv2d", SOURCES, cache))


@pytest.fixture(scope="module")
def sanitized(cache: Path, _sanitizer: None) -> Path:
    return simt_build.build("masked_conv2d", SOURCES, cache, sanitize=True)


def make_call(inputs: Inputs, device: int, address: int = 0) -> OpCall:
    in_place = inputs.residual is inputs.out
    arrays = {
        "x": bytes_of(inputs.x),
        "weight": bytes_of(inputs.weight),
        "pixels": inputs.pixels.indices.numpy(),
        "count": inputs.pixels.count.numpy(),
        "output": bytes_of(inputs.out),
    }
    if inputs.bias is not None:
        arrays["bias"] = inputs.bias.numpy()
    if inputs.residual is not None and not in_place:
        arrays["residual"] = bytes_of(inputs.residual)
    batch, in_channels, *in_size = inputs.x.shape
    _, out_channels, *out_size = inputs.out.shape
    return OpCall(
        {
            "batch": batch,
            "in_channels": in_channels,
            "in_size": in_size,
            "out_channels": out_channels,
            "out_size": out_size,
            "kernel": list(inputs.weight.shape[2:]),
            "stride": inputs.stride,
            "padding": inputs.padding,
            "dilation": inputs.dilation,
            "dtype": name_of(inputs.x.dtype),
            "relu": inputs.relu,
            "in_place": in_place,
            "device": device,
        },
        arrays,
        address,
    )


def result_of(arrays: dict[str, np.ndarray], inputs: Inputs) -> Tensor:
    return dense_clone(inputs.out).copy_(tensor_of(arrays["output"], inputs.out))


def run(module: ModuleType, inputs: Inputs, device: int, address: int = 0) -> Tensor:
    return result_of(make_call(inputs, device, address).run(module), inputs)


def random_case(index: int) -> tuple[Inputs, int, int]:
    """The inputs, the device and the maps' address. Every fifth lies where vectors do not."""
    inputs = random_inputs(index, CPU)
    return inputs, index // 4 % 4, inputs.x.element_size() if index % 5 == 3 else 0


def large_inputs(
    dtype: torch.dtype,
    *,
    channels: tuple[int, int] = (64, 136),
    height: int = 20,
    count: int | None = None,
    kernel: int = 1,
    bias: bool = True,
    residual: bool = True,
) -> Inputs:
    """Integers, so that sums are exact, that fill several tiles of 128 x 128."""
    inputs, outputs = channels
    mask = patterned_mask("full" if count is None else "empty", 2, height, 17, 0)
    if count is not None:
        mask.view(-1)[torch.randperm(mask.numel())[:count]] = True

    def integers(*shape: int) -> Tensor:
        return torch.randint(-2, 3, shape).to(dtype)

    wide = torch.float64 if dtype == torch.float64 else torch.float32
    out = dense_map(integers(2, outputs, height, 17), CPU)
    return Inputs(
        out=out,
        x=dense_map(integers(2, inputs, height, 17), CPU),
        weight=integers(outputs, inputs, kernel, kernel),
        bias=integers(outputs).to(wide) if bias else None,
        residual=out if residual else None,
        mask=mask,
        pixels=listed_pixels(mask, CPU),
        stride=1,
        padding=kernel // 2,
        dilation=1,
        relu=False,
    )


def check_exact(result: Tensor, inputs: Inputs) -> None:
    assert torch.equal(bits(result + 0), bits(evaluate(compose, inputs) + 0))  # -0 is 0


@pytest.mark.parametrize("index", range(144))
def test_agrees_with_reference(module: ModuleType, index: int) -> None:
    inputs, device, address = random_case(index)
    check_against_reference(run(module, inputs, device, address), inputs)


@devices
@pytest.mark.parametrize("channels", [(3, 70), (64, 72), (40, 64)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_exact_where_the_sums_are(
    module: ModuleType, dtype: torch.dtype, channels: tuple[int, int], device: int
) -> None:
    inputs = exact_inputs(CPU, dtype, channels)
    check_exact(run(module, inputs, device), inputs)


@devices
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=name_of)
@pytest.mark.parametrize("count", [1, 63, 64, 65, 128, 129, 300, None])
def test_rounds_of_tiles(
    module: ModuleType, count: int | None, dtype: torch.dtype, device: int
) -> None:
    inputs = large_inputs(dtype, count=count)
    check_exact(run(module, inputs, device), inputs)


@devices
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=name_of)
@pytest.mark.parametrize(("bias", "residual"), [(True, False), (False, True), (False, False)])
def test_tiles_that_are_cut(
    module: ModuleType, bias: bool, residual: bool, dtype: torch.dtype, device: int
) -> None:
    inputs = large_inputs(
        dtype, channels=(80, 24), count=40, kernel=3, bias=bias, residual=residual
    )
    check_exact(run(module, inputs, device), inputs)


@devices
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=name_of)
def test_the_order_of_blocks_and_threads_changes_nothing(
    module: ModuleType, dtype: torch.dtype, device: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the last bit, though another block is then the last to bring its sums."""
    few = large_inputs(dtype, channels=(72, 40), count=30, kernel=3)
    many = large_inputs(dtype, channels=(16, 136), height=12)
    cases = [
        replace(inputs, x=torch.randn_like(inputs.x), weight=torch.randn_like(inputs.weight))
        for inputs in (few, many)
    ]
    expected = [run(module, inputs, device) for inputs in cases]
    for order, (inputs, wanted) in itertools.product(
        ("reversed", "1"), zip(cases, expected, strict=True)
    ):
        monkeypatch.setenv("HPVOD_SIMT_ORDER", order)
        assert torch.equal(bits(run(module, inputs, device)), bits(wanted))


@pytest.mark.parametrize("blocks", [1, 2, 3, 40, 264])
def test_every_step_of_every_tile_has_one_block(module: ModuleType, blocks: int) -> None:
    """And the pieces of cut tiles lie in the workspace side by side, each in its own place."""
    for tiles, steps in itertools.product(
        (*range(1, 50, 3), 152, 263, 265, 600), (0, 1, 7, 36, 288)
    ):
        rows = module.items(tiles, steps, blocks)
        block, tile, begin, end, pieces, first_piece, piece, cut_tile = rows.T
        assert set(tile) == set(range(tiles))
        for number in range(tiles):
            own = np.flatnonzero(tile == number)
            own = own[np.argsort(begin[own])]
            assert begin[own[0]] == 0
            assert end[own[-1]] == steps
            assert np.array_equal(end[own[:-1]], begin[own[1:]])
            assert (pieces[own] == len(own)).all()
            if len(own) > 1:
                assert np.array_equal(piece[own], first_piece[own[0]] + np.arange(len(own)))
        cut = pieces > 1
        assert len(np.unique(piece[cut])) == cut.sum()
        assert (piece[cut] < 2 * blocks).all()
        assert (cut_tile[cut] < blocks).all()
        assert len(np.unique(cut_tile[cut])) == len(np.unique(tile[cut]))
        assert (block < blocks).all()


@devices
def test_a_count_beyond_the_capacity_ends_at_it(module: ModuleType, device: int) -> None:
    inputs = exact_inputs(CPU, torch.float16, (8, 8))
    listed = inputs.pixels.indices[: int(inputs.pixels.count)].clone()
    pixels = PixelList(listed, torch.tensor([2**31 - 1], dtype=torch.int32))
    expected = run(module, inputs, device)
    assert torch.equal(run(module, replace(inputs, pixels=pixels), device), expected)


@devices
@pytest.mark.parametrize(
    ("batch", "in_channels", "out_channels"), [(0, 8, 8), (2, 0, 8), (2, 0, 5), (2, 8, 0)]
)
def test_empty(
    module: ModuleType, batch: int, in_channels: int, out_channels: int, device: int
) -> None:
    inputs = exact_inputs(CPU, torch.float16, (in_channels, out_channels))
    mask = inputs.mask[:batch]
    inputs = replace(
        inputs,
        out=dense_map(inputs.out[:batch], CPU),
        x=dense_map(inputs.x[:batch], CPU),
        residual=dense_map(inputs.residual[:batch], CPU),
        mask=mask,
        pixels=listed_pixels(mask, CPU),
    )
    result = run(module, inputs, device)
    if result.numel() > 0:  # no channels in: bias and residual alone
        total = inputs.residual + inputs.bias[:, None, None].half()
        assert torch.equal(result, torch.where(mask, total.relu(), inputs.out))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"in_size": [2**15, 2**15 + 1]}, r"N \* H \* W must not exceed 2\^30"),
        ({"batch": 2**62}, r"N \* H \* W must not exceed 2\^30"),
        ({"in_channels": 2**31}, "neither the input channels"),
        ({"out_channels": 2**40}, "neither the input channels"),
        ({"stride": 0}, "must be positive"),
        ({"kernel": [1, 0]}, "must be positive"),
        ({"padding": -1}, "must be positive"),
        ({"padding": 2**29}, "too far outside"),
        ({"dilation": 2**29}, "too far outside"),
    ],
)
def test_what_the_launcher_refuses(module: ModuleType, values: dict, reason: str) -> None:
    call = make_call(exact_inputs(CPU, torch.float32, (4, 4)), FEW)
    with pytest.raises(RuntimeError, match=reason):
        OpCall({**call.values, **values}, call.arrays).run(module)


def test_passes_the_sanitizers(module: ModuleType, sanitized: Path, tmp_path: Path) -> None:
    """And gives the same results there."""
    calls = [make_call(*random_case(index)) for index in range(32)]
    calls.append(make_call(large_inputs(torch.bfloat16, channels=(16, 136)), FEW_MMA))
    for call, result in zip(calls, run_sanitized(sanitized, calls, tmp_path), strict=True):
        assert np.array_equal(result["output"], call.run(module)["output"])
