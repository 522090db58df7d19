"""Calls of the bound `warp` launchers on bytes. Needs NumPy alone, to run under a sanitizer."""

from __future__ import annotations

import pickle
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Call:
    """One forward and backward pass; arrays are flat bytes in the memory order of the layout."""

    shape: dict[str, Any]  # the keywords of WarpShape
    inputs: dict[str, np.ndarray]  # feature, flow, grad_output, and scale if there is one
    wanted: frozenset[str] = frozenset(("feature", "flow", "scale"))  # gradients
    address: int = field(default=0)  # of every map, modulo 256

    def run(self, warp: ModuleType) -> dict[str, np.ndarray]:
        """The output and the wanted gradients; what the kernels have not written is NaN."""
        inputs = {
            name: place(array, 0 if name == "flow" else self.address)
            for name, array in self.inputs.items()
        }
        feature, flow, scale = (inputs.get(name) for name in ("feature", "flow", "scale"))
        poison = {name: np.full_like(array, 0xFF) for name, array in inputs.items()}
        output = place(poison["grad_output"], self.address)
        gradients = {
            name: place(poison[name], 0 if name == "flow" else self.address)
            for name in inputs.keys() & self.wanted
        }
        shape = warp.WarpShape(**self.shape)
        warp.forward(shape, feature, flow, scale, output)
        warp.backward(
            shape,
            feature,
            flow,
            scale,
            inputs["grad_output"],
            *(gradients.get(name) for name in ("feature", "flow", "scale")),
        )
        return {"output": output, **{f"grad_{name}": array for name, array in gradients.items()}}


def place(array: np.ndarray, address: int) -> np.ndarray:
    """A copy at an address that leaves this remainder modulo 256."""
    memory = np.empty(array.size + 256, np.uint8)
    first = (address - memory.ctypes.data) % 256
    copy = memory[first : first + array.size]
    copy[:] = array
    return copy


def main() -> None:
    """Runs the pickled calls of one file and pickles their results to another."""
    import warp

    calls, results = map(Path, sys.argv[1:])
    done = [call.run(warp) for call in pickle.loads(calls.read_bytes())]
    results.write_bytes(pickle.dumps(done))


if __name__ == "__main__":
    main()
