"""Every preset of Algorithm 1 end to end, in turn on each frame, against the per-frame baseline."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.contest import NETWORK_TOLERANCE, WrongResultError
from bench.host_waits import host_waits
from bench.machine import describe, matrix_rate
from bench.most_changed import MostChanged
from bench.operations import operation_counter
from bench.rows import Row, dtype_name
from bench.stages import StageClock
from hpvod.config import ModelConfig
from hpvod.detector import VideoDetector
from hpvod.folding import fold_batch_norm
from hpvod.method import PRESETS, Method
from hpvod.model import HPVODModel, build_model
from hpvod.networks.detection import Detections
from hpvod.networks.flow import FlowOutput
from hpvod.preprocess import Preprocess
from hpvod_ops import use_backend
from hpvod_ops.backends import choose_backend

BASELINE = "per_frame"
STAGES = (
    "preprocess",
    "flow",
    "plan",
    "features",
    "embedding",
    "aggregation",
    "detection",
    "other",
)
FEWEST_FRAMES = 20  # FGFA's window is full from the 19th on

_BENCHMARK = "benchmark"  # what finding the changed positions takes; no user pays it

Frames = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True)
class Setup:
    """What runs end to end.

    Attributes:
        model: name of the ModelConfig preset.
        short_side: of the network's input, in pixels.
        density: share of positions with U = 1.
        device: of the networks.
        dtype: of the networks.
    """

    model: str
    short_side: int
    density: float
    device: torch.device
    dtype: torch.dtype

    def build(self) -> HPVODModel:
        """The model as it is run: untrained, batch normalisation folded, channels_last."""
        config = ModelConfig.preset(self.model)
        long_side = round(self.short_side * config.long_side / config.short_side)
        config = dataclasses.replace(config, short_side=self.short_side, long_side=long_side)
        model = fold_batch_norm(build_model(config)).to(self.device, self.dtype)
        return model.to(memory_format=torch.channels_last)


@dataclass
class Runner:
    """One method on its way through the clip.

    Attributes:
        detector: at its place in the clip.
        clock: that the detector's stages report to.
        times: of every timed frame, by kind (True for key frames): milliseconds by stage.
        operations: of a frame, by kind.
        updated: share of positions updated, of every timed frame that is no key frame.
    """

    detector: VideoDetector
    clock: StageClock
    times: dict[bool, list[dict[str, float]]] = field(default_factory=lambda: {True: [], False: []})
    operations: dict[bool, int] = field(default_factory=dict)
    updated: list[float] = field(default_factory=list)

    @classmethod
    def start(cls, method: Method, model: HPVODModel, setup: Setup) -> Runner:
        """The method before the first frame."""
        clock = StageClock(setup.device)
        most_changed = MostChanged(setup.density)

        def consistency(key: Tensor, image: Tensor, flow: FlowOutput) -> Tensor:
            with clock(_BENCHMARK):
                return most_changed(key, image, flow)

        return cls(VideoDetector(model, method, consistency=consistency, stages=clock), clock)

    def time(self, index: int, frame: NDArray[np.uint8]) -> None:
        """Takes one frame; keeps its times once nothing is run for the first time."""
        with self.clock.frame() as stages:
            result = self.detector.step(frame)
        if result is None or index < max(1, 2 * self.detector.method.window):
            return
        stages.pop(_BENCHMARK, None)
        self.times[result.is_key].append(stages)
        if not result.is_key:
            self.updated.append(result.updated)

    def count_operations(self, frame: NDArray[np.uint8]) -> None:
        """Goes on until the operations of each kind of frame that was timed are counted."""
        while any(times and kind not in self.operations for kind, times in self.times.items()):
            with operation_counter() as counter, self.clock.frame():
                result = self.detector.step(frame)
            assert result is not None
            self.operations[result.is_key] = counter.get_total_flops()

    def a_frame(self, value: Callable[[bool], float]) -> float:
        """The average a frame of what each kind of frame takes, in the method's steady state."""
        keys = self.key_share
        return sum(
            share * value(kind) for kind, share in ((True, keys), (False, 1 - keys)) if share
        )

    @property
    def key_share(self) -> float:
        """Key frames a frame: by the schedule, or as it came out where Eq. 9 decides."""
        if self.detector.method.key == "every":
            return 1 / self.detector.method.interval
        return len(self.times[True]) / sum(map(len, self.times.values()))

    def total(self, kind: bool) -> float:
        """Median milliseconds of a frame of one kind."""
        return statistics.median(sum(stages.values()) for stages in self.times[kind])

    def stage(self, name: str, kind: bool) -> float:
        """Median milliseconds of one stage in a frame of one kind."""
        return statistics.median(stages.get(name, 0.0) for stages in self.times[kind])


