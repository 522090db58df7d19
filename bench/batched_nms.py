"""`batched_nms` of the RPN's proposals and of R-FCN's detections, against torchvision's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor

from bench.contest import Contest, Tensors, kernels_here, on_backend
from hpvod_ops import batched_nms, use_backend

_SIZE = (600, 1000)  # of the image
_COUNT = 300  # kept of an image


@dataclass(frozen=True)
class Case:
    """What one contest is about."""

    boxes: int  # an image
    classes: int  # which share each box
    threshold: float
    share: float  # of the candidates that are valid
    batch: int
    dtype: torch.dtype

    def __str__(self) -> str:
        """For the progress display."""
        return f"batched_nms, {self.boxes} x {self.classes}, {self.batch} images"


def cases(device: torch.device) -> list[Case]:
    """The networks' own sizes; on a GPU also eight images.

    6000 anchors are thinned out to 300 proposals, and of 300 RoIs of 30 classes, of which one in
    twenty scores above the threshold, come 300 detections.
    """
    batches = (1, 8) if device.type == "cuda" else (1,)
    return [
        case
        for batch in batches
        for case in (
            Case(6000, 1, 0.7, 1.0, batch, torch.float32),
            Case(300, 30, 0.3, 0.05, batch, torch.float32),
        )
    ]


runnable_backends = kernels_here


def contest(case: Case, device: torch.device, backends: Sequence[str]) -> Contest:
    """Inputs, contestants and truth of one case."""
    boxes, scores, labels, valid = (each.to(device) for each in _candidates(case))
    given = None if case.share == 1 else valid

    def run(_: int) -> Tensors:
        with torch.inference_mode():
            return batched_nms(boxes, scores, labels, case.threshold, _COUNT, valid=given)

    def by_backend(backend: str) -> Callable[[int], Tensors]:
        return on_backend(run, backend, device, case.dtype)

    def by_torchvision(_: int) -> list[Tensor]:
        with torch.inference_mode():
            return [
                _one_image(boxes[n], scores[n], labels[n], None if given is None else given[n])
                for n in range(case.batch)
            ]

    def _one_image(boxes: Tensor, scores: Tensor, labels: Tensor, valid: Tensor | None) -> Tensor:
        if valid is None:
            chosen = torch.arange(len(boxes), device=device)
        else:
            chosen = valid.nonzero()[:, 0]
            boxes, scores, labels = boxes[chosen], scores[chosen], labels[chosen]
        # Both corners are pixels of a box.
        rectangles = torch.cat((boxes[:, :2], boxes[:, 2:] + 1), 1)
        kept = torchvision.ops.batched_nms(rectangles, scores, labels, case.threshold)
        first: Tensor = chosen[kept[:_COUNT]]
        return first

    with use_backend("reference"):
        truth = run(0)
    inputs = (boxes, scores, labels) if given is None else (boxes, scores, labels, given)
    return Contest(
        op="batched_nms",
        shape=tuple(boxes.shape),
        dtype=case.dtype,
        layout="contiguous",
        device=device,
        backends={name: by_backend(name) for name in backends},
        peers={"torchvision": {"": by_torchvision}},
        truth=truth,
        composed=truth,
        sets=1,
        moved=sum(tensor.nbytes for tensor in (*inputs, *truth)),
        peer_results=_of_a_fixed_size,
    )


def _candidates(case: Case) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes of all sizes [N, K, 4], scores, labels and which are valid, all [N, K].

    Of one class, they come best first, as the RPN picks them.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (case.batch, case.boxes)
    size = torch.tensor([_SIZE[1], _SIZE[0]])
    corner = torch.rand(*shape, 2, generator=generator) * size
    side = 16 + 300 * torch.rand(*shape, 2, generator=generator)
    boxes = torch.cat((corner, (corner + side).minimum(size - 1)), 2)
    boxes = boxes[:, :, None].expand(-1, -1, case.classes, -1).flatten(1, 2).contiguous()
    labels = torch.arange(case.classes).expand(*shape, -1).flatten(1).contiguous()
    scores = torch.rand(labels.shape, generator=generator)
    if case.classes == 1:
        scores = scores.sort(dim=1, descending=True).values
    return boxes, scores, labels, scores > 1 - case.share


def _of_a_fixed_size(kept: Sequence[Tensor]) -> Tensors:
    """What torchvision keeps of each image, as the op gives it."""
    indices = kept[0].new_zeros(len(kept), _COUNT)
    for row, chosen in zip(indices, kept, strict=True):
        row[: len(chosen)] = chosen
    counts = torch.tensor([len(chosen) for chosen in kept], dtype=torch.int32)
    return indices, counts.to(indices.device)
