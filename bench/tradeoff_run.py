"""One point of a speed-accuracy curve: detection in a whole data set, and its evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import astuple, dataclass, field
from time import perf_counter
from typing import Any

from torch import Tensor

from bench import machine, non_recursive
from bench.non_recursive import NonRecursive
from bench.tradeoff_results import GROUPS, Area, Point
from bench.tradeoff_settings import NON_RECURSIVE, Place, Setting
from hpvod.data import Annotation, Clip, DataError, ImageNetVID, Skipped
from hpvod.data.clip import BoolArray, ImageArray
from hpvod.detector import VideoDetector
from hpvod.evaluation.columns import Detections, Truth
from hpvod.evaluation.result_columns import ResultColumns
from hpvod.evaluation.run import detect_clips, read_frame
from hpvod.evaluation.statistics import RunStatistics
from hpvod.evaluation.table import results_of
from hpvod.evaluation.truth import read_truth
from hpvod.frame_result import FrameResult
from hpvod.method import PRESETS
from hpvod.model import HPVODModel
from hpvod.networks.flow import FlowOutput
from hpvod.operations import PerNetwork, multiply_adds, runs_a_frame
from hpvod.oracle import ORACLE, OracleDetector
from hpvod.preprocess import Preprocess

_Step = Callable[[ImageArray, Annotation | None], tuple[FrameResult, float]]
"""Takes the next frame of a video, and says in how many milliseconds."""


@dataclass
class Validation:
    """A data set with what is annotated in it.

    Attributes:
        name: that results call it by.
        dataset: its clips.
        truth: all boxes.
        usable: bool [frames], which frames' annotations were read.
        skipped: what could not be used.
    """

    name: str
    dataset: ImageNetVID
    truth: Truth = field(init=False)
    usable: BoolArray = field(init=False)
    skipped: Skipped = field(default_factory=Skipped)

    def __post_init__(self) -> None:
        self.truth, self.usable = read_truth(self.dataset, self.skipped)

    @property
    def lengths(self) -> list[int]:
        """How many frames each clip has."""
        return [len(clip.frames) for clip in self.dataset.clips]


def measure(
    place: Place, model: HPVODModel, validation: Validation, done: Callable[[int], None]
) -> Point:
    """The point at a place.

    Args:
        place: what to measure.
        model: the place's, on its device.
        validation: likewise.
        done: told how many more frames are done.
    """
    setting, dataset = place.setting, validation.dataset
    cost = _cost(model, dataset)
    detections, statistics = _detect(setting, model, validation, done)
    usable = validation.usable & statistics.covered(len(validation.usable))
    results = results_of(detections, validation.truth, usable, dataset.classes).to_json()
    key_share = statistics.key_frames / statistics.frames
    lengths = validation.lengths
    if setting.method == NON_RECURSIVE:
        assert setting.interval is not None and setting.keys is not None
        runs = non_recursive.runs_a_frame(setting.interval, setting.keys, lengths)
    else:
        runs = runs_a_frame(setting.row, lengths, key_share, statistics.updated)
    return Point(
        place=place,
        ap={group: results["mean_ap"][group] for group in GROUPS},
        ms=statistics.milliseconds,
        gmac=runs.dot(cost) / 1e9,
        key_share=key_share,
        updated=statistics.updated,
        frames=results["frames"],
        where=_where(model),
    )


def measure_area(weights: str, model: HPVODModel, validation: Validation, clip: int) -> Area:
    """Figure 2: what Q says of every frame of a clip, under c3.

    Args:
        weights: digest of the model's file.
        model: on its device.
        validation: the data set.
        clip: number of the clip in it.

    Raises:
        DataError: a frame cannot be read.
    """
    method, shares = PRESETS["c3"], list[float]()

    def consistency(key: Tensor, image: Tensor, output: FlowOutput) -> Tensor:
        shares.append((output.quality <= method.tau).float().mean().item())
        return output.quality

    # With stages, a GPU runs it frame by frame and not as a graph: `consistency` waits for it.
    detector = VideoDetector(
        model, method, consistency=consistency, stages=lambda name: nullcontext()
    )
    of, dataset = validation.dataset.clips[clip], validation.dataset
    results = detector.run(read_frame(dataset, frame) for frame in of.frames)
    keys = [result.is_key for result in results]
    where = _where(model)
    return Area(weights, validation.name, of.name, method.gamma, shares, keys[1:], where)


def _where(model: HPVODModel) -> dict[str, Any]:
    device = next(model.parameters()).device
    return {"device": device.type, **machine.describe(device)}


def _detect(
    setting: Setting, model: HPVODModel, validation: Validation, done: Callable[[int], None]
) -> tuple[Detections, RunStatistics]:
    dataset = validation.dataset
    if setting.method == ORACLE.name:
        assert setting.tau is not None
        oracle = OracleDetector(model, dataset.classes, setting.tau)

        def with_truth(
            image: ImageArray, annotation: Annotation | None
        ) -> tuple[FrameResult, float]:
            result = oracle.step(image, annotation)
            return result.frame, 1e3 * result.seconds

        return _run(with_truth, oracle.reset, model, validation, done)
    if setting.method == NON_RECURSIVE:
        assert setting.interval is not None and setting.keys is not None
        detector = NonRecursive(model, setting.interval, setting.keys)

        def timed(image: ImageArray, _: Annotation | None) -> tuple[FrameResult, float]:
            start = perf_counter()
            return detector.step(image), 1e3 * (perf_counter() - start)

        return _run(timed, detector.reset, model, validation, done)
    clips = range(len(dataset.clips))
    return detect_clips(model, setting.row, dataset, clips, validation.skipped, done)


def _run(
    step: _Step,
    reset: Callable[[], None],
    model: HPVODModel,
    validation: Validation,
    done: Callable[[int], None],
) -> tuple[Detections, RunStatistics]:
    """What `detect_clips` does, for detectors that it does not know."""
    columns = ResultColumns(model.config.classes, validation.dataset.classes)
    number = 0
    for clip in range(len(validation.dataset.clips)):
        reset()
        for image, annotation in _frames(validation, clip):
            if image is not None:
                try:
                    result, milliseconds = step(image, annotation)
                    columns.add(number, result, milliseconds)
                except ValueError as error:  # too thin, or not of the size of the frames before it
                    name = validation.dataset.clips[clip].name
                    validation.skipped.add(DataError(f"{name}: {error}"))
            number += 1
            done(1)
    return columns.detections(), columns.statistics()


def _frames(
    validation: Validation, clip: int
) -> Iterator[tuple[ImageArray | None, Annotation | None]]:
    """Image and objects of each frame; None for what cannot be used."""
    dataset = validation.dataset
    for frame in dataset.clips[clip].frames:
        image = annotation = None
        try:
            image = read_frame(dataset, frame)
            annotation = dataset.annotation(frame)
        except DataError as error:
            validation.skipped.add(error)
        yield image, annotation


def _cost(model: HPVODModel, dataset: ImageNetVID) -> PerNetwork:
    """The networks' multiply-adds on a frame, on the mean, if a clip is all of one size.

    Raises:
        DataError: no annotation of a clip can be read.
    """
    preprocess = Preprocess(model.config)
    sizes: Counter[tuple[int, int]] = Counter()
    for clip in dataset.clips:
        sizes[preprocess.image_size(*_size(dataset, clip))] += len(clip.frames)
    frames = sizes.total()
    parts = [
        [count / frames * cost for cost in astuple(multiply_adds(model.config, size))]
        for size, count in sizes.items()
    ]
    return PerNetwork(*map(sum, zip(*parts, strict=True)))


def _size(dataset: ImageNetVID, clip: Clip) -> tuple[int, int]:
    """Height and width of a clip's frames, of the first that can be read."""
    failed: DataError | None = None
    for frame in clip.frames:
        try:
            return dataset.annotation(frame).size
        except DataError as error:
            failed = failed or error
    raise failed or DataError(f"{clip.name}: has no frames")
