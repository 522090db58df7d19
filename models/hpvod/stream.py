"""Where a video stream is: what a detector remembers of it beside its key frames."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from torch import Tensor

from hpvod.dense_window import DenseWindow
from hpvod.preprocess_in_place import PreprocessInPlace


@dataclass(frozen=True)
class CurrentFrame:
    """The frame i of a stream."""

    index: int
    """From 0."""
    time: float | None
    """In seconds, if it was given."""
    frame_size: tuple[int, int]
    """(height, width) as it was given."""
    image: Tensor
    """I_i as the networks take it, [1, 3, h, w]; in the key frame loop, valid for one turn."""

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in the network's input."""
        return self.image.shape[2], self.image.shape[3]


class Stream:
    """How far a stream has come.

    Args:
        radius: of the dense window of Eq. 2; 0 where there is none.

    Attributes:
        count: frames so far.
        frame_size: of its frames, (height, width) as they were given.
        image_size: the same in the network's input.
        window: the features and embeddings of the last frames.
        waiting: frames that wait for those after them in the window.
        preprocess: where the stream's images lie, once it has some in memory of their own.
    """

    def __init__(self, radius: int) -> None:
        self.preprocess: PreprocessInPlace | None = None
        self.window = DenseWindow(radius)
        self.waiting: deque[CurrentFrame] = deque()
        self.reset()

    def reset(self) -> None:
        """Forgets all frames."""
        self.count = 0
        self.frame_size = self.image_size = (0, 0)
        self.window.clear()
        self.waiting.clear()

    def advance(self, current: CurrentFrame) -> None:
        """Counts a frame."""
        self.count += 1
        self.frame_size, self.image_size = current.frame_size, current.image_size
