"""Training samples, read and preprocessed by worker processes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from hpvod.config import ModelConfig
from hpvod.data import Annotation, DataError, Dataset, Frame, read_image
from hpvod.preprocess import Preprocess
from hpvod.training.augment import flipped
from hpvod.training.errors import TrainingError
from hpvod.training.pair import Mask, Pair, Targets
from hpvod.training.sampler import PairSampler

_ATTEMPTS = 20
T = TypeVar("T")


@dataclass(frozen=True)
class PairSample:
    """A pair on the CPU and how its losses are to be computed.

    Attributes:
        pair: float32.
        mask: how U is found.
        seed: of the random choices that the losses make.
    """

    pair: Pair
    mask: Mask
    seed: int


@dataclass(frozen=True)
class Read(Generic[T]):
    """A sample and the messages of the files that were passed over for it."""

    sample: T
    skipped: tuple[str, ...]


class PairReader:
    """Reads what the sampler draws."""

    def __init__(self, video: Dataset, stills: Dataset | None, seed: int, config: ModelConfig):
        self._sources = {"video": video, "still": stills}
        self._sampler = PairSampler(video, stills, seed)
        self._preprocess = Preprocess(config)

    def __call__(self, position: int, attempt: int) -> PairSample:
        """The sample at a position.

        Raises:
            DataError: a file of it cannot be used.
        """
        draw = self._sampler.draw(position, attempt)
        source = self._sources[draw.source]
        assert source is not None
        annotation = source.annotation(draw.current)
        still = draw.key is draw.current
        current = self._image(draw.current, annotation)
        key = current if still else self._image(draw.key, None)
        if key.shape != current.shape:
            raise DataError(f"{draw.key.image}: is not of the size of {draw.current.image.name}")
        # As the detector scales boxes back to the frame.
        height, width = annotation.size
        y, x = current.shape[1] / height, current.shape[2] / width
        boxes = torch.from_numpy(annotation.boxes) * torch.tensor([x, y, x, y])
        targets = Targets(boxes.float(), torch.from_numpy(annotation.labels))
        pair = Pair(key, current, targets, still)
        if draw.flip:
            pair = flipped(pair, x * (width - 1))
        return PairSample(pair, draw.mask, draw.seed)

    def _image(self, frame: Frame, annotation: Annotation | None) -> Tensor:
        image = read_image(frame.image)
        if annotation is not None and image.shape[:2] != annotation.size:
            height, width = annotation.size
            raise DataError(
                f"{frame.image}: is of {image.shape[1]} x {image.shape[0]} pixels and not "
                f"{width} x {height} as its annotation says"
            )
        try:
            return self._preprocess(image, torch.device("cpu"), torch.float32)[0]
        except ValueError as error:
            raise DataError(f"{frame.image}: {error}") from error


class _Positions(TorchDataset[Read[T] | Read[None]]):
    def __init__(self, read: Callable[[int, int], T]) -> None:
        self._read = read

    def __getitem__(self, position: int) -> Read[T] | Read[None]:
        skipped: list[str] = []
        for attempt in range(_ATTEMPTS):
            try:
                return Read(self._read(position, attempt), tuple(skipped))
            except DataError as error:
                skipped.append(str(error))
        # No error: a worker's would come with its traceback for a message.
        return Read(None, tuple(skipped))


def batches(
    read: Callable[[int, int], T], positions: Iterable[list[int]], workers: int
) -> Iterator[list[Read[T]]]:
    """The samples of each iteration; what cannot be used is replaced by the next candidate.

    Args:
        read: makes the sample of a position and an attempt.
        positions: of each iteration.
        workers: processes that read ahead; 0 to read in this one.

    Raises:
        TrainingError: 20 candidates in turn cannot be used.
    """
    for reads in DataLoader(
        _Positions(read),
        batch_sampler=positions,
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=_ignore_signals,
    ):
        for each in reads:
            if each.sample is None:
                raise TrainingError(
                    f"{_ATTEMPTS} samples in turn cannot be used; the last: {each.skipped[-1]}"
                )
        yield reads


def _ignore_signals(_: int) -> None:
    """They may reach every process of a run; the one that trains stops the workers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
