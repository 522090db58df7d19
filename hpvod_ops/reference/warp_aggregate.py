"""Eq. 7, 10 and 11 in plain PyTorch: the truth for every backend of `warp_aggregate`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hpvod_ops.reference.aggregate import aggregate
from hpvod_ops.reference.warp import warp

Warp = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def warp_aggregate(
    key_feature: Tensor,
    key_embedding: Tensor,
    feature: Tensor,
    embedding: Tensor,
    flow: Tensor,
    mask: Tensor | None = None,
    own_feature: Tensor | None = None,
    own_embedding: Tensor | None = None,
    scale: Tensor | None = None,
    *,
    warp: Warp = warp,
) -> Tensor:
    """`hpvod_ops.warp_aggregate`: each map warped, then aggregated; any dtype and device."""
    if mask is not None and own_feature is not None and own_embedding is not None:
        feature = torch.where(mask, feature, warp(own_feature, flow, scale))  # Eq. 10
        embedding = torch.where(mask, embedding, warp(own_embedding, flow, None))
    return aggregate(
        [warp(key_feature, flow, None), feature], [warp(key_embedding, flow, None), embedding]
    )
