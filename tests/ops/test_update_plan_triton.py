"""update_plan in Triton; where there is a GPU, test_update_plan.py runs it as well."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from ops.compile_triton import Job, compile_kernels
from ops.update_plan_cases import Inputs, contents, literal_plan, random_inputs

from hpvod_ops import PixelSet, UpdatePlan, update_plan, use_backend

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

from hpvod_ops.triton import update_plan as triton_plan
from hpvod_ops.triton._update_plan_kernels import FIELDS
from hpvod_ops.triton.update_plan import FRAME_POSITIONS, SCANNED_TILES, TILE_PIXELS

SETS = (
    PixelSet("halo", 2, 9, 13),
    PixelSet("inactive", 1, 5, 7),
    PixelSet("active", 4, 0, 28),
    PixelSet("reached", 4, 20, 26, dilation=2),
)


def plan(inputs: Inputs) -> UpdatePlan:
    with use_backend("triton"):
        return update_plan(inputs.q, inputs.tau, inputs.gamma, sets=inputs.sets, key=inputs.key)


@pytest.mark.parametrize("index", [*range(8), *range(17, 34, 2)])
def test_random_cases(index: int, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_plan, "TILE_PIXELS", 2**13)  # fewer programs to interpret
    inputs = random_inputs(index, device)
    assert contents(plan(inputs)) == literal_plan(inputs)


def test_many_tiles_and_frames_larger_than_a_block(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in ("TILE_PIXELS", "FRAME_POSITIONS", "SCANNED_TILES"):
        monkeypatch.setattr(triton_plan, size, {"TILE_PIXELS": 256}.get(size, 4))
    q = torch.randn(2, 1, 5, 7, device=device)
    inputs = Inputs(q, 0.0, 0.5, None, SETS)
    assert contents(plan(inputs)) == literal_plan(inputs)


@pytest.mark.parametrize(
    ("changed", "gamma", "is_key"), [(29, 0.29, False), (30, 0.29, True), (7, 0.07, False)]
)
def test_a_share_that_equals_gamma_is_no_key_frame(
    changed: int, gamma: float, is_key: bool, device: torch.device
) -> None:
    q = (torch.arange(100) >= changed).float().view(1, 1, 10, 10).to(device)
    found = plan(Inputs(q, 0.0, gamma, None, ()))
    assert found.changed.tolist() == [changed]
    assert found.is_key.tolist() == [is_key]


@pytest.mark.parametrize("shape", [(0, 1, 4, 5), (2, 1, 0, 5)])
def test_empty(shape: tuple[int, ...], device: torch.device) -> None:
    sets = tuple(PixelSet(kind, 2, 2 * shape[2], 2 * shape[3]) for kind in ("active", "reached"))
    found = plan(Inputs(torch.randn(shape, device=device), 0.0, 0.0, None, sets))
    assert found.counts.tolist() == [0, 0]
    assert found.changed.tolist() == [0] * shape[0]
    assert found.is_key.tolist() == [False] * shape[0]


def test_compiles_ahead_of_time(tmp_path: Path) -> None:
    pointers = {"q": "*bf16", "mask": "*i1", "forced_key": "*i1", "is_key": "*i1"}
    pointers |= dict.fromkeys(("changed", "tile_counts", "pixels", "counts"), "*i32")
    arguments: dict[str, object] = {**pointers, "tau": "fp64"}
    arguments |= {"sets": ["i32"] * (8 * FIELDS.value), "SETS": 8, "PIXELS": TILE_PIXELS}
    arguments |= {"POSITIONS": FRAME_POSITIONS, "SCANNED": SCANNED_TILES}
    jobs = [
        Job(
            f"{kernel} sm_{capability}",
            f"hpvod_ops.triton._update_plan_kernels:{kernel}",
            capability,
            arguments,
        )
        for kernel in ("mask_kernel", "count_kernel", "list_kernel")
        for capability in (80, 90)
    ]
    for name, compiled in compile_kernels(jobs, tmp_path).items():
        assert compiled.stack == 0, f"{name} spills"
