"""Calls of a bound op on bytes, many at once. Needs NumPy alone, to run under a sanitizer."""

from __future__ import annotations

import importlib
import pickle
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from simt.warp_calls import place

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class OpCall:
    """One call of an op's `run`."""

    values: dict[str, Any]  # the keywords that are no arrays
    arrays: dict[str, np.ndarray]  # maps as bytes; outputs as they are before
    address: int = field(default=0)  # of every map, modulo 256
    alone: str = field(default="")  # the one map that has the address, where not all have it

    def run(self, module: ModuleType) -> dict[str, np.ndarray]:
        """All arrays as they are afterwards; these here stay."""
        arrays = {
            name: place(array, self.address if self.alone in ("", name) else 0)
            if array.dtype == np.uint8
            else array.copy()
            for name, array in self.arrays.items()
        }
        module.run(**self.values, **arrays)
        return arrays


def bytes_of(tensor: torch.Tensor) -> np.ndarray:
    """A map's bytes in channels_last, or those of a tensor of fewer than two channels."""
    import torch

    return tensor.permute(0, 2, 3, 1).flatten().view(torch.uint8).numpy()


def tensor_of(array: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """The map that such bytes are, of the shape and type of `like`."""
    import torch

    batch, channels, height, width = like.shape
    flat = torch.empty(like.numel(), dtype=like.dtype)
    flat.view(torch.uint8)[:] = torch.from_numpy(array)
    return flat.view(batch, height, width, channels).permute(0, 3, 1, 2)


def name_of(dtype: torch.dtype) -> str:
    """As the bindings know it."""
    return str(dtype).removeprefix("torch.")


def run_sanitized(path: Path, calls: list[OpCall], folder: Path) -> list[dict[str, np.ndarray]]:
    """What the calls give on the sanitized module at `path`; fails with the sanitizer's report."""
    from simt import simt_build

    (folder / "calls").write_bytes(pickle.dumps(calls))
    arguments = [path.stem, str(folder / "calls"), str(folder / "results")]
    done = simt_build.run_sanitized(
        path,
        "import runpy, sys\n"
        f"sys.argv[1:] = {arguments}\n"
        "runpy.run_module('simt.op_calls', run_name='__main__')\n",
    )
    assert done.returncode == 0, done.stderr
    results: list[dict[str, np.ndarray]] = pickle.loads((folder / "results").read_bytes())
    return results


def main() -> None:
    """Runs the pickled calls of one file on a module and pickles their results to another."""
    name, calls, results = sys.argv[1], *map(Path, sys.argv[2:])
    module = importlib.import_module(name)
    done = [call.run(module) for call in pickle.loads(calls.read_bytes())]
    results.write_bytes(pickle.dumps(done))


if __name__ == "__main__":
    main()
