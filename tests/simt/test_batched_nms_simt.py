"""The CUDA sources of `batched_nms`, run on the CPU, against a literal loop: equal."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from ops.batched_nms_cases import Inputs, check_equal, literal_nms, random_inputs
from simt import simt_build
from simt.op_calls import OpCall, run_sanitized
from torch import Tensor

from hpvod_ops import use_backend

CPU = torch.device("cpu")
SOURCES = [simt_build.KERNELS / "batched_nms.cu", simt_build.HERE / "bindings" / "batched_nms.cpp"]
UNSET = -7  # what a place holds that no thread has written


@pytest.fixture(scope="module")
def module(cache: Path) -> ModuleType:
    return simt_build.load(simt_build.build("batched_nms", SOURCES, cache))


@pytest.fixture(scope="module")
def sanitized(cache: Path, _sanitizer: None) -> Path:
    return simt_build.build("batched_nms", SOURCES, cache, sanitize=True)


def make_call(inputs: Inputs) -> OpCall:
    """Sorted as the public function does."""
    batch, candidates = inputs.scores.shape
    ranked = inputs.scores
    if inputs.valid is not None:
        ranked = ranked.masked_fill(~inputs.valid, -math.inf)
    tensors = {
        "boxes": inputs.boxes,
        "labels": inputs.labels,
        "order": ranked.argsort(dim=1, descending=True, stable=True),
        "indices": torch.full((batch, inputs.count), UNSET),
        "counts": torch.full((batch,), UNSET, dtype=torch.int32),
    }
    if inputs.valid is not None:
        tensors["valid"] = inputs.valid
    values = {
        "batch": batch,
        "candidates": candidates,
        "count": inputs.count,
        "threshold": inputs.threshold,
    }
    return OpCall(values, {name: each.contiguous().numpy() for name, each in tensors.items()})


def results_of(arrays: dict[str, np.ndarray]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(arrays["indices"]), torch.from_numpy(arrays["counts"])


def crowd(batch: int, candidates: int, threshold: float, count: int) -> Inputs:
    """More candidates than a block has threads."""
    corner = 300 * torch.rand(batch, candidates, 2)
    boxes = torch.cat((corner, corner + 60 * torch.rand(corner.shape)), 2)
    labels = torch.randint(0, 2, (batch, candidates))
    return Inputs(boxes, torch.rand(batch, candidates), labels, threshold, count, None)


@pytest.mark.parametrize("index", range(120))
def test_agrees_with_a_literal_loop(module: ModuleType, index: int) -> None:
    inputs = random_inputs(index, CPU)
    check_equal(results_of(make_call(inputs).run(module)), literal_nms(inputs))


@pytest.mark.parametrize(("threshold", "count"), [(0.2, 300), (0.8, 300), (0.8, 1400)])
@pytest.mark.parametrize("with_valid", [False, True])
def test_many_tiles(module: ModuleType, threshold: float, count: int, with_valid: bool) -> None:
    """And more kept boxes than are in shared memory."""
    inputs = crowd(2, 1500, threshold, count)
    if with_valid:
        inputs = replace(inputs, valid=inputs.scores > 0.1)
    with use_backend("reference"):
        expected = inputs.run()
    check_equal(results_of(make_call(inputs).run(module)), expected)
    assert count < 1000 or expected[1].min() > 600


@pytest.mark.parametrize("order", ["reversed", "1", "2"])
def test_the_order_of_threads_changes_nothing(
    module: ModuleType, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPVOD_SIMT_ORDER", order)
    for inputs in (crowd(1, 700, 0.8, 600), *(random_inputs(index, CPU) for index in range(8))):
        with use_backend("reference"):
            expected = inputs.run()
        check_equal(results_of(make_call(inputs).run(module)), expected)


@pytest.mark.parametrize(("batch", "candidates", "count"), [(0, 4, 3), (2, 0, 3), (2, 4, 0)])
@pytest.mark.parametrize("with_valid", [False, True])
def test_empty(
    module: ModuleType, batch: int, candidates: int, count: int, with_valid: bool
) -> None:
    inputs = crowd(batch, candidates, 0.5, count)
    if with_valid:
        inputs = replace(inputs, valid=inputs.scores > 0.5)
    indices, counts = results_of(make_call(inputs).run(module))
    assert not indices.any()
    assert not counts.any()


def test_an_order_that_leads_outside_is_not_followed(module: ModuleType) -> None:
    inputs = crowd(1, 4, 1.0, 4)
    for valid in (None, torch.ones(1, 4, dtype=torch.bool)):
        call = make_call(replace(inputs, valid=valid))
        call.arrays["order"][:] = [2**40, 3, -1, 1]
        indices, counts = results_of(call.run(module))
        assert (indices.tolist(), counts.tolist()) == ([[3, 1, 0, 0]], [2])


@pytest.mark.parametrize("name", ["batch", "candidates", "count"])
def test_what_the_launcher_refuses(module: ModuleType, name: str) -> None:
    call = make_call(crowd(1, 3, 0.5, 2))
    with pytest.raises(RuntimeError, match=r"none of N, K and count must exceed 2\^30"):
        replace(call, values={**call.values, name: 2**30 + 1}).run(module)


def test_passes_the_sanitizers(sanitized: Path, tmp_path: Path) -> None:
    """And gives the same results there."""
    cases = [crowd(1, 600, 0.8, 560), *(random_inputs(index, CPU) for index in range(12))]
    calls = [make_call(inputs) for inputs in cases]
    for result, inputs in zip(run_sanitized(sanitized, calls, tmp_path), cases, strict=True):
        check_equal(results_of(result), literal_nms(inputs))
