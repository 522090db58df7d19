"""Kernels for video object detection as torch ops, on CPU and GPU.

    from hpvod_ops import warp

`python -m hpvod_ops` prints what was built and which backend runs where.
"""

from hpvod_ops.backends import explain, use_backend
from hpvod_ops.ops.warp import warp

__all__ = ["explain", "use_backend", "warp"]
