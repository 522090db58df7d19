"""What the benchmarks ran on, and how fast it could go at best: the two ceilings of every floor."""

from __future__ import annotations

import contextlib
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


def copy_bandwidth(device: torch.device, moved: int, sets: int) -> float:
    """Bytes a millisecond, reads and writes both counted, of a copy that moves `moved` bytes.

    On a CPU of just that size, and from one source after the other to a target of its own, of as
    many as an op has input sets: a cache that all cores share may hold what one op works on and not
    what another does. On a GPU one gigabyte, which no cache holds.
    """
    if device.type == "cuda":
        return _copy_bandwidth(device, 2**30, 1)
    return _copy_bandwidth(device, max(2**20, moved // 2), sets)


@functools.cache
def _copy_bandwidth(device: torch.device, size: int, sets: int) -> float:
    sources = torch.randint(256, (sets, size), dtype=torch.uint8, device=device)
    targets = torch.empty_like(sources)
    copies = {"copy": lambda number: targets[number].copy_(sources[number])}
    times = median_times(copies, device, seconds=0.5, sets=sets)
    return 2 * size / times["copy"]


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
