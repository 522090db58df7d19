"""The CUDA sources of `aggregate`, run on the CPU, against Eq. 2 and 3 in float64."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from ops.listed_cases import DTYPES
from simt import simt_build
from simt.op_calls import OpCall, bytes_of, name_of, run_sanitized, tensor_of
from torch import Tensor

SOURCES = [simt_build.KERNELS / "aggregate.cu", simt_build.HERE / "bindings" / "aggregate.cpp"]


@pytest.fixture(scope="module")
def module(cache: Path) -> ModuleType:
    return simt_build.load(simt_build.build("aggregate", SOURCES, cache))


@pytest.fixture(scope="module")
def sanitized(cache: Path, _sanitizer: None) -> Path:
    return simt_build.build("aggregate", SOURCES, cache, sanitize=True)


@dataclass(frozen=True)
class Inputs:
    features: list[Tensor]  # T times [N, C, H, W]
    embeddings: list[Tensor]  # T times [N, E, H, W]


def random_inputs(index: int) -> Inputs:
    """Every fourth case has the same dtype; channels are odd, or more than a warp loads at once.

    Every fifth case has embeddings of zeros, the current frame's among them.
    """
    choose = random.Random(index)
    generator = torch.Generator().manual_seed(index)
    dtype = DTYPES[index % 4]
    frames = choose.choice((1, 2, 2, 3, 4, 5, 6, 9, 13))
    shape = choose.choice(((1, 1, 1), (1, 3, 3), (2, 2, 3), (1, 1, 5)))
    channels, embedding_channels = (choose.choice((1, 3, 8, 16, 72, 130)) for _ in range(2))
    if index % 7 == 0:
        frames, shape = choose.choice((31, 32, 33, 34, 63, 64)), (1, 1, 2)
    elif index % 3 == 0:
        channels, embedding_channels = choose.choice(((1032, 520), (264, 1040), (513, 1041)))
        shape = (1, 1, 2)

    def random_maps(size: int) -> list[Tensor]:
        maps = torch.randn(frames, shape[0], size, *shape[1:], generator=generator).to(dtype)
        return list(maps)

    # As alike as the frames of a video are: otherwise all cosines were near 0.
    features, embeddings = random_maps(channels), random_maps(embedding_channels)
    alike = torch.rand(frames, generator=generator).to(dtype)
    embeddings = [
        each * (1 - a) + embeddings[-1] * a for each, a in zip(embeddings, alike, strict=True)
    ]
    if index % 5 == 0:
        for each in embeddings:
            each *= (torch.rand(shape[0], 1, *shape[1:], generator=generator) < 0.5).to(dtype)
    return Inputs(features, embeddings)


def truth(inputs: Inputs) -> Tensor:
    """Eq. 2 and 3, word for word."""
    embeddings = torch.stack(inputs.embeddings).double()
    norms = embeddings.norm(dim=2, keepdim=True).clamp(min=1e-12)
    dots = (embeddings * embeddings[-1]).sum(dim=2, keepdim=True)
    weights = (dots / (norms * norms[-1])).softmax(dim=0)
    return (weights * torch.stack(inputs.features).double()).sum(dim=0)


def check(result: Tensor, inputs: Inputs) -> None:
    """Rounded once to its type, after sums in the accumulation type."""
    expected = truth(inputs)
    wide = torch.float64 if result.dtype == torch.float64 else torch.float32
    largest = max((float(each.abs().max()) for each in inputs.features), default=0.0)
    bound = torch.finfo(result.dtype).eps / 2 * expected.abs() + 8 * torch.finfo(wide).eps * largest
    assert (result.shape, result.dtype) == (expected.shape, inputs.features[-1].dtype)
    assert ((result.double() - expected).abs() <= bound).all()


def make_call(inputs: Inputs, address: int = 0) -> OpCall:
    """The output is poisoned."""
    current = inputs.features[-1]
    batch, channels, height, width = current.shape
    arrays = {"output": bytes_of(torch.full_like(current, math.nan))}
    for t, (feature, embedding) in enumerate(zip(inputs.features, inputs.embeddings, strict=True)):
        arrays |= {f"features_{t}": bytes_of(feature), f"embeddings_{t}": bytes_of(embedding)}
    return OpCall(
        {
            "frames": len(inputs.features),
            "pixels": batch * height * width,
            "channels": channels,
            "embedding_channels": inputs.embeddings[-1].shape[1],
            "dtype": name_of(current.dtype),
        },
        arrays,
        address,
    )


def random_call(index: int) -> OpCall:
    """Every third case at an address where 16-byte accesses would fault."""
    inputs = random_inputs(index)
    return make_call(inputs, inputs.features[0].element_size() if index % 8 < 3 else 0)


def output_of(results: dict[str, np.ndarray], inputs: Inputs) -> Tensor:
    return tensor_of(results["output"], inputs.features[-1])


@pytest.mark.parametrize("index", range(128))
def test_agrees_with_the_equations(module: ModuleType, index: int) -> None:
    check(output_of(random_call(index).run(module), random_inputs(index)), random_inputs(index))


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_one_frame_comes_back_as_it_is(module: ModuleType, dtype: torch.dtype) -> None:
    feature, embedding = (torch.randn(2, size, 3, 3).to(dtype) for size in (24, 40))
    embedding[0] = 0
    inputs = Inputs([feature], [embedding])
    assert torch.equal(output_of(make_call(inputs).run(module), inputs), feature)


@pytest.mark.parametrize("frames", [2, 4, 64])
def test_without_embeddings_the_mean(module: ModuleType, frames: int) -> None:
    """Of zeros, or of no channels, all cosines are 0."""
    features = [torch.randint(-4, 5, (1, 8, 2, 2)).float() for _ in range(frames)]
    for channels in (5, 0):
        inputs = Inputs(features, [torch.zeros(1, channels, 2, 2)] * frames)
        output = output_of(make_call(inputs).run(module), inputs)
        assert torch.equal(output, torch.stack(features).mean(dim=0))


@pytest.mark.parametrize("size", [1e-15, 1e15])
def test_sizes_of_embeddings_do_not_matter(module: ModuleType, size: float) -> None:
    """Nor those too small for float32 to square, whose cosines are 0."""
    inputs = random_inputs(4 * 11)
    scaled = [each.float() * size for each in inputs.embeddings]
    inputs = Inputs([each.float() for each in inputs.features], scaled)
    check(output_of(make_call(inputs).run(module), inputs), inputs)


def test_a_pixel_depends_on_no_other(module: ModuleType) -> None:
    features = [torch.randn(1, 24, 3, 3) for _ in range(3)]
    embeddings = [torch.randn(1, 40, 3, 3) for _ in range(3)]
    expected = output_of(
        make_call(Inputs(features, embeddings)).run(module), Inputs(features, embeddings)
    )
    features[0][:, :, 1, 1] = math.nan
    embeddings[2][:, :, 2, 0] = math.nan
    spoilt = Inputs(features, embeddings)
    output = output_of(make_call(spoilt).run(module), spoilt)
    bad = torch.zeros(3, 3, dtype=torch.bool)
    bad[1, 1] = bad[2, 0] = True
    assert output[..., bad].isnan().all()
    assert torch.equal(output[..., ~bad], expected[..., ~bad])
    alone = Inputs([each[..., :1] for each in features], [each[..., :1] for each in embeddings])
    assert torch.equal(
        output_of(make_call(alone).run(module), alone)[:, :, :2], expected[:, :, :2, :1]
    )


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
    embedding = torch.randn(shape[0], 4, *shape[2:])
    make_call(Inputs([torch.randn(shape)] * 2, [embedding] * 2)).run(module)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"frames": 0}, "T must be 1 to 64"),
        ({"frames": 65}, "T must be 1 to 64"),
        ({"pixels": 2**30 + 1}, r"N \* H \* W must not exceed 2\^30"),
        ({"channels": 2**31}, "neither C nor E"),
        ({"embedding_channels": 2**31}, "neither C nor E"),
    ],
)
def test_what_the_launcher_refuses(module: ModuleType, values: dict[str, int], reason: str) -> None:
    call = random_call(0)
    with pytest.raises(RuntimeError, match=reason):
        replace(call, values={**call.values, **values}).run(module)


def test_passes_the_sanitizers(module: ModuleType, sanitized: Path, tmp_path: Path) -> None:
    """And gives the same results there."""
    calls = [random_call(index) for index in range(48)]
    for call, results in zip(calls, run_sanitized(sanitized, calls, tmp_path), strict=True):
        assert np.array_equal(call.run(module)["output"], results["output"])


def test_one_map_that_is_not_aligned_keeps_all_from_vectors(
    module: ModuleType, sanitized: Path, tmp_path: Path
) -> None:
    """Elsewhere a GPU faults, and the sanitized build with it."""
    call = make_call(
        Inputs(
            [torch.randn(1, 24, 2, 2) for _ in range(3)],
            [torch.randn(1, 40, 2, 2) for _ in range(3)],
        )
    )
    names = [name for name, array in call.arrays.items() if array.dtype == np.uint8]
    calls = [replace(call, address=4, alone=name) for name in names]
    for each, results in zip(calls, run_sanitized(sanitized, calls, tmp_path), strict=True):
        assert np.array_equal(each.run(module)["output"], results["output"])
