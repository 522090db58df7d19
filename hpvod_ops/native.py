"""Loads the compiled libraries, and says why one is not there."""

from __future__ import annotations

import importlib

import torch


def _load(name: str) -> str | None:
    """Imports a compiled library; the reason where it cannot be."""
    try:
        importlib.import_module(f"hpvod_ops.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"hpvod_ops.{name}":
            raise
        return f"hpvod_ops.{name} was not built"
    except ImportError as error:
        return f"hpvod_ops.{name} does not load: {error}"
    return None


_reason = _load("_C")
if _reason is not None:
    raise ImportError(
        f"{_reason}. Install hpvod with `pip install .` in its source folder; it then works "
        "from any folder."
    )

#: Why the CUDA kernels are not there, or None if they are.
CUDA_MISSING: str | None = (
    _load("_C_cuda") if torch.version.cuda else f"torch {torch.__version__} is a build without CUDA"
)
if CUDA_MISSING == "hpvod_ops._C_cuda was not built":
    CUDA_MISSING += " (no nvcc when hpvod was installed, or HPVOD_CUDA=off)"


def cpu_isa() -> str:
    """The instruction set that the CPU kernels run with: portable, avx2 or avx512."""
    return str(torch.ops.hpvod.cpu_isa())


def cuda_architectures() -> tuple[str, ...]:
    """What the CUDA kernels were built for, in CMAKE_CUDA_ARCHITECTURES' words."""
    if CUDA_MISSING is not None:
        return ()
    return tuple(str(torch.ops.hpvod.cuda_architectures()).split(","))


def cuda_runs_on(capability: tuple[int, int]) -> bool:
    """Whether a GPU of this compute capability can run what was built."""
    major, minor = capability
    for architecture in cuda_architectures():
        number, _, kind = architecture.partition("-")
        specific = not number[-1].isdigit()  # 90a: that very GPU and no other
        built = divmod(int(number.rstrip("af")), 10)
        if built == (major, minor):
            return True
        if not specific and kind != "virtual" and built[0] == major and built[1] <= minor:
            return True
        if not specific and kind != "real" and built <= (major, minor):  # PTX
            return True
    return False
