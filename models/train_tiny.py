"""Trains the `tiny` model that comes with the package: `python models/train_tiny.py OUT`.

Makes synthetic data and runs hpvod's own commands on them, each printed before it runs:

1. `hpvod make-data`: pairs of frames with their flow, single images, and clips;
2. `hpvod pretrain-flow` on the pairs;
3. `hpvod train --from-scratch` on the single images: what objects look like;
4. `hpvod train` on pairs of frames of the clips, all networks together, as in the paper. The flow
   learns ten times slower than the rest: at the others' rate, which is ten times the paper's, it
   forgets in 4 what it learnt in 2.
5. The same with a larger lambda, now that Q tells good propagation from bad. With that lambda from
   the beginning Q grows everywhere, until nothing is recomputed.

Leaves OUT/tiny.safetensors, and OUT/tiny.csv with the losses of 2 to 5. Run again, it goes on from
the last checkpoint. It takes 4 GB of disk and, on 2 slow cores (AMD EPYC Milan), about 105 minutes.
"""

from __future__ import annotations

import argparse
import csv
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

_DATA = {
    "flow": "--train 0 --val 0 --flow 2500 --seed 1",
    "images": "--train 1800 --frames 1 --stills 1800 --val 0 --seed 2",
    "clips": "--train 900 --frames 12 --val 0 --seed 3",
}
_PROCESSES = 2  # on a GPU one, with the samples of both


def main(arguments: list[str] | None = None) -> None:
    """Runs what is not done yet."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("out", metavar="OUT", type=Path, help="folder; may be an unfinished run's")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and samples (0)")
    parser.add_argument("--area-weight", type=float, default=0.05, help="lambda at last (0.05)")
    options = parser.parse_args(arguments)
    out: Path = options.out
    for name, data_options in _DATA.items():
        _make_data(out / "data" / name, data_options)
    images = out / "data/images"
    seed, next_seed = (["--seed", options.seed + more] for more in (0, 1))
    _train(
        ["pretrain-flow", out / "data/flow/FlyingChairs", "--out", out / "flow", *seed],
        "--model tiny --split all --iterations 10000 --learning-rate 2e-3",
        batch=8,
    )
    _train(
        ["train", images, "--det", images, "--out", out / "images", *seed],
        "--model tiny --from-scratch --iterations 6000 --learning-rate 0.01",
        batch=4,
    )
    weights = ["--weights", out / "images/model.safetensors"]
    weights += ["--flow", out / "flow/flow.safetensors"]
    train_on_clips = ["train", out / "data/clips", "--det", images]
    _train(
        [*train_on_clips, "--out", out / "clips", *weights, *seed],
        "--from-scratch --iterations 3500 --learning-rate 0.01 --flow-rate 0.1 --area-weight 0.01",
        batch=4,
    )
    weights = ["--weights", out / "clips/model.safetensors", "--area-weight", options.area_weight]
    _train(
        [*train_on_clips, "--out", out / "updates", *weights, *next_seed],
        "--from-scratch --iterations 500 --learning-rate 0.01 --flow-rate 0.1",
        batch=4,
    )
    shutil.copyfile(out / "updates/model.safetensors", out / "tiny.safetensors")
    _write_log(out)
    print(f"{out / 'tiny.safetensors'}, {out / 'tiny.csv'}")


def _make_data(folder: Path, options: str) -> None:
    """Makes a data set, whole or not at all."""
    if folder.exists():
        return
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    _run([sys.executable, "-m", "hpvod", "make-data", str(unfinished), *options.split()])
    unfinished.rename(folder)


def _train(command: list[object], options: str, batch: int) -> None:
    """Runs a command that trains; what is done already is not done again."""
    arguments = [*map(str, command), *options.split()]
    if torch.cuda.is_available():
        _run([sys.executable, "-m", "hpvod", *arguments, "--batch", str(batch)])
        return
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={_PROCESSES}"]
    share = ["--batch", str(batch // _PROCESSES), "--workers", "2"]
    _run([sys.executable, "-m", *torchrun, "-m", "hpvod", *arguments, *share])


def _run(command: list[str]) -> None:
    print(f"$ {shlex.join(command)}", flush=True)
    # Ctrl-C reaches the command by itself: it saves what it has, and is waited for.
    signal.signal(signal.SIGINT, lambda *_: None)
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    if status := process.wait():
        sys.exit(status)


def _write_log(out: Path) -> None:
    """Writes the means that TensorBoard has, a line for every 20 iterations."""
    names: dict[str, None] = {}
    lines: list[dict[str, str | int | float]] = []
    for stage in ("flow", "images", "clips", "updates"):
        events = EventAccumulator(str(out / stage / "tensorboard"), {"scalars": 0}).Reload()
        values: dict[int, dict[str, float]] = defaultdict(dict)
        for name in events.Tags()["scalars"]:
            names[name] = None
            for event in events.Scalars(name):
                values[event.step][name] = event.value
        lines += [{"stage": stage, "iteration": step, **values[step]} for step in sorted(values)]
    with (out / "tiny.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["stage", "iteration", *names], lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {
                name: f"{value:.5g}" if isinstance(value, float) else value
                for name, value in line.items()
            }
            for line in lines
        )


if __name__ == "__main__":
    main()
