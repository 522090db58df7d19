"""Memory that a process keeps for its next tensors."""

from __future__ import annotations

import ctypes
import platform


def keep_freed_memory() -> None:
    """Lets this process keep the memory that it frees; without effect but on Linux with glibc.

    A frame's tensors are freed at its end. Otherwise glibc gives the large ones' pages back to
    Linux, and at the next frame has them mapped and cleared anew. The process then takes the most
    that any frame needs until it ends. So it is for programs to call, such as the command `hpvod`.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    libc = ctypes.CDLL(None)
    libc.mallopt(trim_threshold, 2**31 - 1)
    libc.mallopt(mmap_threshold, 2**25)  # the most that glibc allows
