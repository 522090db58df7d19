"""aggregate in Triton; where there is a GPU, test_aggregate.py runs it as well."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from ops.aggregate_cases import Inputs, check_against_reference, random_inputs
from ops.compile_triton import Job, compile_kernels
from ops.warp_cases import DTYPES, LAYOUTS
from torch import Tensor

from hpvod_ops import aggregate, use_backend

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

from hpvod_ops.triton import _launch
from hpvod_ops.triton._similarity import channel_tile

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp64": 8}


def average(inputs: Inputs) -> Tensor:
    with use_backend("triton"):
        return aggregate(inputs.features, inputs.embeddings)


@pytest.mark.parametrize("index", range(48))
def test_random_cases(index: int, device: torch.device) -> None:
    inputs = random_inputs(index, device)
    check_against_reference((average(inputs),), inputs)


def test_wide_offsets_give_the_same(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = random_inputs(10, device)
    narrow = average(inputs)
    monkeypatch.setattr(_launch, "INT32_ELEMENTS", 0)
    assert torch.equal(average(inputs), narrow)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_frame_comes_back_as_it_is(dtype: torch.dtype, device: torch.device) -> None:
    feature, embedding = (torch.randn(2, size, 3, 3).to(device, dtype) for size in (24, 40))
    embedding[0] = 0
    with use_backend("triton"):
        assert torch.equal(aggregate([feature], [embedding]), feature)


@pytest.mark.parametrize("channels", [0, 5])
def test_embeddings_of_zeros_give_the_mean(channels: int, device: torch.device) -> None:
    features = [torch.randint(-4, 5, (1, 8, 2, 2)).float().to(device) for _ in range(64)]
    embeddings = [torch.zeros(1, channels, 2, 2, device=device)] * 64
    with use_backend("triton"):
        output = aggregate(features, embeddings)
    assert torch.equal(output, torch.stack(features).mean(dim=0))


def test_a_nan_stays_in_its_pixel(device: torch.device) -> None:
    features = [torch.randn(1, 24, 3, 3, device=device) for _ in range(3)]
    embeddings = [torch.randn(1, 40, 3, 3, device=device) for _ in range(3)]
    inputs = Inputs(features, embeddings, features[0])
    expected = average(inputs)
    features[0][:, :, 1, 1] = torch.nan
    embeddings[2][:, :, 2, 0] = torch.nan
    output = average(inputs)
    bad = torch.zeros(3, 3, dtype=torch.bool)
    bad[1, 1] = bad[2, 0] = True
    assert output[..., bad].isnan().all()
    assert torch.equal(output[..., ~bad], expected[..., ~bad])


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_keeps_the_layout_of_the_current_features(
    layout: torch.memory_format, device: torch.device
) -> None:
    other, current = (torch.randn(2, 6, 5, 7, device=device) for _ in range(2))
    current = current.contiguous(memory_format=layout)
    with use_backend("triton"):
        output = aggregate([other, current], [other, current])
    assert output.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5)])
def test_empty(shape: tuple[int, int, int, int], device: torch.device) -> None:
    maps = [torch.randn(shape, device=device)] * 2
    with use_backend("triton"):
        assert aggregate(maps, maps).shape == shape


def test_compiles_ahead_of_time(tmp_path: Path) -> None:
    jobs = []
    for capability, dtype, frames, wide in (
        (90, "bf16", 2, False),
        (90, "bf16", 25, False),
        (90, "fp32", 5, True),
        (80, "fp16", 3, False),
        (80, "fp64", 2, False),
    ):
        tile = channel_tile(2048, BYTES[dtype])
        arguments: dict[str, object] = dict.fromkeys(
            ("features", "embeddings"), [f"*{dtype}"] * frames
        )
        arguments |= {"output": f"*{dtype}", "FRAMES": frames, "WIDE": wide}
        arguments |= {"PIXELS": tile.pixels, "CHANNELS": tile.channels}
        kernel = "hpvod_ops.triton._aggregate_kernels:aggregate_kernel"
        name = f"sm_{capability} {dtype} {frames}"
        jobs.append(Job(name, kernel, capability, arguments, tile.warps))
    for job, compiled in zip(jobs, compile_kernels(jobs, tmp_path).values(), strict=True):
        assert compiled.stack == 0, f"{job.name} spills"
        # A barrier would make a warp wait for the others' pixels.
        assert "bar.sync" not in compiled.ptx, job.name
        wide_loads = compiled.ptx.count("ld.global.v4.b32") + compiled.ptx.count("ld.global.v2.b64")
        # The current embedding, it and each other one, and the features.
        assert wide_loads == 1 + 2 * (job.arguments["FRAMES"] - 1) + job.arguments["FRAMES"]
        assert compiled.ptx.count("ld.global") == wide_loads, job.name
