"""`batched_nms` in Triton."""

from __future__ import annotations

import torch
from torch import Tensor

from hpvod_ops.triton import _launch
from hpvod_ops.triton._batched_nms_kernels import nms_kernel

TILE = 256  # candidates at a time
KEPT = 32  # kept boxes that a tile is tested against at a time
WARPS = 8


def batched_nms(
    boxes: Tensor,
    labels: Tensor,
    order: Tensor,
    valid: Tensor | None,
    threshold: float,
    count: int,
) -> tuple[Tensor, Tensor]:
    """`hpvod_ops.batched_nms` for inputs that it has checked, a program an image.

    Args:
        boxes: [N, K, 4] float32.
        labels: [N, K] int64.
        order: [N, K] int64, the candidates, best first; what is no index is passed over.
        valid: bool [N, K], or None.
        threshold: IoU above which a box goes.
        count: How many to keep at most.

    Returns:
        indices int64 [N, count] and counts int32 [N].
    """
    batch, candidates, _ = boxes.shape
    indices = boxes.new_zeros((batch, count), dtype=torch.int64)
    counts = boxes.new_zeros(batch, dtype=torch.int32)
    if batch == 0 or candidates == 0 or count == 0:
        return indices, counts
    with _launch.active(boxes.device):
        nms_kernel[(batch,)](
            boxes.contiguous(),
            labels.contiguous(),
            order.contiguous(),
            None if valid is None else valid.contiguous(),
            indices,
            counts,
            candidates,
            count,
            threshold,
            TILE=TILE,
            KEPT=KEPT,
            num_warps=WARPS,
            # A product fused with the sum behind it decides some pairs in another way.
            enable_fp_fusion=False,
        )
    return indices, counts
