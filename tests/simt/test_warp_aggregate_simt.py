"""The CUDA sources of `warp_aggregate`, run on the CPU, against Eq. 7, 10 and 11 in float64."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from ops.listed_cases import DTYPES, PATTERNS, patterned_mask
from simt import simt_build
from simt.op_calls import OpCall, bytes_of, name_of, run_sanitized, tensor_of
from torch import Tensor

NAME = "warp_aggregate"
SOURCES = [simt_build.KERNELS / f"{NAME}.cu", simt_build.HERE / "bindings" / f"{NAME}.cpp"]
WILD = (math.nan, math.inf, -math.inf, 1e30, -1e30, 2.0**31, -(2.0**31))


@pytest.fixture(scope="module")
def module(cache: Path) -> ModuleType:
    return simt_build.load(simt_build.build(NAME, SOURCES, cache))


@pytest.fixture(scope="module")
def sanitized(cache: Path, _sanitizer: None) -> Path:
    return simt_build.build(NAME, SOURCES, cache, sanitize=True)


@dataclass(frozen=True)
class Inputs:
    key_feature: Tensor
    key_embedding: Tensor
    feature: Tensor
    embedding: Tensor
    flow: Tensor
    mask: Tensor | None = None
    own_feature: Tensor | None = None
    own_embedding: Tensor | None = None
    scale: Tensor | None = None


def random_inputs(index: int) -> Inputs:
    """Every fourth case has the same dtype; a third has no mask, half of the others a scale.

    What is not to be read is NaN: the current maps where the mask is 0, the scale where it is 1,
    and the own maps where it is 1 everywhere. Every fifth case has embeddings of zeros.
    """
    choose = random.Random(index)
    generator = torch.Generator().manual_seed(index)
    dtype = DTYPES[index % 4]
    batch = choose.choice((1, 1, 2))
    height, width = choose.choice((1, 2, 3, 4)), choose.choice((1, 2, 3, 5))
    channels, embedding_channels = (choose.choice((1, 3, 8, 16, 72, 130)) for _ in range(2))
    if index % 7 == 0:
        channels, embedding_channels = choose.choice(((1032, 520), (264, 1040), (513, 1041)))
        batch, height, width = 1, 1, 2

    def random_map(size: int) -> Tensor:
        return torch.randn(batch, size, height, width, generator=generator).to(dtype)

    maps = [random_map(size) for size in (channels, embedding_channels) * 3]
    reach = choose.choice((0.3, 1.0, 4.0, 100.0))
    flow = torch.randn(batch, 2, height, width, generator=generator) * reach
    if choose.random() < 0.2:
        flow = flow.round()
    if index % 5 == 0:
        for each in maps[1::2]:
            each *= (torch.rand(batch, 1, height, width, generator=generator) < 0.5).to(dtype)
    inputs = Inputs(*maps[:4], flow.to(choose.choice((dtype, torch.float32))))
    if index % 3 == 0:
        return inputs
    mask = patterned_mask(PATTERNS[index % 9], batch, height, width, index)
    for each in maps[2:4]:
        each.masked_fill_(~mask, math.nan)
    if mask.all():
        for each in maps[4:]:
            each.fill_(math.nan)
    scale = None
    if choose.random() < 0.5:
        scale = random_map(channels).masked_fill_(mask, math.nan)
    return replace(inputs, mask=mask, own_feature=maps[4], own_embedding=maps[5], scale=scale)


def warped(values: Tensor, flow: Tensor) -> Tensor:
    """Eq. 1 in float64, one pixel after the other; a corner of no weight is not looked at."""
    batch, _, height, width = values.shape
    output = torch.zeros(values.shape, dtype=torch.float64)
    for n, y, x in np.ndindex(batch, height, width):
        dx, dy = flow[n, :, y, x].double().tolist()
        if not (abs(dx) < 1e9 and abs(dy) < 1e9):
            continue
        left, top = math.floor(dx), math.floor(dy)
        for corner_x, weight_x in ((x + left, left + 1 - dx), (x + left + 1, dx - left)):
            for corner_y, weight_y in ((y + top, top + 1 - dy), (y + top + 1, dy - top)):
                if 0 <= corner_x < width and 0 <= corner_y < height and weight_x * weight_y != 0:
                    value = values[n, :, corner_y, corner_x].double()
                    output[n, :, y, x] += weight_x * weight_y * value
    return output


def truth(inputs: Inputs) -> Tensor:
    """Eq. 7 and 11, word for word, with the selection of Eq. 10."""
    feature, embedding = inputs.feature.double(), inputs.embedding.double()
    if inputs.mask is not None and not inputs.mask.all():
        assert inputs.own_feature is not None and inputs.own_embedding is not None
        own = warped(inputs.own_feature, inputs.flow)
        if inputs.scale is not None:
            own = own * inputs.scale
        feature = torch.where(inputs.mask, feature, own)
        embedding = torch.where(inputs.mask, embedding, warped(inputs.own_embedding, inputs.flow))
    embeddings = torch.stack((warped(inputs.key_embedding, inputs.flow), embedding))
    norms = embeddings.norm(dim=2, keepdim=True).clamp(min=1e-12)
    dots = (embeddings * embedding).sum(dim=2, keepdim=True)
    weights = (dots / (norms * norms[-1])).softmax(dim=0)
    return (weights * torch.stack((warped(inputs.key_feature, inputs.flow), feature))).sum(dim=0)


def largest(inputs: Inputs) -> float:
    """Of what the features' sums are made of."""
    maps = [each for each in (inputs.key_feature, inputs.feature) if each.numel() > 0]
    size = max((float(each.nan_to_num().abs().max()) for each in maps), default=0.0)
    if inputs.own_feature is None or inputs.own_feature.numel() == 0:
        return size
    own = float(inputs.own_feature.nan_to_num().abs().max())
    scale = 1.0 if inputs.scale is None else float(inputs.scale.nan_to_num().abs().max())
    return max(size, own * max(scale, 1.0))


