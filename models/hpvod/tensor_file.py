"""Tensors in safetensors files: written whole, and read with a message that says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from hpvod.whole_file import whole_file


class WeightsError(ValueError):
    """A file of weights cannot be used; the message names the file and says why."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes a file; an older one is replaced once the new one is whole.

    Args:
        path: of the file.
        tensors: by name, on any device.
        metadata: for its header.

    Raises:
        WeightsError: it cannot be written; the older one is kept.
    """
    on_cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    try:
        with whole_file(path) as unfinished:
            # safetensors' own writer would make a file that no other user may read.
            unfinished.write_bytes(save(on_cpu, metadata))
    except OSError as error:
        kept = "; the one before is kept" if path.exists() else ""
        raise WeightsError(f"{path}: cannot be written ({error.strerror}){kept}") from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, on the CPU, and the metadata of a file; nothing in it is ever executed.

    Raises:
        WeightsError: it is missing, or is no whole safetensors file.
    """
    check_is_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        # A safetensors file starts with the length of its JSON header in 8 bytes.
        is_safetensors = first_bytes(path, 9)[8:] == b"{"
        what = "is truncated or damaged" if is_safetensors else "is not a safetensors file"
        raise WeightsError(f"{path}: {what}") from error


def check_tensors(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raises WeightsError unless names and shapes are the expected ones, and all floating point."""
    if missing := sorted(expected.keys() - found.keys()):
        problem = f"{_listed(missing)} missing"
    elif unexpected := sorted(found.keys() - expected.keys()):
        problem = f"{_listed(unexpected)} not in the model"
    else:
        wrong = [
            f"{name} is {list(found[name].shape)} and not {list(value.shape)}"
            for name, value in expected.items()
            if found[name].shape != value.shape
        ]
        wrong += [
            f"{name} holds {value.dtype} and no floating point"
            for name, value in found.items()
            if not value.is_floating_point()
        ]
        if not wrong:
            return
        problem = _listed(wrong)
    raise WeightsError(f"{path}: the tensors are of another architecture: {problem}")


def first_bytes(path: Path, count: int) -> bytes:
    """Raises WeightsError where the file cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error


def check_is_file(path: Path) -> None:
    """Raises WeightsError where there is no such file."""
    if not path.is_file():
        raise WeightsError(f"{path}: {'is not a file' if path.exists() else 'no such file'}")


def _listed(items: list[str]) -> str:
    rest = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return ", ".join(items[:3]) + rest
