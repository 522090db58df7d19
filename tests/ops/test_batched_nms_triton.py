"""batched_nms in Triton; where there is a GPU, test_batched_nms.py runs it as well."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from ops.batched_nms_cases import check_equal, literal_nms, random_inputs
from ops.compile_triton import Job, compile_kernels

from hpvod_ops import batched_nms, use_backend

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

from hpvod_ops.triton import batched_nms as triton_nms


@pytest.mark.parametrize("index", range(24))
def test_random_cases(index: int, device: torch.device) -> None:
    inputs = random_inputs(index, device, most=64)
    with use_backend("triton"):
        check_equal(inputs.run(), literal_nms(inputs))


@pytest.mark.parametrize("index", [3, 4, 5, 6, 14, 22])
def test_many_tiles(index: int, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_nms, "TILE", 16)
    monkeypatch.setattr(triton_nms, "KEPT", 4)
    inputs = random_inputs(index, device, most=100)
    with use_backend("triton"):
        check_equal(inputs.run(), literal_nms(inputs))


@pytest.mark.parametrize(("batch", "candidates", "count"), [(0, 4, 3), (2, 0, 3), (2, 4, 0)])
def test_empty(batch: int, candidates: int, count: int, device: torch.device) -> None:
    scores = torch.rand(batch, candidates, device=device)
    boxes = torch.rand(batch, candidates, 4, device=device)
    with use_backend("triton"):
        indices, counts = batched_nms(boxes, scores, scores.long(), 0.5, count)
    assert torch.equal(indices, torch.zeros_like(indices))
    assert (indices.shape, counts.tolist()) == ((batch, count), [0] * batch)


def test_an_order_that_leads_outside_is_not_followed(device: torch.device) -> None:
    boxes = 100 * torch.arange(4.0, device=device)[None, :, None] + torch.zeros(1, 4, 4).to(device)
    order = torch.tensor([[2**40, 3, -1, 1]], device=device)
    labels = torch.zeros(1, 4, dtype=torch.int64, device=device)
    indices, counts = torch.ops.hpvod.batched_nms.triton(boxes, labels, order, None, 0.5, 4)
    assert (indices.tolist(), counts.tolist()) == ([[3, 1, 0, 0]], [2])


def test_opcheck(device: torch.device) -> None:
    boxes = torch.rand(1, 6, 4, device=device)
    labels = torch.zeros(1, 6, dtype=torch.int64, device=device)
    torch.library.opcheck(
        torch.ops.hpvod.batched_nms.triton,
        (boxes, labels, boxes[..., 0].argsort(1), boxes[..., 1] > 0.5, 0.3, 4),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


def test_compiles_ahead_of_time(tmp_path: Path) -> None:
    arguments = {"boxes": "*fp32", "labels": "*i64", "order": "*i64", "valid": "*i1"}
    arguments |= {"indices": "*i64", "counts": "*i32", "threshold": "fp32"}
    constants = {"TILE": triton_nms.TILE, "KEPT": triton_nms.KEPT}
    jobs = [
        Job(
            f"sm_{capability}",
            "hpvod_ops.triton._batched_nms_kernels:nms_kernel",
            capability,
            arguments | constants,
            warps=triton_nms.WARPS,
            fp_fusion=False,
        )
        for capability in (80, 90)
    ]
    for name, compiled in compile_kernels(jobs, tmp_path).items():
        assert compiled.stack == 0, f"{name} spills"
        assert "fma" not in compiled.ptx, name
