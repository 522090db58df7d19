from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from .small_training import make_small_data

SCRIPT = Path(__file__).with_name("killed_training.py")


def test_a_run_killed_at_ten_random_moments_ends_like_the_unbroken_one(tmp_path: Path) -> None:
    data, weights = make_small_data(tmp_path)
    command = [sys.executable, str(SCRIPT), str(data), str(weights), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    before = load_file(weights)
    whole = load_file(tmp_path / "whole" / "model.safetensors")
    assert not torch.equal(whole["flow.quality.weight"], before["flow.quality.weight"])
    killed = sorted(tmp_path.glob("killed*"))
    assert killed
    for run in killed:
        resumed = load_file(run / "model.safetensors")
        assert resumed.keys() == whole.keys()
        assert all(torch.equal(resumed[name], whole[name]) for name in whole)
