"""update_mask: U, where features are recomputed, Eq. 6."""

from __future__ import annotations

from torch import Tensor

from hpvod_ops import reference
from hpvod_ops.backends import DTYPES


def update_mask(q: Tensor, tau: float = 0.0) -> Tensor:
    """The updating mask of a feature consistency: U = 1 where Q <= tau, and 0 elsewhere, Eq. 6.

    Differentiable in q by the paper's straight-through estimator: dU / dQ = -1 where
    |Q - tau| <= 1, and 0 elsewhere. PyTorch's own kernels do this on every device: it is the same
    whichever backend is chosen.

    Args:
        q: Q, of any shape, as that of the map it belongs to; float32, float16, bfloat16 or float64.
        tau: the threshold; compared in q's dtype.

    Returns:
        1 or 0, in q's shape and dtype; 0 where q is NaN.

    Raises:
        TypeError: q has another dtype.
    """
    if q.dtype not in DTYPES:
        raise TypeError(f"q must be float32, float16, bfloat16 or float64, not {q.dtype}")
    return reference.update_mask(q, tau)
