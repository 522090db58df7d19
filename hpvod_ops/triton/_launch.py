"""What the launches of all ops ask: which device, how many programs, how wide the offsets."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

INT32_ELEMENTS = 2**31
INTERPRETED_PROCESSORS = 4


def active(device: torch.device) -> AbstractContextManager[None]:
    """Triton launches on the current device: makes the tensors' own the current one."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def processors(device: torch.device) -> int:
    """Multiprocessors of the GPU; in the interpreter a few, so that programs take turns."""
    if device.type != "cuda":
        return INTERPRETED_PROCESSORS
    return torch.cuda.get_device_properties(device).multi_processor_count
