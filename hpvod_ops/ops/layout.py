"""Which memory layout an op computes in, and answers in."""

from __future__ import annotations

import torch
from torch import Tensor


def memory_format_of(feature: Tensor) -> torch.memory_format:
    """channels_last where the channels lie side by side, a slice of them included.

    csrc/bindings/stable_compat.h holds the same rule for the compiled backends; a fake
    kernel that predicted other strides would mislead torch.compile.
    """
    if not feature.is_contiguous() and feature.stride(1) == 1:
        return torch.channels_last
    return torch.contiguous_format