def check(result: Tensor, inputs: Inputs) -> None:
    """Rounded once to its type, after sums in the accumulation type."""
    expected = truth(inputs)
    wide = torch.float64 if result.dtype == torch.float64 else torch.float32
    sums = 8 * torch.finfo(wide).eps * largest(inputs)
    bound = torch.finfo(result.dtype).eps / 2 * expected.abs() + sums
    assert (result.shape, result.dtype) == (expected.shape, inputs.feature.dtype)
    assert ((result.double() - expected).abs() <= bound).all()


def make_call(inputs: Inputs, address: int = 0) -> OpCall:
    """The output is poisoned."""
    batch, channels, height, width = inputs.feature.shape
    arrays = {"output": bytes_of(torch.full_like(inputs.feature, math.nan))}
    for name in (field.name for field in fields(Inputs)):
        tensor = getattr(inputs, name)
        if name in ("flow", "mask"):
            # Never misaligned: as a 4-byte type, or bytes that are no map.
            if tensor is not None:
                wanted = torch.int8 if name == "mask" else torch.int16
                arrays[name] = tensor.contiguous().view(wanted).numpy()
        elif tensor is not None:
            arrays[name] = bytes_of(tensor)
    return OpCall(
        {
            "batch": batch,
            "channels": channels,
            "embedding_channels": inputs.embedding.shape[1],
            "height": height,
            "width": width,
            "dtype": name_of(inputs.feature.dtype),
            "flow_dtype": name_of(inputs.flow.dtype),
        },
        arrays,
        address,
    )


def random_call(index: int) -> OpCall:
    """Three in eight at an address where 16-byte accesses would fault."""
    inputs = random_inputs(index)
    return make_call(inputs, inputs.feature.element_size() if index % 8 < 3 else 0)


