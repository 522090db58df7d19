"""A few lines of plain PyTorch for every op: slow, obvious, and what the backends are held to."""

from hpvod_ops.reference.warp import warp

__all__ = ["warp"]
