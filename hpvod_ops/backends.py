"""Which backend runs an op, and why: `cpu`, `cuda`, `triton` or `reference`.

The choice depends on nothing but the device, the dtype, what was built, and the override
(the environment variable HPVOD_BACKEND, or `use_backend`). `explain` says what it is.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hpvod_ops import native, triton

BACKENDS = ("cpu", "cuda", "triton", "reference")
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def _checked(name: str, source: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"{source}={name!r} is no backend; there are {', '.join(BACKENDS)}")
    return name


_environment = os.environ.get("HPVOD_BACKEND")
_override: str | None = _checked(_environment, "HPVOD_BACKEND") if _environment else None


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Runs every op inside on one backend, in all threads of the process.

    Args:
        name: "cpu", "cuda", "triton" or "reference".

    Raises:
        ValueError: there is no such backend.
        RuntimeError: by the op, where this backend cannot run it.
    """
    global _override
    before, _override = _override, _checked(name, "use_backend: name")
    try:
        yield
    finally:
        _override = before


def can_run(backend: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """None if the backend can run on this device and dtype, otherwise the reason why not."""
    if dtype not in DTYPES:
        return f"{dtype} is not supported (there are float32, float16, bfloat16 and float64)"
    if backend == "reference":
        return None
    if backend == "triton":
        return triton.unavailable_reason(device, dtype)
    if device.type != backend:
        return f"the tensor is on {device.type}"
    if backend == "cuda":
        if native.CUDA_MISSING is not None:
            return native.CUDA_MISSING
        capability = torch.cuda.get_device_capability(device)
        if not native.cuda_runs_on(capability):
            built = ", ".join(native.cuda_architectures())
            return f"the kernels were built for {built}, this GPU is {capability}"
    return None


def choose_backend(device: torch.device, dtype: torch.dtype) -> str:
    """The backend that runs ops on this device and dtype.

    Raises:
        RuntimeError: none can, or the one that was asked for cannot; says why.
    """
    return _choose(device, dtype, _override)


def _choose(device: torch.device, dtype: torch.dtype, override: str | None) -> str:
    return _cached_choice(device, dtype, override)


# To torch.compile the answer is a constant of its arguments; the override is among them so that
# changing it recompiles. This is all that torch.compiler.assume_constant_result does, but for
# importing torch._dynamo, which would double the time that importing hpvod_ops takes.
_choose._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def _cached_choice(device: torch.device, dtype: torch.dtype, override: str | None) -> str:
    if override is not None:
        reason = can_run(override, device, dtype)
        if reason is not None:
            raise RuntimeError(f"the backend {override!r} was asked for but cannot run: {reason}")
        return override
    reasons = {}
    for backend in ("cpu", "cuda", "triton"):  # the reference only where it is asked for
        reason = can_run(backend, device, dtype)
        if reason is None:
            return backend
        reasons[backend] = reason
    listed = "; ".join(f"{backend}: {reason}" for backend, reason in reasons.items())
    raise RuntimeError(
        f"no backend runs {dtype} on {device} ({listed}). HPVOD_BACKEND=reference is slow and "
        "runs anywhere."
    )


def explain(device: torch.device | str, dtype: torch.dtype = torch.float32) -> str:
    """Which backend runs on this device and dtype, and why not the others: a line each.

    Args:
        device: where the tensors are, such as "cpu" or "cuda:0".
        dtype: of the feature maps.
    """
    device = torch.device(device)
    try:
        chosen, trouble = choose_backend(device, dtype), ""
    except RuntimeError as error:
        chosen, trouble = "", str(error)
    lines = [f"{dtype} on {device}: {chosen or trouble}"]
    for backend in BACKENDS:
        reason = can_run(backend, device, dtype)
        if reason is not None:
            lines.append(f"  {backend}: no, {reason}")
        elif backend == chosen:
            how = ", asked for" if _override else ""
            lines.append(f"  {backend}: chosen{how}")
        else:
            lines.append(f"  {backend}: can run")
    return "\n".join(lines)