def run(module: ModuleType, inputs: Inputs) -> Tensor:
    return tensor_of(make_call(inputs).run(module)["output"], inputs.feature)


def plain_inputs(dtype: torch.dtype = torch.float32, mask: bool = True) -> Inputs:
    """Without anything that is not to be read."""
    shape = (2, 24, 5, 7)
    maps = [torch.randn(2, size, *shape[2:]).to(dtype) for size in (24, 40) * 3]
    inputs = Inputs(*maps[:4], torch.randn(2, 2, *shape[2:]))
    if not mask:
        return inputs
    pattern = patterned_mask("half", 2, *shape[2:], 1)
    return replace(
        inputs,
        mask=pattern,
        own_feature=maps[4],
        own_embedding=maps[5],
        scale=torch.randn(shape).to(dtype),
    )


@pytest.mark.parametrize("index", range(144))
def test_agrees_with_the_equations(module: ModuleType, index: int) -> None:
    inputs = random_inputs(index)
    check(tensor_of(random_call(index).run(module)["output"], inputs.feature), inputs)


def test_exact_where_the_weights_are(module: ModuleType) -> None:
    """Of embeddings of zeros, or of no channels, the mean."""
    shape = (2, 8, 5, 7)
    for channels in (5, 0):
        zeros = torch.zeros(2, channels, 5, 7)
        key, feature, own, scale = (torch.randint(-4, 5, shape).float() for _ in range(4))
        flow = torch.randint(-12, 13, (2, 2, 5, 7)) / 4
        mask = patterned_mask("half", 2, 5, 7, 1)
        inputs = Inputs(key, zeros, feature, zeros, flow, mask, own, zeros, scale)
        assert torch.equal(run(module, inputs).double(), truth(inputs))


def test_a_mask_of_ones_is_none(module: ModuleType) -> None:
    inputs = plain_inputs(mask=False)
    nothing = torch.full_like(inputs.feature, math.nan)
    masked = replace(
        inputs,
        mask=torch.ones(2, 1, 5, 7, dtype=torch.bool),
        own_feature=nothing,
        own_embedding=torch.full_like(inputs.embedding, math.nan),
        scale=nothing,
    )
    assert torch.equal(run(module, masked), run(module, inputs))


