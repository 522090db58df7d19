from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from bench.clip import draw_clip, read_video, true_flow
from bench.most_changed import MostChanged
from hpvod_ops import reference

SIZE = (90, 150)


def test_clip_is_the_same_every_time() -> None:
    torch.manual_seed(3)
    first = [hashlib.sha256(frame).hexdigest() for frame in draw_clip(3, SIZE)]
    torch.manual_seed(4)
    assert [hashlib.sha256(frame).hexdigest() for frame in draw_clip(3, SIZE)] == first
    assert len(set(first)) == 3


def test_frames_are_rgb_and_textured() -> None:
    (frame,) = draw_clip(1, SIZE)
    assert frame.dtype == np.uint8 and frame.shape == (*SIZE, 3)
    horizontal = np.abs(np.diff(frame.astype(int), axis=1)).mean()
    assert 2 < horizontal < 30  # neither flat nor white noise


def test_true_flow_takes_the_key_frame_to_the_current_one() -> None:
    key, *_, current = (
        torch.from_numpy(frame).permute(2, 0, 1)[None].float() for frame in draw_clip(9, SIZE)
    )
    unmoved = (key - current).abs().mean(1)
    moved = (reference.warp(key, true_flow(8, 0, *SIZE)) - current).abs().mean(1)
    # What remains nearly everywhere is the camera's noise (2 of 255 in each of two frames), and
    # interpolation; only uncovered ground and the picture's edge stay wrong.
    assert moved.median() < 6
    assert moved.median() < unmoved.median() / 3


def test_true_flow_of_a_frame_to_itself_is_zero() -> None:
    # Positions of up to 2 heights, times 90 pixels, in float64: 1e-13; then float32.
    torch.testing.assert_close(true_flow(5, 5, *SIZE), torch.zeros(1, 2, *SIZE), atol=1e-6, rtol=0)


def test_real_frames_are_read_in_order(tmp_path) -> None:
    for index, value in enumerate((10, 60, 110)):
        Image.new("RGB", (40, 36), (value, 0, 255 - value)).save(tmp_path / f"{index}.png")
    frames = read_video(str(tmp_path), 2)
    assert [frame[0, 0, 0] for frame in frames] == [10, 60]
    assert frames[0].shape == (36, 40, 3)


@pytest.mark.parametrize("density", [0.0, 0.1, 0.37, 1.0])
@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_most_changed_picks_exactly_the_share(density: float, size: tuple[int, int]) -> None:
    key, image = torch.randn(2, 1, 3, *size)
    consistency = MostChanged(density)(key, image, None)
    positions = -(-size[0] // 16) * -(-size[1] // 16)
    assert consistency.shape == (1, 1, -(-size[0] // 16), -(-size[1] // 16))
    assert int((consistency <= 0).sum()) == round(density * positions)


def test_most_changed_picks_what_changed() -> None:
    key = torch.zeros(1, 3, 64, 64)
    image = key.clone()
    image[:, :, 16:32, 48:64] = 5
    image[:, 1, 0:16, 0:16] = 3
    image[:, 1, 32:36, 32:36] = 3
    updated = MostChanged(2 / 16)(key, image, None)[0, 0] <= 0
    assert updated.nonzero().tolist() == [[0, 0], [1, 3]]
