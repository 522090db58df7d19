"""Detection in the clips of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter

import numpy as np

from hpvod.data import DataError, Dataset, Skipped, read_image
from hpvod.data.clip import Frame, ImageArray
from hpvod.detector import VideoDetector
from hpvod.evaluation.columns import Detections
from hpvod.evaluation.result_columns import ResultColumns
from hpvod.evaluation.statistics import RunStatistics
from hpvod.frame_result import FrameResult
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
    """Detects in clips, one after the other, a frame at a time, as in a camera's video.

    Labels are turned into the data set's by the classes' names, as `ResultColumns` does. A frame
    that cannot be read is passed over: the video goes on with the next.

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
    starts = np.cumsum([0, *(len(clip.frames) for clip in dataset.clips)]).tolist()
    columns = ResultColumns(model.config.classes, dataset.classes)
    for clip in clips:
        for number, result, milliseconds in _run(detector, dataset, clip, skipped, done):
            columns.add(starts[clip] + number, result, milliseconds)
    return columns.detections(), columns.statistics()


def read_frame(dataset: Dataset, frame: Frame) -> ImageArray:
    """The image of a frame, uint8 [H, W, 3] RGB.

    Raises:
        DataError: It cannot be read, or is of another size than its annotation says; whether there
            is an annotation is not the question here.
    """
    image = read_image(frame.image)
    height, width, _ = image.shape
    try:
        annotated = dataset.annotation(frame).size
    except DataError:
        return image
    if annotated != (height, width):
        raise DataError(
            f"{frame.image}: is {width} x {height} pixels, but its annotation is of "
            f"{annotated[1]} x {annotated[0]}"
        )
    return image


def _run(
    detector: VideoDetector,
    dataset: Dataset,
    clip: int,
    skipped: Skipped,
    done: Callable[[int], None],
) -> Iterator[tuple[int, FrameResult, float]]:
    """Each frame's number in the clip, its result and the milliseconds that it took."""
    read: list[int] = []  # the detector counts the frames that it was given
    detector.reset()
    for number, frame in enumerate(dataset.clips[clip].frames):
        done(1)
        try:
            image = read_frame(dataset, frame)
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
    passed = perf_counter() - started
    for result in results:
        yield read[result.index], result, 1000 * passed / len(results)
