"""A script that kills a run of the detector at random moments and lets it go on each time.

python killed_training.py DATA WEIGHTS FOLDER: the unbroken run in FOLDER/whole, the other ones in
FOLDER/killed0 and so on. Runs are forked from here, so that PyTorch is imported once; this process
itself computes nothing, as autograd could not be used in a fork of it then.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import torch
from small_training import train_small

ITERATIONS = 20
KILLS = 10


def run(out: Path, data: Path, weights: Path) -> int:
    child = os.fork()
    if child:
        return child
    try:
        torch.set_num_threads(1)
        train_small(out, data, weights, iterations=ITERATIONS)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def finish(out: Path, data: Path, weights: Path) -> None:
    _, status = os.waitpid(run(out, data, weights), 0)
    assert status == 0


def main(data: Path, weights: Path, folder: Path) -> None:
    started = time.monotonic()
    finish(folder / "whole", data, weights)
    longest = (time.monotonic() - started) / 3
    moments = random.Random(0)
    kills, runs = 0, 0
    while kills < KILLS:
        child = run(folder / f"killed{runs}", data, weights)
        time.sleep(moments.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            kills += 1
        else:  # It was done before; the next one starts anew.
            assert status == 0
            runs += 1
    finish(folder / f"killed{runs}", data, weights)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
