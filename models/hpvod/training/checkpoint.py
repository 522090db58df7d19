"""Checkpoints: all that a run needs to go on as if it had never stopped.

A safetensors file: model and optimizer as tensors, the rest as JSON in its metadata. There is no
random state: every draw is a function of the seed and the iteration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hpvod.tensor_file import check_tensors, read_tensors, write_tensors
from hpvod.training.errors import TrainingError

_FORMAT = "hpvod-checkpoint"
_MODEL = "model."


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
        path: replaced once the new one is whole.
        module: what is trained.
        optimizer: of some of the module's parameters.
        iteration: how many are done.
        arguments: of the run, in types that JSON has.
        scaler: `GradScaler.state_dict`; empty without one.

    Raises:
        WeightsError: the file cannot be written.
    """
    tensors = {f"{_MODEL}{name}": value for name, value in module.state_dict().items()}
    for name, parameter in module.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                tensors[f"optimizer.{key}.{name}"] = value
    state = {"iteration": iteration, "arguments": dict(arguments), "scaler": dict(scaler)}
    write_tensors(path, tensors, {"format": _FORMAT, "state": json.dumps(state)})


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
        WeightsError: the file is damaged, or of another architecture.
        TrainingError: it is no checkpoint, or of a run with other arguments.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != _FORMAT:
        raise TrainingError(f"{path}: is no checkpoint")
    state = json.loads(metadata["state"])
    _check_arguments(path, state["arguments"], json.loads(json.dumps(dict(arguments))))
    model = {
        name.removeprefix(_MODEL): tensors.pop(name)
        for name in list(tensors)
        if name.startswith(_MODEL)
    }
    check_tensors(path, model, module.state_dict())
    module.load_state_dict(model)
    parameters = dict(module.named_parameters())
    for name, value in tensors.items():
        _, key, parameter_name = name.split(".", 2)
        parameter = parameters[parameter_name]
        # Adam counts its steps on the CPU.
        optimizer.state[parameter][key] = value if key == "step" else value.to(parameter.device)
    return state["iteration"], state["scaler"]


def _check_arguments(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            option = name.replace("_", "-")
            raise TrainingError(
                f"--{option}: is {now.get(name)}, but {path} is of a run with {before.get(name)}; "
                "give the same to go on, or another --out to start anew"
            )
