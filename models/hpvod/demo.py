"""Synthetic clips through c3, beside the baseline that runs the whole detector on every frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from time import perf_counter

import numpy as np

from hpvod.data.clip import Annotation, Clip, Frame, ImageArray
from hpvod.data.skipped import Skipped
from hpvod.demo_picture import HEADING, SCALE, side_by_side
from hpvod.detector import VideoDetector
from hpvod.evaluation.result_columns import ResultColumns
from hpvod.evaluation.statistics import RunStatistics
from hpvod.evaluation.table import Results, results_of
from hpvod.evaluation.truth import read_truth
from hpvod.frame_result import FrameResult
from hpvod.method import PRESETS, Method
from hpvod.model import HPVODModel
from hpvod.operations import multiply_adds, runs_a_frame
from hpvod.preprocess import Preprocess
from hpvod.synthetic import SYNTHETIC_CLASSES, SyntheticClip, make_clip
from hpvod.video_writer import VideoWriter

METHODS = (PRESETS["per_frame"], PRESETS["c3"])
"""From left to right."""

SIZE = 288, 384
"""Height and width of a frame in pixels, as `hpvod make-data` makes them."""

_RATE = Fraction(25)
_SEEDS = 0xDE40  # no data set's seeds begin with it


@dataclass(frozen=True)
class Compared:
    """What a method comes to.

    Attributes:
        results: how exact it was.
        run: how it went.
        multiply_adds: of the networks, a frame on the mean.
    """

    results: Results
    run: RunStatistics
    multiply_adds: float


class Demo:
    """Clips that no model was trained on, made, detected in, drawn and evaluated.

    Attributes:
        frames: that the video holds so far.
    """

    def __init__(self, model: HPVODModel, video: Path) -> None:
        """Touches no file yet.

        Args:
            model: in evaluation mode; its classes are matched with `SYNTHETIC_CLASSES` by name.
            video: the .mp4 to write.
        """
        self.frames = 0
        self._config = model.config
        self._cell = Preprocess(model.config).cell(*SIZE)
        self._sides = [_Side(model, method) for method in METHODS]
        self._video = video
        self._shown = _Shown()

    def run(self, clips: int, length: int, seed: int, done: Callable[[], None]) -> None:
        """Makes the clips one after the other, detects in each and appends it to the video.

        Args:
            clips: how many.
            length: frames of each.
            seed: decides what they show; no seed of `hpvod make-data` makes the same.
            done: called after each frame of each method.

        Raises:
            VideoError: the video cannot be written; what was written before can be played.
        """
        height, width = SIZE
        size = SCALE * width * len(METHODS), SCALE * height + HEADING
        with VideoWriter(self._video, size, _RATE, 1 / _RATE) as writer:
            for clip_seed in np.random.SeedSequence((_SEEDS, seed)).spawn(clips):
                clip = make_clip(clip_seed, length, SIZE)
                found = [side.run(clip.frames, self.frames, done) for side in self._sides]
                self._shown.add(clip, self._video)
                self._write(writer, clip, found)

    def compare(self) -> dict[str, Compared]:
        """What each method comes to in all of the clips."""
        truth, usable = read_truth(self._shown, Skipped())
        networks = multiply_adds(self._config, Preprocess(self._config).image_size(*SIZE))
        lengths = [len(clip.frames) for clip in self._shown.clips]
        compared = {}
        for side in self._sides:
            detections = side.columns.detections()
            results = results_of(detections, truth, usable, SYNTHETIC_CLASSES)
            run = side.columns.statistics()
            runs = runs_a_frame(side.method, lengths, run.key_frames / run.frames, run.updated)
            compared[side.method.name] = Compared(results, run, networks.dot(runs))
        return compared

    def _write(
        self, writer: VideoWriter, clip: SyntheticClip, found: list[list[FrameResult]]
    ) -> None:
        headings = [side.heading() for side in self._sides]
        for frame, annotation, *results in zip(clip.frames, clip.annotations, *found, strict=True):
            halves = list(zip(headings, results, strict=True))
            picture = side_by_side(frame, halves, annotation, self._config.classes, self._cell)
            writer.write(picture, float(self.frames / _RATE))
            self.frames += 1


class _Side:
    """A method's way through the clips."""

    def __init__(self, model: HPVODModel, method: Method) -> None:
        self.method = method
        self.columns = ResultColumns(model.config.classes, SYNTHETIC_CLASSES)
        self._detector = VideoDetector(model, method)

    def run(self, frames: ImageArray, first: int, done: Callable[[], None]) -> list[FrameResult]:
        """Detects in a clip; its frames [T, H, W, 3] are numbered from `first`."""
        self._detector.reset()
        results = []
        for number, frame in enumerate(frames, start=first):
            started = perf_counter()
            result = self._detector.step(frame)
            milliseconds = 1000 * (perf_counter() - started)
            assert result is not None  # neither method looks ahead
            self.columns.add(number, result, milliseconds)
            results.append(result)
            done()
        return results

    def heading(self) -> str:
        run = self.columns.statistics()
        share = run.key_frames / run.frames
        return (
            f"{self.method.name}: {1000 / run.milliseconds:.0f} frames/s, {share:.0%} key frames, "
            f"{run.updated:.0%} updated"
        )


class _Shown:
    """The clips of the video as a data set whose annotations are in memory."""

    classes = SYNTHETIC_CLASSES

    def __init__(self) -> None:
        self.clips: list[Clip] = []

    def add(self, clip: SyntheticClip, video: Path) -> None:
        frames = tuple(Frame(video, annotation) for annotation in clip.annotations)
        self.clips.append(Clip(f"clip {len(self.clips)}", frames))

    def annotation(self, frame: Frame) -> Annotation:
        assert isinstance(frame.annotation, Annotation)
        return frame.annotation
