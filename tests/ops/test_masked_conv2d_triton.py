"""What is particular to masked_conv2d in Triton: tiles, split sums, offsets, compilation."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ops.compile_triton import Job, compile_kernels
from ops.listed_cases import at
from ops.masked_conv2d_cases import (
    Inputs,
    check_against_reference,
    evaluate,
    exact_inputs,
    random_inputs,
)

from hpvod_ops import PixelList, masked_conv2d_, pack_conv2d, use_backend

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

from hpvod_ops.triton import _launch
from hpvod_ops.triton import masked_conv2d as triton_conv
from hpvod_ops.triton.masked_conv2d import SUM_ROWS, Tile, conv_tile, is_flat

KERNELS = "hpvod_ops.triton._masked_conv2d_kernels"
NAMES = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float64: "fp64",
}


def convolve(inputs: Inputs) -> None:
    with use_backend("triton"):
        masked_conv2d_(
            inputs.out,
            inputs.x,
            pack_conv2d(inputs.weight, inputs.bias),
            inputs.pixels,
            stride=inputs.stride,
            padding=inputs.padding,
            dilation=inputs.dilation,
            relu=inputs.relu,
            residual=inputs.residual,
        )


def split_all_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_conv, "SPLIT_FROM", 1)
    monkeypatch.setattr(triton_conv, "SPLIT_STEPS", 1)
    monkeypatch.setattr(_launch, "processors", lambda _: 8)


@pytest.mark.parametrize("index", [*range(1, 19), 21, 24, 28, 31])
def test_random_cases(index: int, device: torch.device) -> None:
    inputs = random_inputs(index, device)
    check_against_reference(evaluate(convolve, inputs), inputs)


@pytest.mark.parametrize("index", [7, 13])
def test_a_program_does_one_tile_after_another(
    index: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_conv, "PROGRAMS_PER_PROCESSOR", 1)
    monkeypatch.setattr(_launch, "processors", lambda _: 1)
    inputs = random_inputs(index, device)
    check_against_reference(evaluate(convolve, inputs), inputs)


@pytest.mark.parametrize("index", [3, 5, 6, 7, 11, 12, 13, 15, 30, 33, 38])
def test_split_sums(index: int, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    split_all_sums(monkeypatch)
    inputs = random_inputs(index, device)
    result = evaluate(convolve, inputs)
    check_against_reference(result, inputs)


@pytest.mark.parametrize("count", [0, 1, 40])
def test_split_sums_are_the_same_sums(
    count: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = exact_inputs(device)
    indices, full = inputs.pixels
    inputs = replace(inputs, pixels=PixelList(indices, torch.full_like(full, count)))
    whole = evaluate(convolve, inputs)
    split_all_sums(monkeypatch)
    assert torch.equal(evaluate(convolve, inputs), whole)


def test_split_sums_give_the_same_bits_each_time(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_all_sums(monkeypatch)
    inputs = random_inputs(5, device)
    first, second = (at(inputs.mask, evaluate(convolve, inputs)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_tiles(
    dtype: torch.dtype, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = exact_inputs(device, dtype, channels=(20, 130))
    small = evaluate(convolve, inputs)
    monkeypatch.setattr(triton_conv, "ENOUGH_TILES", 1)
    assert conv_tile(dtype, 20, 130, 126, flat=False).pixels == 128
    assert torch.equal(evaluate(convolve, inputs), small)


@pytest.mark.parametrize("channels", [(3, 20), (20, 70)])
def test_wide_offsets_give_the_same(
    channels: tuple[int, int], device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_all_sums(monkeypatch)
    inputs = exact_inputs(device, channels=channels)
    narrow = evaluate(convolve, inputs)
    monkeypatch.setattr(_launch, "INT32_ELEMENTS", 0)
    assert torch.equal(evaluate(convolve, inputs), narrow)


def job(
    capability: int,
    dtype: torch.dtype,
    in_channels: int,
    capacity: int,
    *,
    split: bool = False,
    wide: bool = False,
) -> Job:
    """A layer with 256 channels out of `in_channels`, and its name."""
    flat = is_flat(in_channels)
    tile = conv_tile(dtype, in_channels, 256, capacity, flat)
    total = "*fp64" if dtype == torch.float64 else "*fp32"
    arguments = dict.fromkeys(("input", "weight", "residual", "output"), f"*{NAMES[dtype]}")
    arguments |= dict.fromkeys(("bias", "partial"), total) | {"pixels": "*i32", "count": "*i32"}
    constants = {
        "TAPS": 9,
        "KERNEL_WIDTH": 3,
        "FLAT": flat,
        "RELU": True,
        "WIDE": wide,
        "PIXELS": tile.pixels,
        "OUTPUTS": tile.outputs,
        "DEPTH": tile.depth,
    }
    if not split:
        constants["partial"] = None
    return Job(
        f"sm_{capability} {NAMES[dtype]} {in_channels} {tile.pixels}",
        f"{KERNELS}:conv_kernel",
        capability,
        arguments | constants,
        tile.warps,
        tile.stages,
    )


def sum_job(capability: int, tile: Tile) -> Job:
    arguments = dict.fromkeys(("residual", "output"), "*bf16")
    arguments |= dict.fromkeys(("bias", "partial"), "*fp32") | {"pixels": "*i32", "count": "*i32"}
    constants = {"RELU": True, "WIDE": False, "ROWS": SUM_ROWS}
    constants |= {"PIXELS": tile.pixels, "OUTPUTS": tile.outputs}
    return Job("sum", f"{KERNELS}:sum_kernel", capability, arguments | constants)


def test_compiles_ahead_of_time(tmp_path: Path) -> None:
    jobs = [
        job(90, torch.bfloat16, 256, 2394, split=True),
        job(90, torch.bfloat16, 256, 37500, wide=True),
        job(90, torch.float16, 3, 37500),
        job(90, torch.float32, 256, 2394),
        job(80, torch.bfloat16, 256, 37500),
        job(80, torch.float64, 256, 2394, split=True),
        sum_job(90, conv_tile(torch.bfloat16, 256, 256, 2394, flat=False)),
    ]
    for name, compiled in compile_kernels(jobs, tmp_path).items():
        assert compiled.stack == 0, f"{name} spills"
        assert compiled.shared <= 99 * 1024, f"{name}: two programs do not share an H100's memory"
        if "fp16 3" in name or name == "sum":
            continue
        gathered = compiled.ptx.count("cp.async.cg.shared.global")
        assert gathered == len(re.findall(r"cp\.async\.c.*, 0x10, ", compiled.ptx)) > 0, name
        if "fp32" not in name:
            instruction = "wgmma.mma_async" if "sm_90" in name else "mma.sync"
            assert instruction in compiled.ptx, name


@pytest.mark.gpu
def test_beyond_int32(device: torch.device) -> None:
    # 2^31 elements and some: 4 GiB a map.
    x, out = (
        torch.zeros(1, 2**13, 2**14 + 1, 16, dtype=torch.float16, device=device) for _ in range(2)
    )
    rows, results = x.view(-1, 16), out.view(-1, 16)
    rows[-10:] = torch.arange(160, device=device).view(10, 16)
    last = torch.arange(len(rows) - 10, len(rows), dtype=torch.int32, device=device)
    pixels = PixelList(last, torch.full((1,), 10, dtype=torch.int32, device=device))
    with use_backend("triton"):
        weight = pack_conv2d(torch.eye(16, dtype=torch.float16, device=device)[:, :, None, None])
        masked_conv2d_(out.permute(0, 3, 1, 2), x.permute(0, 3, 1, 2), weight, pixels)
    assert torch.equal(results[-20:], rows[-20:])
