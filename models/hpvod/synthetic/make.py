"""A whole data set of synthetic clips and pairs, made by several processes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from hpvod.data.clip import DataError
from hpvod.synthetic.clip import make_clip, make_pair
from hpvod.synthetic.write import write_clip, write_file, write_lists, write_pair, write_still

_VAL_PAIR_EVERY = 10


@dataclass(frozen=True)
class Order:
    """What a data set is to hold.

    Attributes:
        train: clips to train on.
        val: clips to evaluate on.
        frames: of each clip.
        stills: images to train on.
        size: height and width of a frame in pixels.
        pairs: of frames with flow; every tenth is for validation.
        seed: decides everything.
    """

    train: int
    val: int
    frames: int
    stills: int
    size: tuple[int, int]
    pairs: int
    seed: int


def make_data(
    root: Path, order: Order, processes: int, done: Callable[[int], None] = lambda frames: None
) -> None:
    """Makes `order` in the folder `root`, the same whatever the number of processes.

    ImageNet VID's and DET's layouts, with the class names in classes.txt; the pairs in Flying
    Chairs' layout in the folder FlyingChairs. The lists are written last: without them the data are
    unfinished.

    Args:
        root: a folder that is new or empty.
        order: what to make.
        processes: that share the work, 1 or more.
        done: called with the frames of each clip, still or pair that is on disk.

    Raises:
        DataError: `root` is not empty or cannot be written, the disk is full, or a process died.
            Every file that exists then is whole.
        ValueError: `order` asks for frames that `make_clip` cannot make.
    """
    with _named_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        if any(root.iterdir()):
            raise DataError(f"{root}: is not empty; give a new folder")
        chairs = root / "FlyingChairs"
        if order.pairs:
            (chairs / "data").mkdir(parents=True)
        clips = {
            split: [f"{split}_{number:05d}" for number in range(count)]
            for split, count in (("train", order.train), ("val", order.val))
        }
        stills = [f"still_{number:06d}" for number in range(order.stills)]
        _run(_tasks(root, order, clips, stills), processes, done)
        if order.pairs:
            numbers = range(1, order.pairs + 1)
            kinds = "".join(f"{2 if number % _VAL_PAIR_EVERY == 0 else 1}\n" for number in numbers)
            write_file(chairs / "FlyingChairs_train_val.txt", kinds.encode())
        write_lists(root, order.frames, clips, stills)


@dataclass(frozen=True)
class _Task:
    """One clip, still or pair, which depends on nothing but its seed."""

    root: Path
    order: Order
    seed: np.random.SeedSequence
    split: str
    name: str

    def __call__(self) -> int:
        if self.split == "pairs":
            pair = make_pair(self.seed, self.order.size)
            write_pair(self.root / "FlyingChairs", int(self.name), pair)
            return 2
        if self.split == "stills":
            write_still(self.root, self.name, make_clip(self.seed, 1, self.order.size))
            return 1
        clip = make_clip(self.seed, self.order.frames, self.order.size)
        write_clip(self.root, self.split, self.name, clip)
        return self.order.frames


def _tasks(
    root: Path, order: Order, clips: dict[str, list[str]], stills: list[str]
) -> Iterator[_Task]:
    # A seed sequence for each kind: more training clips leave the validation clips as they were.
    pairs = [str(number) for number in range(1, order.pairs + 1)]
    names = {"train": clips["train"], "val": clips["val"], "pairs": pairs, "stills": stills}
    sequences = np.random.SeedSequence(order.seed).spawn(len(names))
    for sequence, (split, members) in zip(sequences, names.items(), strict=True):
        for seed, name in zip(sequence.spawn(len(members)), members, strict=True):
            yield _Task(root, order, seed, split, name)


def _run(tasks: Iterator[_Task], processes: int, done: Callable[[int], None]) -> None:
    # Spawned, not forked: a fork of a process with threads may hang.
    pool = ProcessPoolExecutor(processes, get_context("spawn"))
    try:
        with _blocked_interrupts():
            futures: list[Future[int]] = [pool.submit(task) for task in tasks]
        for future in as_completed(futures):
            done(future.result())
    finally:
        # On an error or Ctrl-C the clips under way are finished and no other is begun.
        pool.shutdown(cancel_futures=True)


@contextmanager
def _blocked_interrupts() -> Iterator[None]:
    """Ctrl-C waits; processes started here never see it, as they inherit the mask."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def _named_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or root}: cannot be written ({error.strerror})"
        ) from error
    except BrokenProcessPool as error:
        raise DataError(f"{root}: unfinished, a process died (out of memory?)") from error
