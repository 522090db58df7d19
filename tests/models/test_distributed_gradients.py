from __future__ import annotations

import os
import subprocess
import sys

import torch
from safetensors.torch import load_file

from hpvod.data import ImageNetVID
from hpvod.training.sampler import PairSampler

from . import branches
from .small_training import make_small_data, train_small

CHECKPOINT = "checkpoint.safetensors"
MOMENTUM = "optimizer.momentum_buffer."


def in_two_processes(*command):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*torchrun, "--nproc-per-node", "2", *command],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
    )


def run_in_two_processes(*command):
    done = in_two_processes(*command)
    assert done.returncode == 0, done.stderr


def test_two_processes_with_a_sample_each_train_like_one_with_both(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    branches.train(one, 2)
    run_in_two_processes(branches.__file__, str(two))
    expected, found = load_file(one / CHECKPOINT), load_file(two / CHECKPOINT)
    assert expected.keys() == found.keys()
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-6, atol=1e-7)


def test_a_run_of_which_one_process_is_stopped_stops_whole_and_goes_on(tmp_path):
    """The first process writes the checkpoint while the other has nothing left to do."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run_in_two_processes(branches.__file__, str(whole))
    done = in_two_processes(branches.__file__, str(stopped), "4")
    assert done.returncode != 0 and "KeyboardInterrupt" in done.stderr
    expected = load_file(whole / CHECKPOINT)
    halfway = load_file(stopped / CHECKPOINT)
    assert not torch.equal(halfway["model.0.weight"], expected["model.0.weight"])
    run_in_two_processes(branches.__file__, str(stopped))
    found = load_file(stopped / CHECKPOINT)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def gradients_of(run, weights):
    """After the first step, momentum is the gradient and the weight decay."""
    checkpoint, before = load_file(run / CHECKPOINT), load_file(weights)
    names = [name.removeprefix(MOMENTUM) for name in checkpoint if name.startswith(MOMENTUM)]
    return {name: checkpoint[MOMENTUM + name] - 5e-4 * before[name] for name in names}


def everything_is_read(data, seed):
    """By the first iteration: flow and Q as well."""
    draw = PairSampler(ImageNetVID(data, "train"), None, seed).draw(0)
    return draw.mask == "predicted" and draw.key is not draw.current


def test_two_processes_have_the_gradients_of_one_with_both_images(tmp_path):
    """Of the detector, for a frame of video and a still image."""
    data, weights = make_small_data(tmp_path)
    one, two = tmp_path / "one", tmp_path / "two"
    seed = next(seed for seed in range(99) if everything_is_read(data, seed))
    train_small(one, data, weights, iterations=1, batch=2, seed=seed)
    options = f"--det {data} --weights {weights} --out {two} --from-scratch --iterations 1"
    options += f" --seed {seed} --device cpu --workers 0"
    run_in_two_processes("-m", "hpvod", "train", str(data), *options.split())
    expected, found = gradients_of(one, weights), gradients_of(two, weights)
    assert expected.keys() == found.keys()
    trained = [name for name, gradient in expected.items() if gradient.abs().max() > 1e-6]
    for part in (
        "features.res5",
        "flow.encoder",
        "flow.quality",
        "embedding",
        "detection.rpn",
        "detection.rfcn",
    ):
        assert any(name.startswith(part) for name in trained)
    for name, gradient in expected.items():
        scale = max(gradient.abs().max().item(), 1e-3)
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-5 * scale)
