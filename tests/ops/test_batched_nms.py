"""batched_nms through its public function, in the backend of each device."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torchvision
from ops.batched_nms_cases import Inputs, check_equal, literal_nms, random_inputs
from ops.warp_cases import poisoned_memory
from torch import Tensor

from hpvod_ops import batched_nms, use_backend

CASES = 160
# One pixel of overlap and three in all: IoU 1/3; 0 if corners were points.
PAIR = torch.tensor([[[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 2.0, 0.0]]])


def kept(
    boxes: Tensor,
    scores: list[float],
    labels: list[int],
    threshold: float,
    device: torch.device,
    valid: list[bool] | None = None,
) -> list[int]:
    """Of one image."""
    indices, counts = batched_nms(
        boxes.to(device),
        torch.tensor([scores], device=device),
        torch.tensor([labels], device=device),
        threshold,
        9,
        valid=None if valid is None else torch.tensor([valid], device=device),
    )
    assert not indices[0, int(counts) :].any()
    return indices[0, : int(counts)].tolist()


@pytest.mark.parametrize("index", range(CASES))
def test_agrees_with_a_literal_loop(index: int, backend_device: torch.device) -> None:
    inputs = random_inputs(index, backend_device)
    with poisoned_memory():
        results = inputs.run()
    check_equal(results, literal_nms(inputs))


@pytest.mark.parametrize("case", [(6000, 1, 0.7, 300), (9000, 30, 0.3, 300), (3000, 2, 0.9, 2000)])
def test_exact_at_the_networks_sizes(
    case: tuple[int, int, float, int], kernel_device: torch.device
) -> None:
    """Where some pairs are as close to the threshold as float32 resolves."""
    candidates, classes, threshold, count = case
    corner = 900 * torch.rand(2, candidates, 2)
    boxes = torch.cat((corner, corner + 300 * torch.rand(corner.shape)), 2).to(kernel_device)
    labels = torch.randint(0, classes, (2, candidates), device=kernel_device)
    scores = torch.rand(2, candidates, device=kernel_device)
    inputs = Inputs(boxes, scores, labels, threshold, count, scores > 0.1)
    with use_backend("reference"):
        expected = inputs.run()
    check_equal(inputs.run(), expected)


def test_keeps_what_torchvision_keeps(backend_device: torch.device) -> None:
    """Of boxes that have pixels as corners, the rectangles reach one pixel farther."""
    boxes = 100 * torch.rand(1, 500, 4, device=backend_device)
    boxes[..., 2:] += boxes[..., :2]
    scores = torch.rand(1, 500, device=backend_device)
    labels = torch.randint(0, 4, (1, 500), device=backend_device)
    rectangles = torch.cat((boxes[0, :, :2], boxes[0, :, 2:] + 1), 1)
    expected = torchvision.ops.batched_nms(rectangles, scores[0], labels[0], 0.3)
    indices, counts = batched_nms(boxes, scores, labels, 0.3, 500)
    assert indices[0, : int(counts)].tolist() == expected.tolist()
    assert 10 < len(expected) < 490


def test_both_corners_are_pixels_of_a_box(backend_device: torch.device) -> None:
    assert kept(PAIR, [0.9, 0.8], [0, 0], 0.3, backend_device) == [0]
    assert kept(PAIR, [0.9, 0.8], [0, 0], 0.34, backend_device) == [0, 1]


def test_a_box_at_the_threshold_stays(backend_device: torch.device) -> None:
    boxes = torch.tensor([[[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0]]])  # IoU 1/2 exactly
    assert kept(boxes, [0.8, 0.9], [0, 0], 0.5, backend_device) == [1, 0]


def test_labels_keep_apart_in_all_their_bits(backend_device: torch.device) -> None:
    boxes = PAIR[:, :1].expand(1, 4, 4)
    labels = [1, 1 + 2**32, 1 - 2**32, 1]
    assert kept(boxes, [0.4, 0.3, 0.2, 0.1], labels, 0.5, backend_device) == [0, 1, 2]


def test_a_box_that_goes_suppresses_none(backend_device: torch.device) -> None:
    boxes = torch.tensor([[[0.0, 0, 9, 0], [4, 0, 13, 0], [8, 0, 17, 0]]])
    assert kept(boxes, [0.9, 0.8, 0.7], [0, 0, 0], 0.3, backend_device) == [0, 2]


def test_the_order_of_scores(backend_device: torch.device) -> None:
    """That of torch.sort: NaN first; of equal ones, 0 and -0 included, the lower index."""
    far = 100 * torch.arange(7.0)[None, :, None] + torch.zeros(1, 7, 4)
    scores = [0.0, -math.inf, math.inf, -0.0, math.nan, 0.0, -math.inf]
    order = [4, 2, 0, 3, 5, 1, 6]
    assert kept(far, scores, [0] * 7, 0.5, backend_device) == order
    valid = [True, False, True, True, True, True, True]
    assert kept(far, scores, [0] * 7, 0.5, backend_device, valid) == [4, 2, 0, 3, 5, 6]


def test_boxes_with_nan_overlap_none(backend_device: torch.device) -> None:
    boxes = PAIR[:, :1].repeat(1, 6, 1)
    for place in range(4):
        boxes[0, place + 1, place] = math.nan
    scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    assert kept(boxes, scores, [0] * 6, 0.0, backend_device) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("batch", "candidates", "count"), [(0, 4, 3), (2, 0, 3), (2, 4, 0)])
def test_empty(batch: int, candidates: int, count: int, backend_device: torch.device) -> None:
    boxes = torch.rand(batch, candidates, 4, device=backend_device)
    scores = torch.rand(batch, candidates, device=backend_device)
    labels = torch.zeros(batch, candidates, dtype=torch.int64, device=backend_device)
    for valid in (None, scores > 0.5):
        with poisoned_memory():
            indices, counts = batched_nms(boxes, scores, labels, 0.5, count, valid=valid)
        assert torch.equal(indices.cpu(), torch.zeros(batch, count, dtype=torch.int64))
        assert torch.equal(counts.cpu(), torch.zeros(batch, dtype=torch.int32))


def test_an_image_depends_on_no_other(backend_device: torch.device) -> None:
    inputs = random_inputs(7, backend_device)
    several = Inputs(
        inputs.boxes[:1].repeat(3, 1, 1) + 3 * torch.randn(3, 300, 4, device=backend_device),
        torch.rand(3, 300, device=backend_device),
        inputs.labels[:1].repeat(3, 1),
        0.3,
        40,
        torch.rand(3, 300, device=backend_device) < 0.8,
    )
    indices, counts = several.run()
    for n in range(3):
        alone = Inputs(
            several.boxes[n : n + 1],
            several.scores[n : n + 1],
            several.labels[n : n + 1],
            0.3,
            40,
            several.valid[n : n + 1],
        )
        check_equal(alone.run(), (indices[n : n + 1], counts[n : n + 1]))


def test_result_does_not_depend_on_the_threads() -> None:
    inputs = random_inputs(7, torch.device("cpu"))
    inputs = dataclasses.replace(inputs, count=50)
    threads, results = torch.get_num_threads(), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(inputs.run())
    torch.set_num_threads(threads)
    for result in results[1:]:
        check_equal(result, results[0])


@pytest.mark.parametrize("with_valid", [False, True])
def test_opcheck(with_valid: bool, overload: str, kernel_device: torch.device) -> None:
    boxes = torch.rand(2, 20, 4, device=kernel_device)
    labels = torch.zeros(2, 20, dtype=torch.int64, device=kernel_device)
    order = torch.rand(2, 20, device=kernel_device).argsort(1)
    valid = boxes[..., 0] > 0.3 if with_valid else None
    torch.library.opcheck(
        getattr(torch.ops.hpvod.batched_nms, overload), (boxes, labels, order, valid, 0.3, 7)
    )


def best(boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    indices, counts = batched_nms(boxes + 1, scores, labels, 0.3, 7, valid=scores > 0.2)
    return boxes.gather(1, indices[..., None].expand(-1, -1, 4)), counts


def test_compiles_in_one_graph(kernel_device: torch.device) -> None:
    boxes = torch.rand(2, 20, 4, device=kernel_device)
    scores = torch.rand(2, 20, device=kernel_device)
    labels = torch.zeros(2, 20, dtype=torch.int64, device=kernel_device)
    check_equal(
        torch.compile(best, fullgraph=True)(boxes, scores, labels), best(boxes, scores, labels)
    )


class Best(torch.nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return best(boxes, scores, labels)


def test_exports_with_dynamic_shapes(overload: str, kernel_device: torch.device) -> None:
    def arguments(batch: int, candidates: int) -> tuple[Tensor, ...]:
        labels = torch.zeros(batch, candidates, dtype=torch.int64, device=kernel_device)
        scores = torch.rand(batch, candidates, device=kernel_device)
        return torch.rand(batch, candidates, 4, device=kernel_device), scores, labels

    dims = {0: torch.export.Dim("n", max=64), 1: torch.export.Dim("k", max=4096)}
    program = torch.export.export(Best(), arguments(2, 20), dynamic_shapes=(dims, dims, dims))
    others = arguments(3, 31)
    check_equal(program.module()(*others), best(*others))
    assert f"hpvod.batched_nms.{overload}" in {str(node.target) for node in program.graph.nodes}


@pytest.mark.gpu
@pytest.mark.parametrize("kernel_backend", ["cuda", "triton"], indirect=True)
def test_runs_in_a_cuda_graph(kernel_device: torch.device) -> None:
    """Nothing waits for the device."""
    inputs = random_inputs(7, kernel_device)
    inputs.run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = inputs.run()
    for _ in range(3):
        inputs.scores.copy_(torch.rand(inputs.scores.shape))
        graph.replay()
        check_equal(results, inputs.run())


BOXES = torch.zeros(2, 5, 4)
SCORES = torch.zeros(2, 5)
LABELS = torch.zeros(2, 5, dtype=torch.int64)
VALID = torch.ones(2, 5, dtype=torch.bool)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"boxes": BOXES.double()}, TypeError, "boxes must be torch.float32, not torch.float64"),
        ({"boxes": BOXES[0]}, ValueError, r"boxes must be \[N, K, 4\], .*, not \[5, 4\]"),
        ({"boxes": BOXES[..., :3]}, ValueError, r"boxes must be \[N, K, 4\], .*, not \[2, 5, 3\]"),
        ({"scores": SCORES.half()}, TypeError, "scores must be torch.float32, not torch.float16"),
        ({"scores": SCORES[:1]}, ValueError, r"scores must be \[N, K\] = \[2, 5\], .* not \[1, 5"),
        ({"labels": LABELS.int()}, TypeError, "labels must be torch.int64, not torch.int32"),
        ({"labels": LABELS[:, 1:]}, ValueError, r"labels must be \[N, K\] = \[2, 5\], .*\[2, 4\]"),
        ({"labels": LABELS.to("meta")}, ValueError, "labels is on meta, but boxes is on cpu"),
        ({"valid": VALID.int()}, TypeError, "valid must be torch.bool, not torch.int32"),
        ({"valid": VALID[0]}, ValueError, r"valid must be \[N, K\] = \[2, 5\], .* not \[5\]"),
        ({"count": -1}, ValueError, r"count must be 0 to 2\^30, not -1"),
        ({"count": 2**31}, ValueError, r"count must be 0 to 2\^30, not 2147483648"),
        ({"threshold": math.nan}, ValueError, "threshold must be a number, not NaN"),
    ],
)
def test_bad_argument_is_named(
    changed: dict[str, object], error: type[Exception], message: str
) -> None:
    arguments = {"boxes": BOXES, "scores": SCORES, "labels": LABELS, "threshold": 0.5, "count": 3}
    with pytest.raises(error, match=message):
        batched_nms(**{**arguments, **changed})


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, BOXES[0], r"boxes must be float32 \[N, K, 4\]"),
        (0, BOXES.double(), r"boxes must be float32 \[N, K, 4\]"),
        (1, LABELS.int(), r"labels must be int64 \[N, K\]"),
        (1, LABELS[:, 1:], r"labels must be int64 \[N, K\]"),
        (2, LABELS[:1], r"order must be int64 \[N, K\]"),
        (3, VALID.int(), r"valid must be bool \[N, K\]"),
        (5, -1, r"count must be 0 to 2\^30"),
    ],
)
def test_the_schema_itself_is_safe(place: int, value: object, message: str) -> None:
    """torch.ops.hpvod.batched_nms can be called without the public function's checks."""
    arguments = [BOXES, LABELS, LABELS, VALID, 0.5, 3]
    torch.ops.hpvod.batched_nms(*arguments)
    arguments[place] = value
    with pytest.raises(RuntimeError, match=message):
        torch.ops.hpvod.batched_nms(*arguments)


def test_an_order_that_leads_outside_is_not_followed(
    overload: str, kernel_device: torch.device
) -> None:
    boxes = 100 * torch.arange(4.0)[None, :, None] + torch.zeros(1, 4, 4)
    order = torch.tensor([[2**40, 3, -1, 1]], device=kernel_device)
    labels = torch.zeros(1, 4, dtype=torch.int64, device=kernel_device)
    for valid in (None, torch.ones(1, 4, dtype=torch.bool, device=kernel_device)):
        indices, counts = getattr(torch.ops.hpvod.batched_nms, overload)(
            boxes.to(kernel_device), labels, order, valid, 0.5, 4
        )
        assert indices.tolist() == [[3, 1, 0, 0]]
        assert counts.tolist() == [2]
