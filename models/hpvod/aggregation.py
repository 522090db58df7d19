"""Feature aggregation: the average over frames, weighted by similarity at each position (Eq. 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def aggregation_weights(embeddings: Sequence[Tensor]) -> Tensor:
    """Weights of T frames at every position: Eq. 3, normalised to sum to one over the frames.

    Args:
        embeddings: T maps of [N, E, H, W], warped onto the current frame, whose own comes last.
            An embedding of zeros has cosine 0 with every other.

    Returns:
        [T, N, 1, H, W], float32 (float64 for float64 embeddings).
    """
    current = _directions(embeddings[-1])
    cosines = [(_directions(e) * current).sum(dim=1, keepdim=True) for e in embeddings]
    return torch.stack(cosines).softmax(dim=0)


def aggregate(features: Sequence[Tensor], embeddings: Sequence[Tensor]) -> Tensor:
    """Eq. 2, and for two maps Eq. 4 and 7: the weighted average of T feature maps.

    Args:
        features: T maps of [N, C, H, W], warped onto the current frame, whose own come last.
        embeddings: likewise, [N, E, H, W].

    Returns:
        [N, C, H, W] in the dtype of `features`, accumulated in float32 or wider.

    Raises:
        ValueError: there are no maps, or not as many embeddings as features.
    """
    if not features or len(features) != len(embeddings):
        raise ValueError(
            "features, embeddings: expected as many of one as of the other and at least one, "
            f"got {len(features)} and {len(embeddings)}"
        )
    weights = aggregation_weights(embeddings)
    average = weights[0] * features[0]
    for weight, feature in zip(weights[1:], features[1:], strict=True):
        average = average + weight * feature
    return average.to(features[0].dtype)


def _directions(embedding: Tensor) -> Tensor:
    accumulate = torch.promote_types(embedding.dtype, torch.float32)
    return F.normalize(embedding.to(accumulate), dim=1)
