"""Section 3.3's oracle: key frames where the ground truth says that they pay."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from hpvod.data.clip import Annotation, BoolArray
from hpvod.evaluation.average_precision import average_precisions
from hpvod.evaluation.columns import Truth
from hpvod.evaluation.result_columns import ResultColumns
from hpvod.frame_result import FrameResult
from hpvod.key_frame_loop import KeyFrameLoop
from hpvod.method import PRESETS
from hpvod.model import HPVODModel
from hpvod.networks.flow import FlowOutput
from hpvod.packed_flow import PackedFlow
from hpvod.packed_network import PackedNetwork
from hpvod.preprocess import Frame, Preprocess

ORACLE = dataclasses.replace(PRESETS["c2"], name="oracle")
"""The row that Table 1 lacks: c2 but for the schedule, which is not read."""


@dataclass(frozen=True)
class OracleResult:
    """What came of a frame.

    Attributes:
        frame: found by the better of the two choices.
        seconds: that Algorithm 1 takes once the choice is known.
    """

    frame: FrameResult
    seconds: float


class OracleDetector:
    """Algorithm 1 with partial updates and aggregation, told by the truth when to take a key frame.

    Every frame but the first is detected in both ways, after the same past. It becomes a key frame
    if that gives it the higher mAP; not if both are equal, as where nothing is annotated. The
    oracle is greedy, as the paper's is: what a key frame is worth to later frames does not count.

    Args:
        model: the networks, in evaluation mode; it runs on their device and in their dtype.
        classes: names that the labels of annotations are indices into; found labels are turned
            into them as `ResultColumns` does.
        tau: as of `Method`.
    """

    def __init__(self, model: HPVODModel, classes: Sequence[str], tau: float = 0.0) -> None:
        self._model = model
        self._classes = tuple(classes)
        self._method = dataclasses.replace(ORACLE, tau=tau)
        self._preprocess = Preprocess(model.config)
        self._network = PackedNetwork.of(model, embed=True)
        self._device = self._network.device
        # N_flow as it runs fastest on the device.
        self._flow = PackedFlow(model.flow) if self._device.type == "cpu" else model.flow
        self._loop: KeyFrameLoop | None = None
        self._count = 0
        self._frame_size = (0, 0)
        self._whole = False

    def reset(self) -> None:
        """Forgets the video: the next frame is frame 0 of a new one."""
        self._loop, self._count = None, 0

    def step(self, frame: Frame, annotation: Annotation | None) -> OracleResult:
        """Takes the next frame of the video.

        Args:
            frame: as `VideoDetector.step` takes it.
            annotation: the frame's objects; None where they are unknown.

        Raises:
            ValueError: `frame` is not such an image, or of another size than those before it.
        """
        start = perf_counter()
        image = self._preprocess(frame, self._device, self._network.dtype)
        preparing = perf_counter() - start
        size = (frame.shape[0], frame.shape[1])
        if self._loop is None:
            self._loop, self._frame_size = self._loop_on(image), size
        if size != self._frame_size:
            before, now = ("x".join(map(str, each)) for each in (self._frame_size, size))
            raise ValueError(
                f"frame {self._count}: size changed from {before} to {now} (height x width)"
            )
        turn = _Turn(self._loop, image, self._count, size)
        chosen = self._choose(turn, annotation)
        self._count += 1
        return OracleResult(chosen.frame, preparing + chosen.seconds)

    def _choose(self, turn: _Turn, annotation: Annotation | None) -> OracleResult:
        if turn.index == 0:
            return self._detect(turn, key=True)
        propagated = self._detect(turn, key=False)
        if annotation is None or not len(annotation.labels):
            return propagated
        # A key frame is a frame with U = 1 everywhere that is kept. Not kept, it is only looked at.
        recomputed = self._detect(turn, key=False, whole=True)
        if self._map(recomputed.frame, annotation) > self._map(propagated.frame, annotation):
            return self._detect(turn, key=True)
        return propagated

    def _map(self, found: FrameResult, annotation: Annotation) -> float:
        """The mAP of a frame's detections, over the classes annotated in it; 0 to 1."""
        columns = ResultColumns(self._model.config.classes, self._classes)
        columns.add(0, found, 0.0)
        count = len(annotation.labels)
        truth = Truth(
            frames=np.zeros(count, np.int32),
            labels=annotation.labels.astype(np.int16),
            boxes=annotation.boxes,
            motion=np.full(count, np.nan, np.float32),
        )
        every: dict[str, BoolArray] = {"all": np.ones(count, np.bool_)}
        found_by = average_precisions(columns.detections(), truth, every, len(self._classes))
        return float(np.nanmean(found_by["all"]))

    @torch.inference_mode()
    def _detect(self, turn: _Turn, *, key: bool, whole: bool = False) -> OracleResult:
        """Lines 9 to 26 for a frame.

        Args:
            turn: the frame.
            key: whether it is a key frame: only then anything is kept of it.
            whole: whether U is 1 everywhere even though it is none.
        """
        start = perf_counter()
        self._whole = whole
        first, size = turn.index == 0, (turn.image.shape[2], turn.image.shape[3])
        turn.loop.image.copy_(turn.image)
        feature = turn.loop.step(
            torch.tensor([key], device=self._device),
            torch.tensor([True], device=self._device) if first else None,
            None,
            propagates=not first,
        )
        found = self._model.detection(feature, size).of_image(0)
        seconds = perf_counter() - start
        mask = None if key else turn.loop.plan.mask[0, 0].cpu().clone()
        y, x = turn.frame_size[0] / size[0], turn.frame_size[1] / size[1]
        frame = FrameResult(
            index=turn.index,
            time=None,
            is_key=key,
            updated=1.0 if mask is None else int(mask.sum()) / mask.numel(),
            boxes=found.boxes * torch.tensor((x, y, x, y)),
            labels=found.labels,
            scores=found.scores,
            mask=mask,
        )
        return OracleResult(frame, seconds)

    def _loop_on(self, image: Tensor) -> KeyFrameLoop:
        def consistency(key: Tensor, current: Tensor, output: FlowOutput) -> Tensor:
            return torch.full_like(output.quality, -math.inf) if self._whole else output.quality

        return KeyFrameLoop(
            self._network,
            self._flow,
            self._model,
            self._method,
            1,
            image,
            consistency=consistency,
            stages=lambda name: contextlib.nullcontext(),
        )


@dataclass(frozen=True)
class _Turn:
    """A frame at its place in the loop."""

    loop: KeyFrameLoop
    image: Tensor
    index: int
    frame_size: tuple[int, int]