def test_outside_the_map_the_current_frame_outweighs_nothing(module: ModuleType) -> None:
    """The warped key is zeros there: of cosine 0, beside 1."""
    inputs = plain_inputs(mask=False)
    flow = torch.full_like(inputs.flow, 100.0)
    output = run(module, replace(inputs, flow=flow))
    weight = 1 / (1 + math.exp(-1))
    assert torch.allclose(output, weight * inputs.feature, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("bad", WILD)
def test_flow_that_points_nowhere(module: ModuleType, bad: float, dtype: torch.dtype) -> None:
    inputs = plain_inputs(dtype)
    pixels = torch.rand(2, 5, 7) < 0.3
    far, wild = inputs.flow.clone(), inputs.flow.clone()
    axis = int(bad > 0)
    far[:, axis][pixels], wild[:, axis][pixels] = 1000.0, bad
    expected = run(module, replace(inputs, flow=far))
    assert torch.equal(run(module, replace(inputs, flow=wild)), expected)


def test_what_has_no_weight_is_not_read(module: ModuleType) -> None:
    inputs = plain_inputs()
    flow = torch.zeros_like(inputs.flow)  # whole pixels: three corners have no weight
    expected = run(module, replace(inputs, flow=flow))
    spoilt = {
        name: getattr(inputs, name).clone()
        for name in ("key_feature", "key_embedding", "own_feature", "own_embedding")
    }
    for each in spoilt.values():
        each[..., ::2] = math.nan
    output = run(module, replace(inputs, flow=flow, **spoilt))
    assert torch.equal(output[..., 1::2], expected[..., 1::2])
    assert output[..., ::2].isnan().all()


def test_every_pixel_that_reads_a_nan_has_it_and_no_other(module: ModuleType) -> None:
    inputs = plain_inputs(mask=False)
    flow = torch.full_like(inputs.flow, 0.5)
    expected = run(module, replace(inputs, flow=flow))
    for name in ("key_feature", "key_embedding"):
        spoilt = getattr(inputs, name).clone()
        spoilt[0, 3, 2, 4] = math.nan
        output = run(module, replace(inputs, flow=flow, **{name: spoilt}))
        reads = torch.zeros(5, 7, dtype=torch.bool)
        reads[1:3, 3:5] = True
        touched = output.isnan().any(dim=1)
        assert torch.equal(touched[0], reads) and not touched[1].any()
        kept = ~touched[:, None].expand_as(output)
        assert torch.equal(output[kept], expected[kept])


def test_an_image_does_not_depend_on_its_batch(module: ModuleType) -> None:
    inputs = plain_inputs()
    batch = run(module, inputs)
    for n in range(2):
        parts = {
            field.name: getattr(inputs, field.name)[n : n + 1].clone() for field in fields(Inputs)
        }
        assert torch.equal(run(module, Inputs(**parts)), batch[n : n + 1])


@pytest.mark.parametrize("order", ["reversed", "1"])
def test_the_order_of_threads_changes_nothing(
    module: ModuleType, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [random_call(index) for index in range(36)]
    expected = [call.run(module)["output"] for call in calls]
    monkeypatch.setenv("HPVOD_SIMT_ORDER", order)
    for call, wanted in zip(calls, expected, strict=True):
        assert np.array_equal(call.run(module)["output"], wanted)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_empty(module: ModuleType, shape: tuple[int, int, int, int]) -> None:
    feature = torch.randn(shape)
    embedding, flow = (torch.randn(shape[0], size, *shape[2:]) for size in (4, 2))
    make_call(Inputs(feature, embedding, feature, embedding, flow)).run(module)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"height": 2**15, "width": 2**15 + 1}, r"N \* H \* W must not exceed 2\^30"),
        ({"batch": 2**62}, r"N \* H \* W must not exceed 2\^30"),
        ({"batch": 1, "height": 1, "width": 2**29 + 1}, "a side must not exceed"),
        ({"channels": 2**31}, "neither C nor E"),
        ({"embedding_channels": 2**31}, "neither C nor E"),
    ],
)
def test_what_the_launcher_refuses(module: ModuleType, values: dict[str, int], reason: str) -> None:
    call = make_call(plain_inputs())
    with pytest.raises(RuntimeError, match=reason):
        replace(call, values={**call.values, **values}).run(module)


def test_passes_the_sanitizers(module: ModuleType, sanitized: Path, tmp_path: Path) -> None:
    """And gives the same results there, wild flows among them."""
    calls = []
    for index in range(48):
        inputs = random_inputs(index)
        if index % 3 == 0:
            chosen = torch.rand(inputs.flow.shape) < 0.3
            wild = torch.tensor(WILD)[torch.arange(int(chosen.sum())) % len(WILD)]
            inputs.flow[chosen] = wild.to(inputs.flow.dtype)
        calls.append(make_call(inputs, inputs.feature.element_size() if index % 8 < 3 else 0))
    for call, results in zip(calls, run_sanitized(sanitized, calls, tmp_path), strict=True):
        assert np.array_equal(call.run(module)["output"], results["output"])


def test_one_map_that_is_not_aligned_keeps_all_from_vectors(
    module: ModuleType, sanitized: Path, tmp_path: Path
) -> None:
    """Elsewhere a GPU faults, and the sanitized build with it."""
    call = make_call(plain_inputs())
    names = [name for name, array in call.arrays.items() if array.dtype == np.uint8]
    calls = [replace(call, address=4, alone=name) for name in names]
    for each, results in zip(calls, run_sanitized(sanitized, calls, tmp_path), strict=True):
        assert np.array_equal(each.run(module)["output"], results["output"])
