"""Algorithm 1: detection in a video, by any method of Table 1."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from hpvod.aggregation import aggregate
from hpvod.method import Method
from hpvod.model import HPVODModel
from hpvod.motion import Consistency, Motion, Stages
from hpvod.networks.flow import FlowNetwork
from hpvod.packed_flow import PackedFlow
from hpvod.packed_network import PackedNetwork
from hpvod.partial_update import FullUpdate, PartialUpdate, Propagation, Update
from hpvod.preprocess import Frame, Preprocess
from hpvod.sparse_network import SparseNetwork
from hpvod_ops import UpdatePlan, warp


@dataclass(frozen=True)
class FrameResult:
    """What was found in one frame; tensors are on the CPU.

    Attributes:
        index: of the frame in its stream, from 0.
        time: of the frame in seconds, as given to `step`; None where none was given.
        is_key: whether the frame was a key frame.
        updated: mean of U: 1 on a key frame, 0 on one that was propagated only.
        boxes: [K, 4] float32, corners (x1, y1, x2, y2) in pixels of the frame as it was given.
        labels: [K] int64, indices into the model's `config.classes`.
        scores: [K] float32, falling.
        mask: U, bool [h, w] at stride 16 of the network's image, where line 14 of Algorithm 1
            decided it; None where line 12 or 16 made it all ones or all zeros.
    """

    index: int
    time: float | None
    is_key: bool
    updated: float
    boxes: Tensor
    labels: Tensor
    scores: Tensor
    mask: Tensor | None


class VideoDetector:
    """Algorithm 1 on one video stream, a frame at a time.

    It runs on the device and in the dtype of the model's parameters, under inference mode.

    Methods that update in part pack the weights of the feature and embedding network at the first
    frame, as a copy: a model that is changed or moved after that needs a new detector.

    Args:
        model: the networks, in evaluation mode.
        method: the row of Table 1 to follow.
        consistency: computes Q in place of the flow network's Q head.
        stages: entered around each stage of a frame, to time it.
    """

    def __init__(
        self,
        model: HPVODModel,
        method: Method,
        *,
        consistency: Consistency | None = None,
        stages: Stages | None = None,
    ) -> None:
        self.model = model
        self.method = method
        self._consistency = consistency
        self._stages: Stages = stages or (lambda name: nullcontext())
        self._preprocess = Preprocess(model.config)
        self._flow: PackedFlow | None = None
        self._packed: PackedNetwork | None = None
        self._network: SparseNetwork | None = None
        self.reset()

    def reset(self) -> None:
        """Forgets the stream: the next frame is frame 0 of a new one."""
        self._count = 0
        self._frame_size: tuple[int, int] | None = None
        self._key: _Key | None = None
        self._window: deque[tuple[_Current, _Maps]] = deque(maxlen=2 * self.method.window + 1)

    def run(self, video: Iterable[Frame | tuple[Frame, float]]) -> Iterator[FrameResult]:
        """Detects in a whole video, from a fresh start.

        Args:
            video: frames as `step` takes them, or pairs of a frame and its time in seconds.

        Yields:
            One result for every frame, in order.

        Raises:
            ValueError: as `step` does.
        """
        self.reset()
        for item in video:
            frame, time = item if isinstance(item, tuple) else (item, None)
            result = self.step(frame, time)
            if result is not None:
                yield result
        yield from self.finish()

    @torch.inference_mode()
    def step(self, frame: Frame, time: float | None = None) -> FrameResult | None:
        """Takes the next frame of the stream.

        Args:
            frame: uint8 RGB, [height, width, 3], NumPy array or tensor.
            time: of the frame in seconds, passed on to its result.

        Returns:
            The frame's result. With a `Method.window` of r, the result of the frame r before it,
            and None while there is none.

        Raises:
            ValueError: `frame` is not such an image, or differs in size from the stream's first;
                the stream can go on with another frame.
        """
        i = self._read(frame, time)
        maps = self._first(i) if self._key is None else self._next(i, self._key)
        if not self.method.window:
            return self._detect(i, maps.feature)  # lines 4, 21, 23
        self._window.append((i, maps))
        centre = i.index - self.method.window
        return self._detect_in_window(centre) if centre >= 0 else None

    @torch.inference_mode()
    def finish(self) -> list[FrameResult]:
        """Ends the stream and forgets it.

        Returns:
            The results still to come: with a `Method.window` of r those of the last r frames,
            their windows filled by repeating the last frame; else none.
        """
        first_left = max(0, self._count - self.method.window)
        results = [self._detect_in_window(centre) for centre in range(first_left, self._count)]
        self.reset()
        return results

    def _read(self, frame: Frame, time: float | None) -> _Current:
        with self._stages("preprocess"):
            parameter = next(self.model.parameters())
            image = self._preprocess(frame, parameter.device, parameter.dtype)
            size = (frame.shape[0], frame.shape[1])
            if self._frame_size is not None and size != self._frame_size:
                raise ValueError(
                    f"frame {self._count}: size changed from {_by(self._frame_size)} to "
                    f"{_by(size)} (height x width) in mid-stream; reset() starts a new stream"
                )
        current = _Current(self._count, time, size, image)
        self._frame_size = size
        self._count += 1
        return current

    def _first(self, i: _Current) -> _Maps:
        """Lines 2 to 7: frame 0, a key frame with no other before it."""
        if self.method.do_spatial:
            self._network = self._network_for(i.image)
        maps = self._update(self._full_update(), i.image)  # line 3
        self._key = _Key(i.image, maps, maps)  # lines 2, 6
        return maps

    def _next(self, i: _Current, k: _Key) -> _Maps:
        """Lines 9 to 26, but for the detection network, whose input is returned."""
        motion = self._motion(k.image, i.image)  # line 9
        i.is_key = self._is_key(i.index, motion)  # line 10
        update: Update
        if i.is_key:  # line 11
            update = self._full_update()  # line 12
        elif self._network is not None:  # line 13
            i.plan = motion.plan
            update = PartialUpdate(self._network, motion.plan, motion.flow)  # line 14
        else:
            update = Propagation(k.own.feature, k.own.embedding, motion.flow)  # line 16

        own = maps = self._update(update, i.image)  # line 18
        if self.method.do_aggr and not self.method.window:  # line 19
            maps = self._aggregate(k.aggregated, own, motion.flow.flow, i.is_key)  # line 20
        if i.is_key:  # line 25
            self._key = _Key(i.image, own, maps)  # line 26
        return maps

    def _network_for(self, image: Tensor) -> SparseNetwork:
        """The network for images of this size; the weights are packed once."""
        if self._packed is None:
            self._packed = PackedNetwork.of(self.model, embed=self.method.do_aggr)
        if self._network is not None and self._network.image_shape == image.shape:
            return self._network
        self._network = None  # its memory is free before the new one's is taken
        return SparseNetwork(self._packed, image.shape[0], image.shape[2], image.shape[3])

    def _full_update(self) -> Update:
        """U = 1 everywhere."""
        if self._network is None:
            return FullUpdate(self.model)
        return PartialUpdate(self._network, self._network.key_plan, flow=None)

    def _motion(self, k: Tensor, i: Tensor) -> Motion:
        return Motion(
            self._flow_network(),
            k,
            i,
            tau=self.method.tau,
            gamma=self.method.gamma if self.method.key == "adaptive" else 1.0,
            out=None if self._network is None else self._network.plan,
            consistency=self._consistency,
            stages=self._stages,
        )

    def _flow_network(self) -> FlowNetwork | PackedFlow:
        """N_flow as it runs fastest on the model's device."""
        if next(self.model.flow.parameters()).device.type != "cpu":
            network: FlowNetwork = self.model.flow
            return network
        if self._flow is None:
            self._flow = PackedFlow(self.model.flow)
        return self._flow

    def _is_key(self, index: int, motion: Motion) -> bool:
        """Eq. 8: every so many frames, or by Eq. 9."""
        if self.method.key == "every":
            return index % self.method.interval == 0
        return bool(motion.plan.is_key)

    def _update(self, update: Update, image: Tensor) -> _Maps:
        """Eq. 10, and the embedding of its result for methods that aggregate."""
        with self._stages("features"):
            feature = update.feature(image)
        if not self.method.do_aggr:
            return _Maps(feature, None)
        with self._stages("embedding"):
            return _Maps(feature, update.embedding(feature))

    def _aggregate(self, k: _Maps, i: _Maps, flow: Tensor, is_key: bool) -> _Maps:
        """Eq. 11, and the embedding of its result for a key frame, where line 20 reads it again."""
        with self._stages("aggregation"):
            feature = _aggregated([k.warped(flow), i])
        if not is_key:
            return _Maps(feature, None)
        with self._stages("embedding"):
            return _Maps(feature, self.model.embedding(feature))

    def _detect_in_window(self, centre: int) -> FrameResult:
        """Eq. 2 in place of line 20, and line 21, for a frame whose window has been read."""
        last = self._count - 1
        by_index = {current.index: (current, maps) for current, maps in self._window}
        i, maps = by_index[centre]
        # The current frame comes last; repetition pads the window at both ends of the stream.
        r = self.method.window
        offsets = (*range(-r, 0), *range(1, r + 1), 0)
        window = [min(max(centre + offset, 0), last) for offset in offsets]
        others = sorted(set(window) - {centre})
        onto_i = {centre: maps}
        if others:
            with self._stages("flow"):
                keys = torch.cat([by_index[j][0].image for j in others])
                flows = self._flow_network()(i.image.expand_as(keys), keys).flow
            with self._stages("aggregation"):
                for j, flow in zip(others, flows.split(1), strict=True):
                    onto_i[j] = by_index[j][1].warped(flow)
        with self._stages("aggregation"):
            feature = _aggregated([onto_i[j] for j in window])
        return self._detect(i, feature)

    def _detect(self, i: _Current, feature: Tensor) -> FrameResult:
        with self._stages("detection"):
            height, width = i.image.shape[2:]
            (detections,) = self.model.detection(feature, (height, width))
            x, y = i.frame_size[1] / width, i.frame_size[0] / height
            return FrameResult(
                index=i.index,
                time=i.time,
                is_key=i.is_key,
                updated=float(i.is_key) if i.plan is None else _updated(i.plan),
                boxes=detections.boxes.cpu() * torch.tensor((x, y, x, y)),
                labels=detections.labels.cpu(),
                scores=detections.scores.cpu(),
                # The plan is refilled for the next frame.
                mask=None if i.plan is None else i.plan.mask[0, 0].to("cpu", copy=True),
            )


@dataclass
class _Current:
    """The frame i of Algorithm 1, and what is to be told of it."""

    index: int
    time: float | None
    frame_size: tuple[int, int]
    image: Tensor
    is_key: bool = True
    plan: UpdatePlan | None = None  # where only a part is updated


@dataclass(frozen=True)
class _Maps:
    """Features and, where aggregation reads it, their embedding."""

    feature: Tensor
    embedding: Tensor | None

    def warped(self, flow: Tensor) -> _Maps:
        """Eq. 1; DFF's scale map is for the propagated F_k->i of line 18 alone."""
        embedding = None if self.embedding is None else warp(self.embedding, flow)
        return _Maps(warp(self.feature, flow), embedding)


@dataclass(frozen=True)
class _Key:
    """The key frame k of Algorithm 1."""

    image: Tensor
    own: _Maps  # F_k
    aggregated: _Maps  # F̄_k


def _aggregated(maps: list[_Maps]) -> Tensor:
    embeddings = [m.embedding for m in maps if m.embedding is not None]
    return aggregate([m.feature for m in maps], embeddings)


def _updated(plan: UpdatePlan) -> float:
    return int(plan.changed) / plan.mask.numel()


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
