"""Triton kernels, one file an op; nothing here imports Triton until a kernel is asked for."""

from __future__ import annotations

import importlib.util
import os

import torch


def unavailable_reason(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why Triton cannot run on `device` with `dtype`, or None where it can."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if device.type == "cpu":
        if os.environ.get("TRITON_INTERPRET") == "1":
            return None
        return "Triton runs CPU tensors only in its interpreter (TRITON_INTERPRET=1)"
    if device.type != "cuda":
        return f"the Triton kernels do not support {device.type} devices"
    if torch.version.hip is not None:
        return None
    needed = (8, 0) if dtype == torch.bfloat16 else (7, 0)
    capability = torch.cuda.get_device_capability(device)
    if capability < needed:
        return (
            f"Triton needs compute capability {needed[0]}.{needed[1]} for {dtype}, "
            f"{torch.cuda.get_device_name(device)} has {capability[0]}.{capability[1]}"
        )
    return None
