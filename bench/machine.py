"""What the benchmarks ran on, and how fast it could go at best: the two ceilings of every floor."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import functools
import importlib.metadata
import platform
import re
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from bench.timing import median_times


def device_name(device: torch.device) -> str:
    """The processor or GPU in its maker's words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = re.search(
            r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE
        )
        if named:
            return named[1]
    return platform.processor() or platform.machine()


def device_kind(device: torch.device) -> str:
    """A name for result files: "cpu", or the GPU's name in small letters and underscores."""
    if device.type == "cpu":
        return "cpu"
    return re.sub(r"[^a-z0-9]+", "_", device_name(device).lower()).strip("_")


def describe(device: torch.device) -> dict[str, Any]:
    """The columns that tell where and when a row was measured; see README.md."""
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    for package in ("hpvod", "triton"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    if torch.version.cuda:
        versions["cuda"] = torch.version.cuda
    return {
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
        "versions": versions,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def keep_freed_memory() -> None:
    """Lets this process keep the memory that it frees, for all contestants alike.

    Otherwise glibc gives a large tensor's pages back to Linux at one call and has them mapped and
    cleared anew at another, which takes several times as long as `warp` does, and hits whichever
    contestant comes next.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    libc = ctypes.CDLL(None)
    libc.mallopt(trim_threshold, 2**31 - 1)
    libc.mallopt(mmap_threshold, 2**25)  # the most that glibc allows


@functools.cache
def copy_bandwidth(device: torch.device) -> float:
    """Bytes a millisecond that a large copy moves, reads and writes both counted.

    On a CPU the faster of two sizes, since a cache shared by all cores can hold what the ops
    work on; on a GPU one gigabyte, which no cache holds.
    """
    sizes = (2**30,) if device.type == "cuda" else (10 * 2**20, 2**27)
    rates = []
    for size in sizes:
        source = torch.randint(256, (size,), dtype=torch.uint8, device=device)
        target = torch.empty_like(source)

        def copy(_: int, target: torch.Tensor = target, source: torch.Tensor = source) -> None:
            target.copy_(source)

        rates.append(2 * size / median_times({"copy": copy}, device, seconds=0.5)["copy"])
    return max(rates)


@functools.cache
def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a millisecond (2 a multiply-add) of the faster of a matrix product and a 1x1.

    The 1x1 convolution is there because PyTorch computes products and convolutions with
    different libraries on a CPU.
    """
    size = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    image = torch.randn(1, size, size // 32, 32, device=device).to(dtype)
    image = image.contiguous(memory_format=torch.channels_last)
    weight = right[:, :, None, None].contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        times = median_times(
            {"product": lambda _: left @ right, "convolution": lambda _: F.conv2d(image, weight)},
            device,
            seconds=1.0,
        )
    return 2 * size**3 / min(times.values())
