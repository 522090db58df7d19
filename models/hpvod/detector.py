"""Algorithm 1: detection in videos, by any method of Table 1."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from hpvod.dense_window import WindowFrame
from hpvod.frame_result import FrameResult, result_of_frame
from hpvod.graph import Graph
from hpvod.key_frame_loop import KeyFrameLoop
from hpvod.method import Method
from hpvod.model import HPVODModel
from hpvod.motion import Consistency, Stages
from hpvod.networks.detection import Detections
from hpvod.networks.flow import FlowNetwork
from hpvod.packed_flow import PackedFlow
from hpvod.packed_network import PackedNetwork
from hpvod.preprocess import Frame, Preprocess
from hpvod.preprocess_in_place import PreprocessInPlace
from hpvod.replay import replayed
from hpvod.stream import CurrentFrame, Stream
from hpvod.transfer import ToHost, to_device
from hpvod_ops import UpdatePlan

Video = Iterable[Frame | tuple[Frame, float]]


_Collect = Callable[[], list[FrameResult | None]]
"""Waits for a turn's results; None where a stream rested or looks ahead."""


class VideoDetector:
    """Algorithm 1 on a batch of independent video streams, a frame of each at a time.

    It runs on the device and in the dtype of the model's parameters, under inference mode. Every
    stream has key frames of its own, and gets the results that it would get alone.

    The weights are packed at the first frame that needs them, as a copy: a model that is changed or
    moved after that needs a new detector.

    On a GPU, a turn of the loop for all streams is one CUDA graph, captured at the third of its
    kind and replayed from then on, but for turns in which a stream begins or rests, FGFA's dense
    window, and where stages are timed. So `consistency` must not wait for the GPU. On the CPU
    such a turn allocates no tensors but its results', and what PyTorch needs to resize a frame;
    forward hooks of the detection network are called when it is recorded, and no more.

    Args:
        model: the networks, in evaluation mode.
        method: the row of Table 1 to follow.
        batch: how many streams.
        consistency: computes Q in place of the flow network's Q head; what it is given is valid
            during the call.
        stages: entered around each stage of a frame, to time it.

    Raises:
        ValueError: `batch` is not positive.
    """

    def __init__(
        self,
        model: HPVODModel,
        method: Method,
        *,
        batch: int = 1,
        consistency: Consistency | None = None,
        stages: Stages | None = None,
    ) -> None:
        if batch < 1:
            raise ValueError(f"batch: expected at least 1 stream, got {batch}")
        self.model = model
        self.method = method
        self._consistency = consistency
        self._timed = stages is not None
        self._stages: Stages = stages or (lambda name: nullcontext())
        self._flow: PackedFlow | None = None
        self._packed: PackedNetwork | None = None
        self._loop: KeyFrameLoop | None = None
        self._graph: Graph | None = None
        self._detection: Callable[[Tensor], Detections]
        self._due = torch.empty(batch, dtype=torch.bool)
        self._preprocess = Preprocess(model.config)
        self._streams = [Stream(method.window) for _ in range(batch)]

    def reset(self, stream: int | None = None) -> None:
        """Forgets a stream, or all of them: the next frame is frame 0 of a new one."""
        for each in self._streams if stream is None else [self._streams[stream]]:
            each.reset()

    def run(self, video: Video) -> Iterator[FrameResult]:
        """Detects in a whole video, from a fresh start, in the detector's first stream.

        Args:
            video: frames as `step` takes them, or pairs of a frame and its time in seconds.

        Yields:
            One result for every frame, in order.

        Raises:
            ValueError: as `step` does.
        """
        for _, result in self.run_all([video]):
            yield result

    def run_all(
        self,
        videos: Iterable[Video],
        on_error: Callable[[int, Exception], None] | None = None,
    ) -> Iterator[tuple[int, FrameResult]]:
        """Detects in many videos, as many at a time as there are streams, from a fresh start.

        Where one ends, the next takes its place, and the others go on undisturbed.

        Args:
            videos: as `run` takes each; all of the size that the first has in the network's input.
            on_error: called with a video's number and what it raised, or what was wrong with its
                frame; the video then ends with the results that it is still owed. Without it, the
                error is raised.

        Yields:
            The number of a video, from 0, and the result of its next frame.

        Raises:
            ValueError: as `step` does, without `on_error`.
        """
        self.reset()
        waiting = enumerate(videos)
        numbers: list[int | None] = [None] * len(self._streams)
        ahead = _turns_ahead(next(self.model.parameters()).device)
        turns: deque[tuple[list[int | None], _Collect]] = deque()
        sources: list[Iterator[Frame | tuple[Frame, float]]] = [iter(())] * len(self._streams)

        def collected(ahead: int) -> Iterator[tuple[int, FrameResult]]:
            while len(turns) > ahead:
                of, collect = turns.popleft()
                for number, result in zip(of, collect(), strict=True):
                    if number is not None and result is not None:
                        yield number, result

        def owed(stream: int) -> Iterator[tuple[int, FrameResult]]:
            number, numbers[stream] = numbers[stream], None
            if number is not None:
                for result in self.finish(stream):
                    yield number, result

        while True:
            frames: list[CurrentFrame | None] = [None] * len(self._streams)
            for stream, started in enumerate(self._streams):
                while frames[stream] is None:
                    number = numbers[stream]
                    try:
                        if number is not None:
                            item = next(sources[stream])
                            frame, time = item if isinstance(item, tuple) else (item, None)
                            frames[stream] = self._read(started, frame, time, frames)
                            continue
                    except StopIteration:
                        pass
                    except Exception as error:
                        assert number is not None
                        if on_error is None:
                            yield from collected(0)
                            raise
                        on_error(number, error)
                    yield from collected(0)
                    yield from owed(stream)
                    begun = next(waiting, None)
                    if begun is None:
                        break
                    numbers[stream], sources[stream] = begun[0], iter(begun[1])
            if not any(frames):
                return
            turns.append((numbers.copy(), self._step(frames)))
            yield from collected(ahead)

    def step(self, frame: Frame, time: float | None = None) -> FrameResult | None:
        """Takes the next frame of the first stream; the others rest.

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
        rest: list[Frame | None] = [None] * (len(self._streams) - 1)
        return self.step_all([frame, *rest], [time, *[None] * len(rest)])[0]

    def step_all(
        self, frames: Sequence[Frame | None], times: Sequence[float | None] | None = None
    ) -> list[FrameResult | None]:
        """Takes the next frame of every stream.

        Args:
            frames: of each stream, as `step` takes it; None where a stream rests. All are of one
                size in the network's input.
            times: of the frames in seconds.

        Returns:
            Of each stream what `step` returns, and None where it rests.

        Raises:
            ValueError: as `step` does, or there are not as many frames as streams; all streams can
                go on with other frames.
        """
        times = times or [None] * len(frames)
        if not len(frames) == len(times) == len(self._streams):
            raise ValueError(
                f"frames: expected one (or None) for each of {len(self._streams)} streams, got "
                f"{len(frames)} and {len(times)} times"
            )
        read: list[CurrentFrame | None] = [None] * len(frames)
        for number, (frame, time) in enumerate(zip(frames, times, strict=True)):
            if frame is not None:
                read[number] = self._read(self._streams[number], frame, time, read)
        return self._step(read)()

    @torch.inference_mode()
    def finish(self, stream: int = 0) -> list[FrameResult]:
        """Ends a stream and forgets it.

        Returns:
            The results still to come: with a `Method.window` of r those of the last r frames,
            their windows filled by repeating the last frame; else none.
        """
        ended = self._streams[stream]
        results = [self._detect_in_window(ended) for _ in range(len(ended.waiting))]
        ended.reset()
        return results

    @torch.inference_mode()
    def _read(
        self,
        stream: Stream,
        frame: Frame,
        time: float | None,
        beside: Sequence[CurrentFrame | None],
    ) -> CurrentFrame:
        """The stream's next frame as the networks take it; the stream stays as it was.

        Args:
            stream: whose frame it is.
            frame: as `step` takes it.
            time: likewise.
            beside: frames of other streams that were read for the same step.

        Raises:
            ValueError: the frame is not such an image, or of another size than those before it or
                beside it.
        """
        with self._stages("preprocess"):
            image = self._image(stream, frame)
        current = CurrentFrame(stream.count, time, (frame.shape[0], frame.shape[1]), image)
        if stream.count and current.frame_size != stream.frame_size:
            raise ValueError(
                f"frame {stream.count}: size changed from {_by(stream.frame_size)} to "
                f"{_by(current.frame_size)} (height x width) in mid-stream; reset() starts a new "
                "stream"
            )
        sizes = [each.image_size for each in self._streams if each is not stream and each.count]
        sizes += [each.image_size for each in beside if each is not None]
        if sizes and sizes[0] != current.image_size:
            raise ValueError(
                f"frame {stream.count}: is {_by(current.image_size)} (height x width) in the "
                f"network's input, but the other streams are {_by(sizes[0])}"
            )
        return current

    @torch.inference_mode()
    def _step(self, currents: Sequence[CurrentFrame | None]) -> _Collect:
        """One turn of the loop of lines 8 to 28, for every stream that does not rest."""
        results: list[FrameResult | None] = [None] * len(currents)
        read = {number: each for number, each in enumerate(currents) if each is not None}
        if not read:
            return lambda: results
        for number, each in read.items():
            self._streams[number].advance(each)
        if not self.method.keys_only:
            return self._results(currents, *self._follow(currents))
        images = torch.cat([each.image for each in read.values()])
        if not self.method.window:
            detections = self._per_frame(images)
            collect = self._results(list(read.values()), detections, None)

            def spread() -> list[FrameResult | None]:
                found = collect()
                return [found.pop(0) if number in read else None for number in range(len(results))]

            return spread
        with self._stages("features"):
            features = self.model.features(images)
        with self._stages("embedding"):
            embeddings = self.model.embedding(features)
        for place, (number, each) in enumerate(read.items()):
            stream, one = self._streams[number], slice(place, place + 1)
            stream.window.add(WindowFrame(each.index, each.image, features[one], embeddings[one]))
            stream.waiting.append(each)
            if len(stream.waiting) > self.method.window:
                results[number] = self._detect_in_window(stream)
        return lambda: results

    def _per_frame(self, images: Tensor) -> Detections:
        """Lines 3 and 4 for every frame: the networks as PyTorch runs them."""

        def turn(_: object, images: Tensor) -> Detections:
            with self._stages("features"):
                feature = self.model.features(images)
            image_size = (images.shape[2], images.shape[3])
            return self._detect(self._detection_network(image_size), feature)

        if images.device.type != "cuda" or self._timed:
            return turn(None, images)
        if self._graph is None:
            self._graph = Graph(turn)
        detections: Detections = self._graph(images.shape, images)
        return detections

    def _follow(self, currents: Sequence[CurrentFrame | None]) -> tuple[Detections, UpdatePlan]:
        """Lines 2 to 26 for every stream: what was found, and what was decided."""
        loop = self._loop_for(next(each.image for each in currents if each is not None))
        for image, each in zip(loop.image.split(1), currents, strict=True):
            if each is not None:
                image.copy_(each.image)
        method = self.method
        begins = [each is not None and each.index == 0 for each in currents]
        rests = [each is None for each in currents]
        due = [each is not None and each.index % method.interval == 0 for each in currents]
        goes_on = [each is not None and each.index > 0 for each in currents]
        if method.key == "every" and not method.do_aggr:  # key frames read no other
            goes_on = [on and not key for on, key in zip(goes_on, due, strict=True)]
        key = None
        if method.key == "every":
            self._due.numpy()[:] = due
            key = to_device(self._due, loop.image.device)
        if any(begins) or any(rests) or self._graph is None:
            feature = loop.step(
                key,
                _flags(begins, loop.image.device) if any(begins) else None,
                _flags(rests, loop.image.device) if any(rests) else None,
                propagates=any(goes_on),
            )
            return self._detect(self._detection, feature), loop.plan
        detections: Detections = self._graph(any(goes_on), key)
        return detections, loop.plan

    def _loop_for(self, image: Tensor) -> KeyFrameLoop:
        """The loop on images of this size, and its graph where one is used."""
        image_size = (image.shape[2], image.shape[3])
        if self._loop is not None and self._loop.image.shape[2:] == image_size:
            return self._loop
        if self._packed is None:
            self._packed = PackedNetwork.of(self.model, embed=self.method.do_aggr)
        self._loop = self._graph = None  # their memory is free before the new one's is taken
        self._loop = loop = KeyFrameLoop(
            self._packed,
            self._flow_network(),
            self.model,
            self.method,
            len(self._streams),
            image,
            consistency=self._consistency,
            stages=self._stages,
        )
        self._detection = replayed(self._detection_network(image_size), self._packed)

        def turn(propagates: bool, key: Tensor | None) -> Detections:
            feature = loop.step(key, None, None, propagates=propagates)
            return self._detect(self._detection, feature)

        if image.device.type == "cuda" and not self._timed:
            self._graph = Graph(turn)
        return loop

    def _image(self, stream: Stream, frame: Frame) -> Tensor:
        """The stream's next image; in the key frame loop on the CPU, valid until the one after."""
        parameter = next(self.model.parameters())
        if parameter.device.type != "cpu" or self.method.keys_only:
            return self._preprocess(frame, parameter.device, parameter.dtype)
        if stream.preprocess is None:
            stream.preprocess = PreprocessInPlace(self._preprocess, parameter.dtype)
        return stream.preprocess(frame)

    def _flow_network(self) -> FlowNetwork | PackedFlow:
        """N_flow as it runs fastest on the model's device."""
        if next(self.model.flow.parameters()).device.type != "cpu":
            network: FlowNetwork = self.model.flow
            return network
        if self._flow is None:
            self._flow = PackedFlow(self.model.flow)
        return self._flow

    def _detect_in_window(self, stream: Stream) -> FrameResult:
        """Lines 20 and 21 with Eq. 2, for the first frame that waits for its window."""
        i = stream.waiting.popleft()
        feature = stream.window.aggregate(i.index, self._flow_network(), self._stages)
        detections = self._detect(self._detection_network(i.image_size), feature)
        (result,) = self._results([i], detections, None)()
        assert result is not None
        return result

    def _detect(self, network: Callable[[Tensor], Detections], feature: Tensor) -> Detections:
        """Lines 4, 21 and 23."""
        with self._stages("detection"):
            return network(feature)

    def _detection_network(self, image_size: tuple[int, int]) -> Callable[[Tensor], Detections]:
        return functools.partial(self.model.detection, image_size=image_size)

    def _results(
        self,
        currents: Sequence[CurrentFrame | None],
        detections: Detections,
        plan: UpdatePlan | None,
    ) -> _Collect:
        """What was found in each frame and, unless all are key frames, decided of it."""
        found_and_decided = [*detections]
        if plan is not None:
            found_and_decided += [plan.is_key, plan.changed, plan.mask]
        coming = ToHost(found_and_decided)

        def collect() -> list[FrameResult | None]:
            arrived = coming.wait()
            return [
                None
                if i is None
                else result_of_frame(i, number, *arrived, masks=self.method.do_spatial)
                for number, i in enumerate(currents)
            ]

        return collect


def _turns_ahead(device: torch.device) -> int:
    """How many turns begin before the results of one are waited for, so that no GPU runs dry."""
    return 1 if device.type == "cuda" else 0


def _flags(values: list[bool], device: torch.device) -> Tensor:
    return to_device(torch.tensor(values), device)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
