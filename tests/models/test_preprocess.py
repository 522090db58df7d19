from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from hpvod.config import ModelConfig
from hpvod.preprocess import Preprocess

from . import transcription

CPU = torch.device("cpu")
MEAN = torch.tensor(ModelConfig().pixel_mean).view(1, 3, 1, 1)


def random_frame(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def small(short_side, long_side):
    config = dataclasses.replace(ModelConfig(), short_side=short_side, long_side=long_side)
    return config, Preprocess(config)


@pytest.mark.parametrize(
    ("frame", "image"),
    [
        ((480, 640), (600, 800)),
        ((640, 480), (800, 600)),
        ((600, 1000), (600, 1000)),
        ((720, 1280), (562, 1000)),  # the long side's bound decides
        ((1280, 720), (1000, 562)),
        ((375, 1242), (302, 1000)),
    ],
)
def test_image_size(frame, image):
    assert Preprocess(ModelConfig()).image_size(*frame) == image


def test_cell():
    # 720 x 1280 becomes 562 x 1000: 16 of its pixels are so many of the frame's.
    width, height = Preprocess(ModelConfig()).cell(720, 1280)
    assert width == pytest.approx(16 * 1.28)
    assert height == pytest.approx(16 * 720 / 562)


def test_a_frame_of_the_right_size_is_only_shifted():
    _, preprocess = small(40, 100)
    frame = random_frame(40, 57)
    expected = torch.from_numpy(frame).permute(2, 0, 1)[None].float() - MEAN
    assert torch.equal(preprocess(frame, CPU, torch.float32), expected)


# Up, down by more than 2 (where antialiasing would average), odd sizes, bound by the long side.
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(33, 47), (100, 131), (50, 150), (150, 50), (40, 40)], ids=str)
def test_resize_against_its_definition(size, dtype):
    config, preprocess = small(40, 100)
    frame = random_frame(*size)
    image = preprocess(frame, CPU, dtype)
    assert image.dtype == dtype
    expected = transcription.preprocess(frame, config, torch.empty(0, dtype=torch.float64))
    # A position of up to 150 pixels is rounded to `eps` of itself, between values 255 apart.
    error = 255 * 150 * torch.finfo(dtype).eps
    torch.testing.assert_close(image.double(), expected, rtol=0, atol=error)


def test_low_precision_is_rounded_once():
    _, preprocess = small(40, 100)
    frame = random_frame(33, 47)
    expected = preprocess(frame, CPU, torch.float32).bfloat16()
    image = preprocess(frame, CPU, torch.bfloat16)
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(image, expected)


def test_every_kind_of_array():
    _, preprocess = small(40, 100)
    frame = random_frame(45, 60)
    expected = preprocess(frame, CPU, torch.float32)
    read_only = frame.copy()
    read_only.flags.writeable = False
    flipped = np.ascontiguousarray(frame[::-1, :, ::-1])[::-1, :, ::-1]
    planar = np.ascontiguousarray(frame.transpose(2, 0, 1)).transpose(1, 2, 0)
    for same in (torch.from_numpy(frame), read_only, flipped, planar):
        assert torch.equal(preprocess(same, CPU, torch.float32), expected)


@pytest.mark.parametrize(
    ("frame", "got"),
    [
        (np.zeros((40, 50, 3), np.float32), r"got float32 of shape \[40, 50, 3\]"),
        (torch.zeros(40, 50, 3), r"got torch.float32 of shape \[40, 50, 3\]"),
        (np.zeros((40, 50, 3), np.int8), r"got int8 of shape \[40, 50, 3\]"),
        (np.zeros((40, 50), np.uint8), r"got uint8 of shape \[40, 50\]"),
        (np.zeros((40, 50, 1), np.uint8), r"got uint8 of shape \[40, 50, 1\]"),
        (np.zeros((40, 50, 4), np.uint8), r"got uint8 of shape \[40, 50, 4\]"),
        (torch.zeros(3, 40, 50, dtype=torch.uint8), r"got torch.uint8 of shape \[3, 40, 50\]"),
        (np.zeros((1, 40, 50, 3), np.uint8), r"got uint8 of shape \[1, 40, 50, 3\]"),
        ([[[0, 0, 0]]], "got list"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_frame(frame, got):
    _, preprocess = small(40, 100)
    with pytest.raises(ValueError, match=r"^frame: expected uint8 RGB of shape \[height") as error:
        preprocess(frame, CPU, torch.float32)
    assert error.match(got)


@pytest.mark.parametrize("size", [(10, 1000), (0, 50), (50, 0), (0, 0)], ids=str)
def test_too_thin_a_frame(size):
    frame = np.zeros((*size, 3), np.uint8)
    with pytest.raises(ValueError, match=rf"frame: {size[0]}x{size[1]} .* at least 32 pixels"):
        Preprocess(ModelConfig())(frame, CPU, torch.float32)
