"""The processes of one run, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Literal

from torch import distributed as dist


@contextmanager
def process_group(
    backend: Literal["nccl", "gloo"], timeout: timedelta | None = None
) -> Iterator[tuple[int, int]]:
    """Joins torchrun's other processes, where there are any.

    Args:
        backend: "nccl" to exchange tensors on GPUs, "gloo" for those on the CPU.
        timeout: how long the processes wait for one another; PyTorch's own where None.

    Yields:
        This process's rank and the number of processes.
    """
    if "WORLD_SIZE" not in os.environ:
        yield 0, 1
        return
    dist.init_process_group(backend, timeout=timeout)
    try:
        yield dist.get_rank(), dist.get_world_size()
    finally:
        dist.destroy_process_group()