def measure(setup: Setup, frames: Frames, progress: Callable[[], None]) -> list[Row]:
    """A row for every preset.

    The presets take turns on each frame. Medians are taken for key frames and the others apart,
    then averaged in the proportion of the method's schedule.

    Args:
        setup: what runs.
        frames: of the clip, uint8 RGB [h, w, 3], at least FEWEST_FRAMES.
        progress: called after each frame.

    Raises:
        ValueError: too few frames.
        WrongResultError: a preset's features are not those of the reference backend.
    """
    if len(frames) < FEWEST_FRAMES:
        raise ValueError(f"frames: {len(frames)} are too few, at least {FEWEST_FRAMES} are needed")
    model = setup.build()
    for method in PRESETS.values():
        _check(method, model, setup, frames[:2])
    runners = [Runner.start(method, model, setup) for method in PRESETS.values()]
    for index, frame in enumerate(frames):
        for runner in runners:
            runner.time(index, frame)
        progress()
    for runner in runners:
        runner.count_operations(frames[-1])

    waits = {method.name: _host_waits(method, model, setup, frames) for method in PRESETS.values()}
    image_size = Preprocess(model.config).image_size(*frames[0].shape[:2])
    rate = matrix_rate(setup.device, setup.dtype)
    baseline = next(r for r in runners if r.detector.method.name == BASELINE).total(True)
    return [
        _row(r, setup, image_size, rate, baseline, waits[r.detector.method.name]) for r in runners
    ]


def _row(
    runner: Runner,
    setup: Setup,
    image_size: tuple[int, int],
    rate: float,
    baseline: float,
    waits: dict[str, float] | None,
) -> Row:
    operations = runner.a_frame(lambda kind: runner.operations[kind])
    method = runner.detector.method
    stages = {name: runner.a_frame(functools.partial(runner.stage, name)) for name in STAGES}
    return Row(
        name=method.name,
        kind="method",
        backend=choose_backend(setup.device, setup.dtype),
        device=setup.device.type,
        dtype=dtype_name(setup.dtype),
        shape=(1, 3, *image_size),
        ms=runner.a_frame(runner.total),
        floor_ms=operations / rate,
        peers={BASELINE: baseline},
        more={
            "model": setup.model,
            "density": setup.density,
            "stages": stages,
            "key_ms": runner.total(True) if runner.times[True] else None,
            "non_key_ms": runner.total(False) if runner.times[False] else None,
            "key_share": runner.key_share,
            "updated": statistics.mean(runner.updated) if runner.updated else None,
            "gflop": operations / 1e9,
            "host_waits": waits,
            "frames": sum(map(len, runner.times.values())),
            "notes": [_note(setup)] if method.do_spatial else [],
            **describe(setup.device),
        },
    )


def _host_waits(
    method: Method, model: HPVODModel, setup: Setup, frames: Frames
) -> dict[str, float] | None:
    """Waits a frame, by name, once graphs are captured; None on a CPU, which waits for nothing."""
    if setup.device.type != "cuda":
        return None
    detector = VideoDetector(model, method, consistency=MostChanged(setup.density))
    coming = itertools.cycle(frames)
    for _ in range(FEWEST_FRAMES):
        detector.step(next(coming))
    return host_waits(lambda: detector.step(next(coming)), FEWEST_FRAMES)


def _note(setup: Setup) -> str:
    return (
        f"untrained: Q means nothing; U set to the {100 * setup.density:g} % of positions "
        "whose image changed most"
    )


def _check(method: Method, model: HPVODModel, setup: Setup, frames: Frames) -> None:
    """Compares what reaches the detection network with what the reference backend gives it."""

    def features() -> list[Tensor]:
        seen: list[Tensor] = []
        detector = VideoDetector(model, method, consistency=MostChanged(setup.density))
        detect = detector._detect

        def spy(network: Callable[[Tensor], Detections], feature: Tensor) -> Detections:
            seen.append(feature.clone())  # the next frame may be written over it
            return detect(network, feature)

        with patch.object(detector, "_detect", spy):
            list(detector.run(frames))
        return seen

    found = features()
    with use_backend("reference"):
        truth = features()
    for index, (feature, expected) in enumerate(zip(found, truth, strict=True)):
        error = float((feature - expected).double().norm() / expected.double().norm())
        if not error <= NETWORK_TOLERANCE[setup.dtype]:  # NaN too
            raise WrongResultError(
                f"{method.name}: the features of frame {index} are off by {error:.3g} (relative), "
                f"allowed {NETWORK_TOLERANCE[setup.dtype]:g}; not timed"
            )
