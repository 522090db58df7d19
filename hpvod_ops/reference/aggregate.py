"""Eq. 2 and 3 in plain PyTorch: the truth that every backend of `aggregate` is held to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from hpvod_ops.ops.layout import memory_format_of


def aggregate(features: Sequence[Tensor], embeddings: Sequence[Tensor]) -> Tensor:
    """`hpvod_ops.aggregate`, one frame at a time; differentiable, any dtype and device."""
    current = features[-1]
    average = torch.zeros(current.shape, dtype=_accumulate(current), device=current.device)
    for weight, feature in zip(weights(embeddings), features, strict=True):
        average = average + weight * feature
    return average.to(current.dtype).contiguous(memory_format=memory_format_of(current))


def weights(embeddings: Sequence[Tensor]) -> Tensor:
    """Eq. 3, normalised to sum to 1 over the frames: [T, N, 1, H, W]."""
    current = _directions(embeddings[-1])
    cosines = [(_directions(e) * current).sum(dim=1, keepdim=True) for e in embeddings]
    return torch.stack(cosines).softmax(dim=0)


def _directions(embedding: Tensor) -> Tensor:
    """Embeddings of length 1; one of zeros stays so, and has cosine 0 with every other.

    It gets gradient 0: that of its quotient with the smallest norm would be 1e12.
    """
    embedding = embedding.to(_accumulate(embedding))
    zero = ~embedding.detach().any(dim=1, keepdim=True)
    return F.normalize(torch.where(zero, embedding.detach(), embedding), dim=1)


def _accumulate(map: Tensor) -> torch.dtype:
    return torch.float64 if map.dtype == torch.float64 else torch.float32
