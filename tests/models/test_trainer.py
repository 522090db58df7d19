from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hpvod.data import DataError
from hpvod.tensor_file import WeightsError
from hpvod.training.errors import TrainingError
from hpvod.training.schedule import learning_rate
from hpvod.training.trainer import Run, Trainer, _Stop


class Line:
    """A tiny task: the slope of y = 3 x."""

    terms = ("total", "updated")

    def __init__(self, bad=()):
        torch.manual_seed(0)
        self.module = nn.Linear(4, 4)
        self.parameters = list(self.module.parameters())
        self.optimizer = torch.optim.SGD(self.parameters, lr=0.0, momentum=0.9, weight_decay=5e-4)
        self.bad = bad
        self.pause = 0.0

    def read(self, position, attempt):
        if attempt == 0 and position in self.bad:
            raise DataError(f"{position}.JPEG: truncated")
        time.sleep(self.pause)
        return torch.randn(4, generator=torch.Generator().manual_seed(100 * position + attempt))

    def parts(self, samples):
        return ((sample, 1) for sample in samples)

    def losses(self, sample, device):
        total = (self.module(sample) - 3 * sample).square().mean()
        return torch.stack((total, torch.zeros(())))


def run_in(out, **changes):
    run = Run(
        out=out,
        arguments={"seed": 0, "learning_rate": 0.01},
        iterations=12,
        batch=2,
        learning_rate=0.01,
        device=torch.device("cpu"),
        checkpoint_every=4,
    )
    return dataclasses.replace(run, **changes)


def test_the_rate_is_a_tenth_after_two_thirds_and_rises_at_first():
    assert [learning_rate(1.0, i, 6) for i in range(6)] == [1, 1, 1, 1, 0.1, 0.1]
    assert learning_rate(1.0, 0, 100, warm_up=9) == pytest.approx(0.1)
    assert learning_rate(1.0, 9, 100, warm_up=9) == 1


def test_a_run_that_goes_on_ends_like_one_that_never_stopped(tmp_path):
    whole = Line()
    Trainer(whole, run_in(tmp_path / "whole")).train()
    stopped = Line()
    losses = stopped.losses
    calls = []

    def interrupted(sample, device):
        calls.append(0)
        if len(calls) == 9:  # in iteration 4
            os.kill(os.getpid(), signal.SIGINT)
        return losses(sample, device)

    stopped.losses = interrupted
    run = run_in(tmp_path / "stopped")
    with pytest.raises(KeyboardInterrupt):
        Trainer(stopped, run).train()
    again = Line()
    trainer = Trainer(again, run)
    assert trainer.iteration == 5
    trainer.train()
    for a, b in zip(whole.parameters, again.parameters, strict=True):
        assert torch.equal(a, b)


def test_other_arguments_are_refused_by_name(tmp_path):
    Trainer(Line(), run_in(tmp_path)).train()
    with pytest.raises(TrainingError, match=r"--learning-rate: is 0\.5.*run with 0\.01"):
        Trainer(Line(), run_in(tmp_path, arguments={"seed": 0, "learning_rate": 0.5}))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda x: x.sum() * float("nan"), "the loss is nan"),
        # The root of 0 has an infinite slope.
        (lambda x: (x - x).abs().sum().sqrt(), "the gradient's norm is (nan|inf)"),
    ],
)
def test_what_is_not_finite_keeps_the_last_checkpoint(tmp_path, bad, message):
    Trainer(Line(), run_in(tmp_path, iterations=4)).train()
    before = load_file(tmp_path / "checkpoint.safetensors")
    task = Line()
    task.losses = lambda sample, device: bad(task.module(sample))[None]
    task.terms = ("total",)
    with pytest.raises(TrainingError, match=rf"iteration 4: {message}.*is kept"):
        Trainer(task, run_in(tmp_path, checkpoint_every=1)).train()
    after = load_file(tmp_path / "checkpoint.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_corrupt_file_is_named_counted_and_replaced(tmp_path):
    trainer = Trainer(Line(bad=(3,)), run_in(tmp_path))
    with pytest.warns(UserWarning, match=r"3\.JPEG"):
        trainer.train()
    assert trainer.skipped.messages == ["3.JPEG: truncated"]
    assert trainer.iteration == 12


def test_a_disk_that_is_full_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    Trainer(Line(), run_in(tmp_path, iterations=4)).train()
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(WeightsError, match=r"No space left on device.*the one before is kept"):
        Trainer(Line(), run_in(tmp_path)).train()
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    assert not list(tmp_path.glob("*.unfinished"))


def _full(_):
    raise OSError(28, "No space left on device")


def test_a_run_that_is_killed_ends_like_one_that_never_stopped(tmp_path):
    """SIGKILL at several moments, then to the end."""
    whole = Line()
    Trainer(whole, run_in(tmp_path / "whole", iterations=200, checkpoint_every=1)).train()
    out = tmp_path / "killed"
    out.mkdir()
    for delay in (0.05, 0.2):
        process = subprocess.Popen([sys.executable, __file__, str(out)], cwd=Path.cwd())
        while not (out / "checkpoint.safetensors").exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(delay)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    last = Line()
    trainer = Trainer(last, run_in(out, iterations=200, checkpoint_every=1))
    assert 0 < trainer.iteration < 200
    trainer.train()
    for a, b in zip(whole.parameters, last.parameters, strict=True):
        assert torch.equal(a, b)


if __name__ == "__main__":
    torch.set_num_threads(1)
    slow = Line()
    slow.pause = 0.01
    Trainer(slow, run_in(Path(sys.argv[1]), iterations=200, checkpoint_every=1)).train()


def test_a_second_sigterm_does_not_kill():
    # torchrun passes on what every process may have got already.
    with _Stop() as stop:
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        assert stop.asked


def test_a_second_ctrl_c_does():
    # A shell that starts the tests in the background has them ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), _Stop():
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
