"""warp_aggregate in Triton; where there is a GPU, test_warp_aggregate.py runs it as well."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ops.compile_triton import Job, compile_kernels
from ops.listed_cases import patterned_mask
from ops.warp_aggregate_cases import Inputs, check_against_reference, evaluate, random_inputs
from ops.warp_cases import LAYOUTS
from torch import Tensor

from hpvod_ops import reference, use_backend, warp_aggregate

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

from hpvod_ops.triton import _launch
from hpvod_ops.triton._similarity import channel_tile

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp64": 8}
MAPS = ("key_feature", "key_embedding", "feature", "embedding", "output")
OWN = ("own_feature", "own_embedding", "scale")


def run(inputs: Inputs) -> Tensor:
    with use_backend("triton"):
        return warp_aggregate(**inputs.arguments())


def plain_inputs(device: torch.device) -> Inputs:
    """Without anything that is not to be read."""

    def maps(size: int) -> Tensor:
        return torch.randn(1, size, 3, 5, device=device)

    mask = patterned_mask("half", 1, 3, 5, 1).to(device)
    return Inputs(
        maps(24), maps(40), maps(24), maps(40), maps(2), mask, maps(24), maps(40), maps(24)
    )


# Without those that take the interpreter seconds.
@pytest.mark.parametrize("index", [each for each in range(36) if each % 9 and each % 11])
def test_random_cases(index: int, device: torch.device) -> None:
    inputs = random_inputs(index, device)
    check_against_reference(run(inputs), inputs)


def test_exact_where_the_weights_are(device: torch.device) -> None:
    """Of embeddings of zeros, or of no channels, the mean."""
    shape = (1, 8, 3, 5)
    for channels in (5, 0):
        zeros = torch.zeros(1, channels, 3, 5, device=device)
        key, feature, own, scale = (
            torch.randint(-4, 5, shape).float().to(device) for _ in range(4)
        )
        flow = (torch.randint(-12, 13, (1, 2, 3, 5)) / 4).to(device)
        mask = patterned_mask("half", 1, 3, 5, 1).to(device)
        inputs = Inputs(key, zeros, feature, zeros, flow, mask, own, zeros, scale)
        assert torch.equal(run(inputs), evaluate(reference.warp_aggregate, inputs))


def test_wide_offsets_give_the_same(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = plain_inputs(device)
    narrow = run(inputs)
    monkeypatch.setattr(_launch, "INT32_ELEMENTS", 0)
    assert torch.equal(run(inputs), narrow)


def test_what_the_mask_leaves_out_is_not_read(device: torch.device) -> None:
    inputs = plain_inputs(device)
    assert inputs.mask is not None and inputs.scale is not None
    spoilt = replace(
        inputs,
        feature=inputs.feature.masked_fill(~inputs.mask, math.nan),
        embedding=inputs.embedding.masked_fill(~inputs.mask, math.nan),
        scale=inputs.scale.masked_fill(inputs.mask, math.nan),
    )
    assert torch.equal(run(spoilt), run(inputs))


def test_a_mask_of_ones_is_none(device: torch.device) -> None:
    inputs = plain_inputs(device)
    assert inputs.mask is not None
    nothing = torch.full_like(inputs.feature, math.nan)
    ones = replace(
        inputs,
        mask=torch.ones_like(inputs.mask),
        own_feature=nothing,
        own_embedding=torch.full_like(inputs.embedding, math.nan),
        scale=nothing,
    )
    without = replace(inputs, mask=None, own_feature=None, own_embedding=None, scale=None)
    assert torch.equal(run(ones), run(without))


def test_what_has_no_weight_is_not_read(device: torch.device) -> None:
    inputs = plain_inputs(device)
    inputs = replace(inputs, flow=torch.zeros_like(inputs.flow))  # three corners have no weight
    expected = run(inputs)
    for name in ("key_feature", "key_embedding", "own_feature", "own_embedding"):
        getattr(inputs, name)[..., ::2] = math.nan
    output = run(inputs)
    assert torch.equal(output[..., 1::2], expected[..., 1::2])
    assert output[..., ::2].isnan().all()


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # the interpreter's, in NumPy
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, -(2.0**31)])
def test_flow_that_points_nowhere(bad: float, device: torch.device) -> None:
    inputs = plain_inputs(device)
    pixels = torch.rand(1, 3, 5, device=device) < 0.3
    far, wild = inputs.flow.clone(), inputs.flow.clone()
    far[:, 0][pixels], wild[:, 0][pixels] = 1000.0, bad
    expected = run(replace(inputs, flow=far))
    assert torch.equal(run(replace(inputs, flow=wild)), expected)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_layouts_change_nothing_but_the_results_own(
    layout: torch.memory_format, device: torch.device
) -> None:
    inputs = plain_inputs(device)
    strided = {
        name: each.contiguous(memory_format=torch.channels_last)
        for name, each in inputs.floats().items()
        if name != "feature"
    }
    feature = inputs.feature.contiguous(memory_format=layout)
    assert inputs.mask is not None
    mask = inputs.mask.expand(1, 2, 3, 5)[:, ::2].transpose(2, 3).contiguous().transpose(2, 3)
    output = run(replace(inputs, **strided, feature=feature, mask=mask))
    assert output.is_contiguous(memory_format=layout)
    assert torch.equal(output, run(inputs))


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5)])
def test_empty(shape: tuple[int, int, int, int], device: torch.device) -> None:
    maps = torch.randn(shape, device=device)
    flow = torch.randn(shape[0], 2, *shape[2:], device=device)
    assert run(Inputs(maps, maps, maps, maps, flow)).shape == shape


def test_compiles_ahead_of_time(tmp_path: Path) -> None:
    jobs = []
    for capability, dtype, masked, wide in (
        (90, "bf16", True, False),
        (90, "fp32", False, True),
        (80, "fp16", False, False),
        (80, "fp64", True, False),
    ):
        tile = channel_tile(2048, BYTES[dtype])
        arguments: dict[str, object] = dict.fromkeys((*MAPS, *OWN), f"*{dtype}")
        arguments |= {"flow": "*fp32", "mask": "*i1", "WIDE": wide}
        arguments |= {"PIXELS": tile.pixels, "CHANNELS": tile.channels}
        if not masked:
            arguments |= dict.fromkeys((*OWN, "mask"))
        kernel = "hpvod_ops.triton._warp_aggregate_kernels:warp_aggregate_kernel"
        jobs.append(Job(f"sm_{capability} {dtype}", kernel, capability, arguments, tile.warps))
    for job, compiled in zip(jobs, compile_kernels(jobs, tmp_path).values(), strict=True):
        assert compiled.stack == 0, f"{job.name} spills"
        # A barrier would make a warp wait for the others' pixels.
        assert "bar.sync" not in compiled.ptx, job.name
        wide_loads = compiled.ptx.count("ld.global.v4.b32") + compiled.ptx.count("ld.global.v2.b64")
        # Both passes load four corners and the current map; with a mask, its own corners, too.
        assert wide_loads == (2 * 9 + 1 if job.arguments["mask"] else 2 * 5), job.name
