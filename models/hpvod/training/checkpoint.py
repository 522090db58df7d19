"""Checkpoints: all that a run needs to go on as if it had never stopped.

A safetensors file: model and optimizer as tensors, the rest as JSON in its metadata. There is no
random state: every draw is a function of the seed and the iteration.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from hpvod.training.errors import TrainingError

_FORMAT = "hpvod-checkpoint"


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file that is there whole or not at all, whenever the process or machine stops.

    Raises:
        TrainingError: it cannot be written; what was there before is untouched.
    """
    temporary = path.with_name(f"{path.name}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        kept = "; the one before is kept" if path.exists() else ""
        raise TrainingError(f"{path}: cannot be written ({error.strerror}){kept}") from error


def save_checkpoint(
    path: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    iteration: int,
    arguments: Mapping[str, Any],
    scaler: Mapping[str, Any],
) -> None:
    """Writes a checkpoint.

    Args:
        path: replaced atomically.
        module: what is trained.
        optimizer: of some of the module's parameters.
        iteration: how many are done.
        arguments: of the run, in types that JSON has.
        scaler: `GradScaler.state_dict`; empty without one.

    Raises:
        TrainingError: the file cannot be written.
    """
    tensors = {f"model.{name}": value for name, value in module.state_dict().items()}
    for name, parameter in module.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                tensors[f"optimizer.{key}.{name}"] = value
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    state = {"iteration": iteration, "arguments": dict(arguments), "scaler": dict(scaler)}
    write_atomically(path, save(tensors, {"format": _FORMAT, "state": json.dumps(state)}))


def load_checkpoint(
    path: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    arguments: Mapping[str, Any],
) -> tuple[int, dict[str, Any]]:
    """Puts a checkpoint into the module and the optimizer.

    Returns:
        How many iterations are done, and the scaler's state.

    Raises:
        TrainingError: the file is damaged, or of a run with other arguments.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise TrainingError(f"{path}: cannot be read as a checkpoint ({error})") from error
    if metadata.get("format") != _FORMAT:
        raise TrainingError(f"{path}: is no checkpoint")
    state = json.loads(metadata["state"])
    _check_arguments(path, state["arguments"], json.loads(json.dumps(dict(arguments))))
    prefix = "model."
    module.load_state_dict(
        {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
    )
    parameters = dict(module.named_parameters())
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, key, parameter_name = name.split(".", 2)
            parameter = parameters[parameter_name]
            # Adam counts its steps on the CPU.
            place: Tensor = value if key == "step" else value.to(parameter.device)
            optimizer.state[parameter][key] = place
    return state["iteration"], state["scaler"]


def _check_arguments(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            option = name.replace("_", "-")
            raise TrainingError(
                f"--{option}: is {now.get(name)}, but {path} is of a run with {before.get(name)}; "
                "give the same to go on, or another --out to start anew"
            )
