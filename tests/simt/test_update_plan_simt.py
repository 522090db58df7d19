"""The CUDA sources of `update_plan`, run on the CPU, against the reference: equal, bit by bit."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from ops.update_plan_cases import random_inputs
from simt import simt_build
from simt.op_calls import OpCall, bytes_of, name_of, run_sanitized
from torch import Tensor

from hpvod_ops import PixelSet, UpdatePlan, reference

SOURCES = [
    simt_build.KERNELS / "update_plan.cu",
    simt_build.HERE / "bindings" / "update_plan.cpp",
]
OUTPUTS = ("mask", "is_key", "changed", "pixels", "counts")
UNSET = -7  # what a place holds that no thread has written


@pytest.fixture(scope="module")
def module(cache: Path) -> ModuleType:
    return simt_build.load(simt_build.build("update_plan", SOURCES, cache))


@pytest.fixture(scope="module")
def sanitized(cache: Path, _sanitizer: None) -> Path:
    return simt_build.build("update_plan", SOURCES, cache, sanitize=True)


def make_call(
    q: Tensor, sets: list[PixelSet], *, tau: float = 0.0, gamma: float = 0.5, key: Tensor | None
) -> tuple[OpCall, dict[str, np.ndarray]]:
    """The call, and what the reference makes of it."""
    batch, _, height, width = q.shape
    plan = UpdatePlan.empty(batch, height, width, sets, "cpu")
    arrays = {
        "q": bytes_of(q),
        "mask": np.zeros(q.numel(), bool),
        "is_key": np.zeros(batch, bool),
        "changed": np.full(batch, UNSET, np.int32),
        "pixels": np.full(plan.pixels.numel(), UNSET, np.int32),
        "counts": np.full(len(sets), UNSET, np.int32),
    }
    if key is not None:
        arrays["key"] = key.numpy()
    values = {
        "batch": batch,
        "height": height,
        "width": width,
        "dtype": name_of(q.dtype),
        "tau": tau,
        "gamma": gamma,
        "sets": [plan.layout[i : i + 6] for i in range(0, len(plan.layout), 6)],
    }
    plan.pixels.fill_(UNSET)
    reference.update_plan(q, tau, gamma, key, plan)
    expected = {name: getattr(plan, name).numpy().flatten() for name in OUTPUTS}
    return OpCall(values, arrays), expected


def random_call(index: int) -> tuple[OpCall, dict[str, np.ndarray]]:
    inputs = random_inputs(index, torch.device("cpu"))
    return make_call(
        inputs.q, list(inputs.sets), tau=inputs.tau, gamma=inputs.gamma, key=inputs.key
    )


def assert_equal(results: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name, wanted in expected.items():
        assert np.array_equal(results[name], wanted), name


@pytest.mark.parametrize("index", range(96))
def test_agrees_with_reference(module: ModuleType, index: int) -> None:
    call, expected = random_call(index)
    assert_equal(call.run(module), expected)


@pytest.mark.parametrize("order", ["reversed", "1", "2"])
def test_the_order_of_threads_changes_nothing(
    module: ModuleType, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPVOD_SIMT_ORDER", order)
    for index in range(1, 13):
        call, expected = random_call(index)
        assert_equal(call.run(module), expected)


def test_the_sets_of_a_whole_frame(module: ModuleType) -> None:
    """ResNet's layers at 600x1000, so that a list has many tiles."""
    sides = {1: (38, 63), 2: (75, 125), 4: (150, 250), 8: (300, 500)}
    sets = [PixelSet("active", ratio, *sides[ratio]) for ratio in (1, 2, 4)]
    sets += [PixelSet("halo", ratio, *sides[ratio]) for ratio in (1, 2, 4)]
    sets += [PixelSet("halo", 1, *sides[1], 6), PixelSet("reached", 8, *sides[8])]
    sets += [PixelSet("inactive", 1, *sides[1])]
    call, expected = make_call(torch.randn(1, 1, 38, 63), sets, gamma=0.9, key=None)
    assert_equal(call.run(module), expected)


def test_a_list_of_more_pixels_than_tiles_of_one_chunk_hold(module: ModuleType) -> None:
    sets = [PixelSet("reached", 3, 1030, 1030), PixelSet("active", 1, 3, 7)]
    call, expected = make_call(torch.randn(1, 1, 350, 350), sets, gamma=1.0, key=None)
    assert_equal(call.run(module), expected)


@pytest.mark.parametrize("shape", [(0, 1, 4, 5), (2, 1, 0, 5), (2, 1, 4, 0)])
def test_empty(module: ModuleType, shape: tuple[int, int, int, int]) -> None:
    layer = (0, 0) if 0 in shape[2:] else (8, 10)
    for sets in ([], [PixelSet("reached", 2, *layer), PixelSet("inactive", 1, 0, 3)]):
        for key in (None, torch.ones(shape[0], dtype=torch.bool)):
            call, expected = make_call(torch.randn(shape), sets, key=key)
            assert_equal(call.run(module), expected)


@pytest.mark.parametrize("values", [{"gamma": 2 / 3}, {"tau": math.nan}, {"gamma": math.nan}])
def test_no_key_frame_at_the_limit(module: ModuleType, values: dict[str, float]) -> None:
    q = torch.tensor([-1.0, -1.0, 1.0]).view(1, 1, 1, 3)
    call, expected = make_call(q, [PixelSet("active", 1, 1, 3)], key=None, **values)
    results = call.run(module)
    assert_equal(results, expected)
    assert not results["is_key"].any()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"height": 2**15, "width": 2**15 + 1}, r"N \* h \* w must not exceed 2\^30"),
        ({"sets": [(0, 1, 1, 2**15, 2**15 + 1, 0)]}, r"N \* H \* W of a layer must not exceed"),
        ({"sets": [(0, 0, 1, 3, 3, 0)]}, "ratio must be at least 1"),
        ({"height": 0}, "Q is empty, a layer is not"),
    ],
)
def test_what_the_launcher_refuses(module: ModuleType, values: dict, reason: str) -> None:
    call, _ = make_call(torch.randn(1, 1, 3, 3), [PixelSet("active", 1, 3, 3)], key=None)
    with pytest.raises(RuntimeError, match=reason):
        OpCall({**call.values, **values}, call.arrays).run(module)


def test_passes_the_sanitizers(sanitized: Path, tmp_path: Path) -> None:
    """And gives the same results there."""
    cases = [random_call(index) for index in range(1, 7)]
    results = run_sanitized(sanitized, [call for call, _ in cases], tmp_path)
    for result, (_, expected) in zip(results, cases, strict=True):
        assert_equal(result, expected)
