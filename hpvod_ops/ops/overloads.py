"""What an op registers beside its compiled kernels: the .triton overload and a fake kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_library = torch.library.Library("hpvod", "FRAGMENT")


def define_triton(name: str, function: Callable[..., Any]) -> None:
    """Defines torch.ops.hpvod.<name>.triton, with the schema of the compiled op."""
    schema = str(getattr(torch.ops.hpvod, name).default._schema)
    _library.define(schema.removeprefix("hpvod::").replace(name, f"{name}.triton", 1))
    for key in ("CPU", "CUDA"):  # on the CPU in Triton's interpreter
        _library.impl(f"{name}.triton", function, key)


def register_fake(name: str, function: Callable[..., Any]) -> None:
    """Registers one fake kernel for both overloads."""
    for overload in ("default", "triton"):
        torch.library.register_fake(getattr(getattr(torch.ops.hpvod, name), overload), function)


def register_fake_of_out(name: str) -> None:
    """Registers the fake kernel of an op that writes into given memory and returns nothing."""
    torch.library.register_fake(
        getattr(torch.ops.hpvod, name).default, lambda *arguments, **memory: None
    )
