from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from hpvod.processes import process_group
from hpvod.training.trainer import Run, Trainer


class Branches:
    """A task that gives one sample a gradient of the one layer, the next of the other."""

    terms = ("total",)

    def __init__(self):
        torch.manual_seed(0)
        self.module = nn.ModuleList([nn.Linear(5, 5), nn.Linear(5, 5)])
        self.parameters = list(self.module.parameters())
        self.optimizer = torch.optim.SGD(self.parameters, lr=0.0, momentum=0.9, weight_decay=5e-4)

    def read(self, position, attempt):
        x = torch.randn(5, generator=torch.Generator().manual_seed(position))
        return position % 2, x

    def losses(self, sample, device):
        branch, x = sample
        return (self.module[branch](x) - x).square().mean()[None]


def train(out, batch):
    with process_group("gloo") as (rank, world):
        run = Run(
            out=out,
            arguments={},
            iterations=10,
            batch=batch,
            learning_rate=0.1,
            device=torch.device("cpu"),
            rank=rank,
            world=world,
        )
        Trainer(Branches(), run).train()


def test_two_processes_with_a_sample_each_train_like_one_with_both(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    train(one, 2)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", __file__, str(two)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, timeout=60)
    name = "checkpoint.safetensors"
    expected, found = load_file(one / name), load_file(two / name)
    assert expected.keys() == found.keys()
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-6, atol=1e-7)


if __name__ == "__main__":
    train(Path(sys.argv[1]), 1)
