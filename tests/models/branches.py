"""A task that gives one sample a gradient of the one layer, the next of the other.

As a script, `branches.py OUT`, one of several processes that train it. `branches.py OUT N`: the
last of them is stopped in iteration N, and checkpoints take long to write.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

from hpvod.processes import process_group
from hpvod.training.trainer import Run, Trainer


class Branches:
    terms = ("total",)

    def __init__(self, stopped_at=0):
        self.left = stopped_at
        torch.manual_seed(0)
        self.module = nn.ModuleList([nn.Linear(5, 5), nn.Linear(5, 5)])
        self.parameters = list(self.module.parameters())
        self.optimizer = torch.optim.SGD(self.parameters, lr=0.0, momentum=0.9, weight_decay=5e-4)

    def read(self, position, attempt):
        x = torch.randn(5, generator=torch.Generator().manual_seed(position))
        return position % 2, x

    def parts(self, samples):
        return ((sample, 1) for sample in samples)

    def losses(self, sample, device):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        branch, x = sample
        return (self.module[branch](x) - x).square().mean()[None]


class SlowTrainer(Trainer):
    def _save(self):
        time.sleep(1)
        super()._save()


def train(out, batch, stopped_at=0):
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
        task = Branches(stopped_at if rank == world - 1 else 0)
        (SlowTrainer if stopped_at else Trainer)(task, run).train()


if __name__ == "__main__":
    train(Path(sys.argv[1]), 1, *map(int, sys.argv[2:]))
