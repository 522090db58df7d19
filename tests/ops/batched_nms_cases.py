"""Random cases of `batched_nms`, whose results are exact."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hpvod_ops import batched_nms

SIZES = (1, 2, 7, 31, 33, 64, 150, 300)


@dataclass(frozen=True)
class Inputs:
    boxes: Tensor
    scores: Tensor
    labels: Tensor
    threshold: float
    count: int
    valid: Tensor | None

    def run(self) -> tuple[Tensor, Tensor]:
        """The op, on the backend that is chosen."""
        return batched_nms(
            self.boxes, self.scores, self.labels, self.threshold, self.count, valid=self.valid
        )


def random_boxes(batch: int, candidates: int, kind: str, generator: torch.Generator) -> Tensor:
    """Crowded ones; on whole pixels, so that many an IoU is equal to a threshold; or wild ones."""
    corner = 40 * torch.rand(batch, candidates, 2, generator=generator)
    boxes = torch.cat((corner, corner + 30 * torch.rand(corner.shape, generator=generator)), 2)
    if kind == "whole":
        boxes = (boxes / 8).floor()
    if kind == "wild":
        boxes[:, 1::4] = boxes[:, 1::4, [2, 3, 0, 1]]  # turned
        boxes[:, 2::7, 2:] = boxes[:, 2::7, :2] - 1  # without an area
        boxes[:, 3::5] *= 1e18
        chosen = torch.rand(boxes.shape, generator=generator)
        for share, value in ((0.02, math.nan), (0.04, math.inf), (0.06, -math.inf)):
            boxes[(chosen < share) & (chosen > share - 0.02)] = value
    return boxes


def random_inputs(index: int, device: torch.device, most: int = 300) -> Inputs:
    """One of the random cases; the index alone determines it.

    Scores are equal, infinite or NaN here and there; some labels differ in their upper half alone.
    Tensors are whole, or views with strides of their own.
    """
    choose = random.Random(index)
    generator = torch.Generator().manual_seed(index)
    batch = choose.choice((1, 1, 2, 3))
    candidates = min(SIZES[index % len(SIZES)], most)
    boxes = random_boxes(batch, candidates, choose.choice(("crowd", "whole", "wild")), generator)
    shape = (batch, candidates)
    levels = choose.choice((3, 10 * candidates))
    scores = torch.randint(-levels, levels + 1, shape, generator=generator) / levels
    if choose.random() < 0.4:
        wild = torch.rand(shape, generator=generator)
        for share, value in ((0.1, math.nan), (0.2, math.inf), (0.3, -math.inf), (0.4, -0.0)):
            scores[(wild < share) & (wild > share - 0.1)] = value
    labels = torch.randint(0, choose.choice((1, 3, 30)), shape, generator=generator)
    if choose.random() < 0.3:
        labels = labels % 2 + ((labels % 3 - 1) << 32)
    valid = None
    if choose.random() < 0.6:
        share = choose.choice((0.0, 0.3, 0.9, 1.0))
        valid = torch.rand(shape, generator=generator) < share
    if choose.random() < 0.4:
        boxes = boxes.permute(2, 0, 1).contiguous().permute(1, 2, 0)
        scores, labels = scores.t().contiguous().t(), labels.repeat_interleave(2, 1)[:, ::2]
        valid = None if valid is None else valid.t().contiguous().t()
    return Inputs(
        boxes.to(device),
        scores.to(device),
        labels.to(device),
        choose.choice((-0.1, 0.0, 0.3, 0.5, 0.7, 1.0)),
        choose.choice((0, 1, 5, 40, candidates, candidates + 9)),
        None if valid is None else valid.to(device),
    )


def literal_nms(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The definition, a candidate at a time, in NumPy's float32."""
    batch, candidates = inputs.scores.shape
    indices = torch.zeros(batch, inputs.count, dtype=torch.int64)
    counts = torch.zeros(batch, dtype=torch.int32)
    boxes, scores = inputs.boxes.cpu().numpy(), inputs.scores.cpu().tolist()
    labels = inputs.labels.cpu().tolist()
    valid = [[True] * candidates] * batch if inputs.valid is None else inputs.valid.tolist()

    def rank(score: float) -> float:
        return -math.inf if math.isnan(score) else -score

    for n in range(batch):
        kept: list[int] = []
        # Sorting by (is no NaN, -score): a NaN comes before plus infinity.
        order = sorted(
            (k for k in range(candidates) if valid[n][k]),
            key=lambda k: (not math.isnan(scores[n][k]), rank(scores[n][k])),
        )
        for k in order:
            if len(kept) == inputs.count:
                break
            if not any(
                labels[n][k] == labels[n][j] and _overlap(boxes[n, k], boxes[n, j], inputs)
                for j in kept
            ):
                kept.append(k)
        indices[n, : len(kept)] = torch.tensor(kept, dtype=torch.int64)
        counts[n] = len(kept)
    return indices, counts


@np.errstate(all="ignore")
def _overlap(a: np.ndarray, b: np.ndarray, inputs: Inputs) -> bool:
    one, zero = np.float32(1), np.float32(0)
    width = np.minimum(a[2] + one, b[2] + one) - np.maximum(a[0], b[0])
    height = np.minimum(a[3] + one, b[3] + one) - np.maximum(a[1], b[1])
    intersection = np.maximum(width, zero) * np.maximum(height, zero)
    areas = [(c[2] + one - c[0]) * (c[3] + one - c[1]) for c in (a, b)]
    union = areas[0] + areas[1] - intersection
    return bool(intersection > np.float32(inputs.threshold) * union)


def check_equal(results: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    """The same boxes in the same order, zeros behind them included."""
    for result, wanted in zip(results, expected, strict=True):
        assert result.dtype == wanted.dtype
        assert torch.equal(result.cpu(), wanted.cpu())
