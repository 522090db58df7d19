"""From a frame as it is decoded to the image that the networks take."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hpvod.config import ModelConfig
from hpvod.networks.feature import STRIDE
from hpvod.transfer import to_device

Frame = NDArray[np.uint8] | Tensor
"""One frame: uint8 RGB, [height, width, 3]."""

SMALLEST_SIDE = 32
"""Below it the flow network's deepest maps would be smaller than a pixel."""


class Preprocess:
    """Resizes a frame and subtracts the mean colour.

    The short side becomes `config.short_side`, or less where the long side would exceed
    `config.long_side`. The resize is bilinear without antialiasing, as in the networks' original
    training, so a strongly reduced frame is sampled, not averaged. There is no padding.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._short_side = config.short_side
        self._long_side = config.long_side
        self._mean = torch.tensor(config.pixel_mean, dtype=torch.float64).view(1, 3, 1, 1)
        self._mean_beside = self._mean

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        """Size (height, width) of the image made from a frame of the given size, in pixels.

        Raises:
            ValueError: a side of the image would be under `SMALLEST_SIDE`.
        """
        short, long = sorted((height, width))
        scale = min(self._short_side / max(short, 1), self._long_side / max(long, 1))
        size = round(height * scale), round(width * scale)
        if min(size) < SMALLEST_SIDE:
            raise ValueError(
                f"frame: {height}x{width} (height x width) resizes to {size[0]}x{size[1]}; "
                f"the networks need at least {SMALLEST_SIDE} pixels a side"
            )
        return size

    def cell(self, height: int, width: int) -> tuple[float, float]:
        """(width, height) of a position of U, in pixels of a frame of the given size.

        Raises:
            ValueError: as `image_size` does.
        """
        image_height, image_width = self.image_size(height, width)
        return STRIDE * width / image_width, STRIDE * height / image_height

    def __call__(self, frame: Frame, device: torch.device, dtype: torch.dtype) -> Tensor:
        """The network input of one frame.

        Args:
            frame: uint8 RGB, [height, width, 3], NumPy array or tensor, on any device.
            device: of the result; a CPU frame is moved there before it is resized.
            dtype: of the result; the arithmetic is float32, or float64 where that is asked for.

        Returns:
            [1, 3, h, w] in channels_last, mean-subtracted RGB on the scale of 0 to 255.

        Raises:
            ValueError: `frame` is not what Args says, or too thin (`image_size`).
        """
        check_frame(frame)
        # The copy serves arrays that PyTorch cannot share: read-only and with negative strides.
        pixels = frame if isinstance(frame, Tensor) else torch.from_numpy(frame.copy())
        return self.image(to_device(pixels, device), dtype)

    def image(self, pixels: Tensor, dtype: torch.dtype) -> Tensor:
        """The same of a frame that is a tensor on the result's device."""
        size = self.image_size(pixels.shape[0], pixels.shape[1])
        accumulate = torch.promote_types(dtype, torch.float32)
        image = pixels.permute(2, 0, 1)[None].to(accumulate)
        if image.shape[2:] != size:
            image = F.interpolate(image, size, mode="bilinear", align_corners=False)
        image -= self._mean_on(image)
        return image.to(dtype, memory_format=torch.channels_last)

    def _mean_on(self, image: Tensor) -> Tensor:
        """The mean beside an image; it goes to a GPU once."""
        held = self._mean_beside
        if held.device != image.device or held.dtype != image.dtype:
            self._mean_beside = held = self._mean.to(image.device, image.dtype)
        return held


def check_frame(frame: object) -> None:
    """Refuses what is not a frame.

    Raises:
        ValueError: `frame` is not uint8 RGB, [height, width, 3].
    """
    wanted = "frame: expected uint8 RGB of shape [height, width, 3]"
    if not isinstance(frame, np.ndarray | Tensor):
        raise ValueError(f"{wanted}, got {type(frame).__name__}")
    if frame.dtype not in (np.uint8, torch.uint8) or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"{wanted}, got {frame.dtype} of shape {list(frame.shape)}")
