"""A stream's images, all in one memory."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hpvod.preprocess import Frame, Preprocess, check_frame
from hpvod.replay import Replay


class PreprocessInPlace:
    """`Preprocess` on the CPU, whose result is valid until its next call.

    Args:
        preprocess: what to do.
        dtype: of the images.
    """

    def __init__(self, preprocess: Preprocess, dtype: torch.dtype) -> None:
        self._image = Replay(lambda pixels: preprocess.image(pixels, dtype))
        self._pixels = torch.empty(0, dtype=torch.uint8)

    def __call__(self, frame: Frame) -> Tensor:
        """[1, 3, h, w] of a frame, as `Preprocess` makes it.

        Raises:
            ValueError: as `Preprocess` does.
        """
        check_frame(frame)
        if self._pixels.shape != frame.shape:
            self._pixels = torch.empty(tuple(frame.shape), dtype=torch.uint8)
        if isinstance(frame, Tensor):
            self._pixels.copy_(frame)
        else:
            np.copyto(self._pixels.numpy(), frame)
        image: Tensor = self._image(self._pixels)
        return image
