"""batched_nms: greedy non-maximum suppression with results of a fixed size (Section 3.5).

torchvision's `batched_nms` takes one image, and how many boxes it returns is known only once the
device has been waited for; it has no (x2 + 1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hpvod_ops import reference
from hpvod_ops.backends import choose_backend
from hpvod_ops.ops.overloads import define_triton, register_fake, register_fake_of_out

MOST = 2**30


def batched_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    threshold: float,
    count: int,
    *,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The best boxes of each image that no better one of the same label overlaps too much.

    Goes over an image's boxes, best score first, and keeps each whose IoU with every box of its
    label that is kept already is at most `threshold`, until `count` are kept. Both corners are
    pixels of a box: it is x2 - x1 + 1 wide. Of equal scores the lower index comes first; NaN ranks
    above all numbers, as in torch.sort. A box with a NaN overlaps none.

    All backends keep the same boxes: IoU > threshold is decided in float32 as intersection >
    threshold * union. All of it stays on the device: nothing waits for it. There is no gradient.

    Args:
        boxes: [N, K, 4] float32 of (x1, y1, x2, y2), K at most 2^30; any strides.
        scores: [N, K] float32.
        labels: [N, K] int64, any numbers.
        threshold: IoU from which on (itself not included) a box goes.
        count: how many to keep of an image at most; 0 to 2^30.
        valid: bool, [N, K]: the others are no candidates at all. None: all are.

    Returns:
        indices int64 [N, count] into K, best score first, 0 behind the image's count; and the
        counts, int32 [N].

    Raises:
        TypeError: an argument has another dtype.
        ValueError: an argument has another shape, device or range.
        RuntimeError: no backend can run here, or the one asked for cannot.
    """
    _check(boxes, scores, labels, threshold, count, valid)
    backend = choose_backend(boxes.device, boxes.dtype)
    if backend == "reference":
        return reference.batched_nms(boxes, scores, labels, threshold, count, valid=valid)
    if backend == "cpu":
        order = torch.ops.hpvod.best_first(scores, valid)
    else:
        # Those that are not valid come last, but for valid ones whose score is -inf as well.
        ranked = scores if valid is None else scores.masked_fill(~valid, -math.inf)
        order = ranked.argsort(dim=1, descending=True, stable=True)
    op = torch.ops.hpvod.batched_nms
    overload = op.triton if backend == "triton" else op.default
    indices, counts = overload(boxes, labels, order, valid, threshold, count)
    return indices, counts


def _check(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    threshold: float,
    count: int,
    valid: Tensor | None,
) -> None:
    if boxes.dtype != torch.float32:
        raise TypeError(f"boxes must be torch.float32, not {boxes.dtype}")
    if boxes.dim() != 3 or boxes.shape[2] != 4 or boxes.shape[1] > MOST:
        raise ValueError(f"boxes must be [N, K, 4], K at most 2^30, not {list(boxes.shape)}")
    if math.isnan(threshold):
        raise ValueError("threshold must be a number, not NaN")
    if not 0 <= count <= MOST:
        raise ValueError(f"count must be 0 to 2^30, not {count}")
    _check_beside("scores", scores, torch.float32, boxes)
    _check_beside("labels", labels, torch.int64, boxes)
    if valid is not None:
        _check_beside("valid", valid, torch.bool, boxes)


def _check_beside(name: str, tensor: Tensor, dtype: torch.dtype, boxes: Tensor) -> None:
    if tensor.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, not {tensor.dtype}")
    batch, candidates, _ = boxes.shape
    if tensor.dim() != 2 or tensor.shape[0] != batch or tensor.shape[1] != candidates:
        raise ValueError(
            f"{name} must be [N, K] = {[batch, candidates]}, one for each box, not "
            f"{list(tensor.shape)}"
        )
    if tensor.device != boxes.device:
        raise ValueError(f"{name} is on {tensor.device}, but boxes is on {boxes.device}")


def _triton(
    boxes: Tensor,
    labels: Tensor,
    order: Tensor,
    valid: Tensor | None,
    threshold: float,
    count: int,
) -> tuple[Tensor, Tensor]:
    from hpvod_ops.triton.batched_nms import batched_nms as kernels

    return kernels(boxes, labels, order, valid, threshold, count)


def _fake(
    boxes: Tensor,
    labels: Tensor,
    order: Tensor,
    valid: Tensor | None,
    threshold: float,
    count: int,
) -> tuple[Tensor, Tensor]:
    indices = boxes.new_empty((boxes.shape[0], count), dtype=torch.int64)
    return indices, boxes.new_empty((boxes.shape[0],), dtype=torch.int32)


def _fake_order(scores: Tensor, valid: Tensor | None) -> Tensor:
    return scores.new_empty(scores.shape, dtype=torch.int64)


define_triton("batched_nms", _triton)
register_fake("batched_nms", _fake)
register_fake_of_out("batched_nms_out")
register_fake_of_out("best_first_out")
torch.library.register_fake(torch.ops.hpvod.best_first.default, _fake_order)
