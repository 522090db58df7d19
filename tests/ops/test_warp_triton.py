"""What is particular to warp in Triton; test_warp.py holds it to the same as all backends."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ops.compile_triton import Job, compile_kernels
from ops.warp_cases import (
    LAYOUTS,
    NAMES,
    check_against_reference,
    evaluate,
    exact_inputs,
    random_inputs,
)

from hpvod_ops import use_backend, warp
from hpvod_ops.triton import unavailable_reason

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

from hpvod_ops.triton import _launch
from hpvod_ops.triton import warp as triton_warp
from hpvod_ops.triton.warp import (
    LINK_PIXELS,
    gather_tile,
    stream_tile,
    warp_backward,
    warp_forward,
)


@pytest.mark.parametrize("index", range(16, 48))
def test_programs_that_loop_over_all_channels(
    index: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_warp, "ENOUGH_PROGRAMS", 1)
    inputs = random_inputs(index, device)
    with use_backend("triton"):
        check_against_reference(evaluate(warp, inputs), inputs)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_wide_offsets_give_the_same(
    layout: torch.memory_format, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = exact_inputs(device, layout)
    with use_backend("triton"):
        narrow = evaluate(warp, inputs)
        monkeypatch.setattr(_launch, "INT32_ELEMENTS", 0)
        wide = evaluate(warp, inputs)
    for name, result, expected in zip(NAMES, wide, narrow, strict=True):
        assert torch.equal(result, expected), name


BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp64": 8}


def jobs(capability: int, dtype: str, layout: str, wide: bool) -> list[Job]:
    """Every kernel, for maps of 1024 channels."""
    pointer, index = f"*{dtype}", "*i64" if wide else "*i32"
    last = layout == "channels_last"
    stream = stream_tile(1024, 1024, BYTES[dtype], last)
    gather = gather_tile(1024, 1024, BYTES[dtype], last)
    maps = ("feature", "scale", "output", "grad_output", "grad_feature", "grad_scale")
    arguments: dict[str, object] = dict.fromkeys(maps, pointer)
    arguments |= {"flow": "*fp32", "grad_flow": "*fp32", "head": index, "following": index}
    arguments |= {"CHANNELS_LAST": last, "WIDE": wide, "DOUBLE": dtype == "fp64"}

    def job(kernel: str, block: dict[str, int], warps: int) -> Job:
        name = f"{kernel} sm_{capability} {dtype} {layout}"
        module = "hpvod_ops.triton._warp_kernels"
        return Job(name, f"{module}:{kernel}", capability, arguments | block, warps)

    tiles = {"forward": stream, "grad_feature": gather, "grad_flow_scale": stream}
    return [
        job(f"{name}_kernel", {"PIXELS": tile.pixels, "CHANNELS": tile.channels}, tile.warps)
        for name, tile in tiles.items()
    ] + [job("link_kernel", {"PIXELS": LINK_PIXELS}, 4)]


def test_compiles_ahead_of_time(tmp_path: Path) -> None:
    layouts = ("channels_last", "contiguous")
    variants = [(90, dtype, layout, False) for dtype in ("fp32", "bf16") for layout in layouts]
    variants += [(80, "fp16", "channels_last", True), (80, "fp64", "contiguous", True)]
    for name, compiled in compile_kernels(
        [job for variant in variants for job in jobs(*variant)], tmp_path
    ).items():
        assert compiled.stack == 0, f"{name} spills"
        if "channels_last" in name and "link" not in name:
            assert compiled.ptx.count("ld.global.v4.b32") >= 2, name
            assert "ld.global.b16" not in compiled.ptx, name
            assert "st.global.v4.b32" in compiled.ptx, name


def test_reasons_why_triton_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda", 0)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert unavailable_reason(cpu, torch.bfloat16) is None
    monkeypatch.delenv("TRITON_INTERPRET")
    assert "TRITON_INTERPRET=1" in str(unavailable_reason(cpu, torch.float32))
    assert "mps" in str(unavailable_reason(torch.device("mps"), torch.float32))

    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Some GPU")
    for capability, dtype, runs in (
        ((9, 0), torch.bfloat16, True),
        ((7, 5), torch.float32, True),
        ((7, 5), torch.bfloat16, False),
        ((6, 1), torch.float16, False),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        reason = unavailable_reason(cuda, dtype)
        assert reason is None if runs else "Some GPU has" in str(reason)

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert unavailable_reason(cuda, torch.float32) == "Triton is not installed"


def test_hpvod_ops_needs_no_triton() -> None:
    program = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch, hpvod_ops, hpvod_ops.triton as package\n"
        "reason = package.unavailable_reason(torch.device('cpu'), torch.float32)\n"
        "assert reason == 'Triton is not installed', reason"
    )
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


@pytest.mark.gpu
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_beyond_int32(layout: torch.memory_format) -> None:
    shape = (1, 2, 2**15, 2**15 + 8)  # 2^31 elements and some: 4 GiB a map
    feature = torch.randint(-4, 5, shape, dtype=torch.int8, device="cuda").to(torch.float16)
    feature = feature.contiguous(memory_format=layout)
    flow = torch.zeros(1, 2, *shape[2:], dtype=torch.float16, device="cuda")
    assert feature.numel() > 2**31
    assert torch.equal(warp_forward(feature, flow, None), feature)
    grad_feature, _, _ = warp_backward(feature, feature, flow, None, (True, False, False))
    assert torch.equal(grad_feature, feature)
