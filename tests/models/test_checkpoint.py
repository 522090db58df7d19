from __future__ import annotations

import errno
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hpvod.tensor_file import WeightsError
from hpvod.training.checkpoint import load_checkpoint, save_checkpoint
from hpvod.training.errors import TrainingError

ARGUMENTS = {"seed": 3, "learning_rate": 0.1, "amp": None, "data": "/data"}
OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.1),
}


class Two(nn.Module):
    """A layer that is trained and one that is not."""

    def __init__(self, seed, width=3):
        super().__init__()
        torch.manual_seed(seed)
        self.trained = nn.Linear(width, width)
        self.frozen = nn.Linear(width, 2)


def stepped(module, optimizer, steps):
    for step in range(steps):
        optimizer.zero_grad()
        module.trained(torch.full((3,), float(step))).square().sum().backward()
        optimizer.step()


def saved(path, name="sgd", steps=2, scaler=None):
    module = Two(seed=0)
    optimizer = OPTIMIZERS[name](module.trained.parameters())
    stepped(module, optimizer, steps)
    save_checkpoint(path, module, optimizer, steps, ARGUMENTS, scaler or {})
    return module, optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("steps", [0, 2])
def test_the_next_steps_are_those_of_the_saved_run(tmp_path, name, steps):
    path = tmp_path / "checkpoint.safetensors"
    scaler = {"scale": 1024.0, "_growth_tracker": 7}
    module, optimizer = saved(path, name, steps, scaler)
    other = Two(seed=1)
    its_optimizer = OPTIMIZERS[name](other.trained.parameters())
    assert load_checkpoint(path, other, its_optimizer, ARGUMENTS) == (steps, scaler)
    stepped(module, optimizer, 3)
    stepped(other, its_optimizer, 3)
    for key, value in module.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 4}, r"^--seed: is 4, but .*c\.safetensors is of a run with 3; give the same"),
        ({"learning_rate": 0.2}, r"^--learning-rate: is 0\.2, .* a run with 0\.1"),
        ({"amp": "bf16"}, r"^--amp: is bf16, .* a run with None"),
        ({"stills": 1}, r"^--stills: is 1, .* a run with None"),
    ],
)
def test_other_arguments(tmp_path, changes, message):
    path = tmp_path / "c.safetensors"
    saved(path)
    module = Two(seed=1)
    before = module.trained.weight.clone()
    with pytest.raises(TrainingError, match=message):
        load_checkpoint(path, module, OPTIMIZERS["sgd"](module.parameters()), ARGUMENTS | changes)
    assert torch.equal(module.trained.weight, before)


def load(path, module=None):
    module = module or Two(seed=0)
    return load_checkpoint(path, module, OPTIMIZERS["sgd"](module.parameters()), ARGUMENTS)


def test_another_architecture(tmp_path):
    path = tmp_path / "c.safetensors"
    saved(path)
    message = rf"^{path}: .*another architecture: trained\.weight is \[3, 3\] and not \[4, 4\]"
    with pytest.raises(WeightsError, match=message):
        load(path, Two(seed=0, width=4))
    with pytest.raises(WeightsError, match=r"frozen\.bias, .* not in the model"):
        load(path, nn.ModuleDict({"trained": nn.Linear(3, 3)}))


def test_damaged(tmp_path):
    path = tmp_path / "c.safetensors"
    saved(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=rf"^{path}: is truncated or damaged$"):
        load(path)
    path.write_bytes(b"text")
    with pytest.raises(WeightsError, match=rf"^{path}: is not a safetensors file$"):
        load(path)
    save_file({"weight": torch.zeros(2)}, path, {"format": "pt"})
    with pytest.raises(TrainingError, match=rf"^{path}: is no checkpoint$"):
        load(path)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_is_full_leaves_the_one_before(tmp_path, monkeypatch, call):
    path = tmp_path / "c.safetensors"
    saved(path)
    before = load_file(path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    message = rf"^{path}: cannot be written \(No space left on device\); the one before is kept$"
    with pytest.raises(WeightsError, match=message):
        saved(path, steps=5)
    after = load_file(path)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert list(tmp_path.iterdir()) == [path]


def test_the_first_one_cannot_be_written(tmp_path):
    path = tmp_path / "none" / "c.safetensors"
    with pytest.raises(WeightsError, match=rf"^{path}: cannot be written \(.+\)$"):
        saved(path)
