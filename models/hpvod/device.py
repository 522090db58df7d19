"""Which device a command runs on."""

from __future__ import annotations

import os

import torch


class DeviceError(ValueError):
    """PyTorch cannot use the device asked for; the message says why."""


def choose_device(name: str | None) -> torch.device:
    """The device of `--device`, or a GPU if there is one; under torchrun, this process's own GPU.

    Args:
        name: "cpu", "cuda" or "cuda:N"; None where the option was not given.

    Raises:
        DeviceError: there is no such device.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"--device: unknown device {name!r}; choose cpu, cuda or cuda:N")
    if device.type == "cuda":
        index = int(os.environ.get("LOCAL_RANK", device.index or 0))
        if index >= torch.cuda.device_count():
            raise DeviceError(f"--device {name}: PyTorch finds no such GPU on this machine")
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
    return device
