"""Detection in the clips of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from time import perf_counter

import numpy as np

from hpvod.data import DataError, Dataset, Skipped, read_image
from hpvod.data.clip import Frame, ImageArray, IntArray
from hpvod.detector import FrameResult, VideoDetector
from hpvod.evaluation.columns import Detections
from hpvod.evaluation.statistics import RunStatistics
from hpvod.method import Method
from hpvod.model import HPVODModel


def detect_clips(
    model: HPVODModel,
    method: Method,
    dataset: Dataset,
    clips: Sequence[int],
    skipped: Skipped,
    done: Callable[[int], None] = lambda frames: None,
) -> tuple[Detections, RunStatistics]:
    """Detects in clips, one after the other, a frame at a time, as a camera's video would be.

    Labels are turned into the data set's by the classes' names; a class that the data set does not
    know is left out. A frame that cannot be read is passed over: the video goes on with the next.

    Args:
        model: In evaluation mode, on the device to run on.
        method: The row of Table 1.
        dataset: Its frames are numbered through all clips, in order.
        clips: Numbers of the clips to detect in.
        skipped: Is told of the images that cannot be used.
        done: Told how many more frames were read or passed over.

    Returns:
        The detections, boxes in pixels of the image, and the frames' statistics.
    """
    detector = VideoDetector(model, method)
    return collect(detector, dataset, clips, skipped, done)


def collect(
    detector: VideoDetector,
    dataset: Dataset,
    clips: Sequence[int],
    skipped: Skipped,
    done: Callable[[int], None] = lambda frames: None,
) -> tuple[Detections, RunStatistics]:
    """`detect_clips` with a detector of one's own."""
    sizes = [len(clip.frames) for clip in dataset.clips]
    starts = np.cumsum([0, *sizes])
    columns = _Columns(_labels(detector.model.config.classes, dataset.classes))
    for clip in clips:
        detector.reset()
        for number, result, duration in _run(detector, dataset, clip, skipped, done):
            columns.add(int(starts[clip]) + number, result, duration)
    return columns.detections(), columns.statistics()


def _run(
    detector: VideoDetector,
    dataset: Dataset,
    clip: int,
    skipped: Skipped,
    done: Callable[[int], None],
) -> Iterator[tuple[int, FrameResult, float]]:
    """Each frame's number in the clip, its result and the milliseconds that it took."""
    read: list[int] = []  # the stream counts the frames that it was given
    for number, frame in enumerate(dataset.clips[clip].frames):
        done(1)
        try:
            image = _image(dataset, frame)
            started = perf_counter()
            result = detector.step(image)
        except DataError as error:
            skipped.add(error)
            continue
        except ValueError as error:  # too thin, or not of the size of the frames before it
            skipped.add(DataError(f"{frame.image}: {error}"))
            continue
        read.append(number)
        if result is not None:
            yield read[result.index], result, 1000 * (perf_counter() - started)
    started = perf_counter()
    results = detector.finish()
    for result in results:
        yield read[result.index], result, 1000 * (perf_counter() - started) / len(results)


def _image(dataset: Dataset, frame: Frame) -> ImageArray:
    """The image of a frame; raises DataError if its annotation is of an image of another size."""
    image = read_image(frame.image)
    size = image.shape[:2]
    with suppress(DataError):  # the evaluation tells of it
        size = dataset.annotation(frame).size
    if image.shape[:2] != size:
        by = f"{image.shape[1]} x {image.shape[0]}"
        raise DataError(
            f"{frame.image}: is {by} pixels, but its annotation is of {size[1]} x {size[0]}"
        )
    return image


def _labels(known: Sequence[str], wanted: Sequence[str]) -> IntArray:
    """The data set's label of each of the model's classes; -1 where there is none."""
    label_of = {name: label for label, name in enumerate(wanted)}
    return np.array([label_of.get(name, -1) for name in known], np.int64)


class _Columns:
    """Results frame by frame, as columns in the end."""

    def __init__(self, labels: IntArray) -> None:
        self._labels = labels
        self._found: list[tuple[np.ndarray, ...]] = []
        self._frames: list[tuple[int, bool, float, float]] = []

    def add(self, number: int, result: FrameResult, duration: float) -> None:
        """Appends a frame's result, the frame being the given one of the data set."""
        labels = self._labels[result.labels.numpy()]
        known = labels >= 0
        self._found.append(
            (
                np.full(int(known.sum()), number, np.int32),
                labels[known].astype(np.int16),
                result.scores.float().numpy()[known],
                result.boxes.float().numpy()[known],
            )
        )
        self._frames.append((number, result.is_key, result.updated, duration))

    def detections(self) -> Detections:
        """All of them."""
        nothing = (
            np.zeros(0, np.int32),
            np.zeros(0, np.int16),
            np.zeros(0, np.float32),
            np.zeros((0, 4), np.float32),
        )
        return Detections(*map(np.concatenate, zip(nothing, *self._found, strict=True)))

    def statistics(self) -> RunStatistics:
        """Of all frames."""
        frames = np.array(
            self._frames, [("number", "i4"), ("key", "?"), ("update", "f4"), ("duration", "f4")]
        )
        return RunStatistics(*(frames[name] for name in ("number", "key", "update", "duration")))
