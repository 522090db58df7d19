from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hpvod.data import Annotation
from hpvod.detector import VideoDetector
from hpvod.frame_result import FrameResult
from hpvod.method import Method
from hpvod.model import build_model
from hpvod.oracle import OracleDetector

from .moving import CONFIG, SIZES, moving_frames

COUNT = 9


@pytest.fixture(scope="module")
def model():
    return build_model(CONFIG, seed=1)


@pytest.fixture(scope="module")
def frames():
    return moving_frames(COUNT, *SIZES[1], cuts=(4,))


def annotation(boxes, labels):
    count = len(labels)
    return Annotation(
        size=SIZES[1],
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int64),
        tracks=np.full(count, -1),
        occluded=np.zeros(count, np.bool_),
    )


SOMETHING = annotation([[0, 0, 9, 9]], [0])


def scheduled(model, frames, keys, tau):
    """Algorithm 1 with these key frames: where Q is -inf everywhere, as line 12 has it."""
    method = Method("mine", "adaptive", do_aggr=True, do_spatial=True, tau=tau, gamma=0.999)
    coming = iter(range(1, len(frames)))

    def consistency(image_k, image_i, output):
        is_key = next(coming) in keys
        return torch.full_like(output.quality, -math.inf) if is_key else output.quality

    return list(VideoDetector(model, method, consistency=consistency).run(frames))


def median_quality(model, frames):
    """Splits the positions into two halves."""
    seen = []

    def consistency(image_k, image_i, output):
        seen.append(output.quality)
        return output.quality

    method = Method("mine", "adaptive", do_aggr=True, do_spatial=True, gamma=1.0)
    list(VideoDetector(model, method, consistency=consistency).run(frames))
    return float(torch.cat(seen).median())


@pytest.mark.parametrize("keys", [set(), {1, 2, 3, 4, 5, 6, 7, 8}, {2, 3, 7}])
def test_what_is_chosen_alone_goes_on(model, frames, keys, monkeypatch):
    tau = median_quality(model, frames)
    oracle = OracleDetector(model, CONFIG.classes, tau)
    # Of two that are equal, the propagated one.
    monkeypatch.setattr(
        oracle, "_map", lambda found, _: float(found.index in keys and found.updated == 1)
    )
    for _ in range(2):  # the second time after a reset
        found = [oracle.step(frame, SOMETHING) for frame in frames]
        expected = scheduled(model, frames, keys, tau)
        assert {one.frame.index for one in found if one.frame.is_key} == keys | {0}
        for one, other in zip(found, expected, strict=True):
            assert one.seconds > 0
            assert (one.frame.index, one.frame.is_key) == (other.index, other.is_key)
            assert one.frame.updated == other.updated
            assert len(other.boxes) > 10
            for name in ("boxes", "labels", "scores"):
                assert torch.equal(getattr(one.frame, name), getattr(other, name))
            if not other.is_key:
                assert 0 < other.updated < 1
                assert torch.equal(one.frame.mask, other.mask)
        oracle.reset()


def test_the_higher_map_decides(model, frames, monkeypatch):
    oracle = OracleDetector(model, CONFIG.classes, median_quality(model, frames))
    values = []
    of_frame = oracle._map

    def spy(found, truth):
        values.append(of_frame(found, truth))
        return values[-1]

    monkeypatch.setattr(oracle, "_map", spy)
    per_frame = Method("every", "every", do_aggr=False, do_spatial=False, interval=1)
    chosen = []
    for frame, alone in zip(frames, VideoDetector(model, per_frame).run(frames), strict=True):
        truth = annotation(alone.boxes[:8].round().numpy(), alone.labels[:8].numpy())
        chosen.append(oracle.step(frame, truth).frame.is_key)
    recomputed, propagated = values[::2], values[1::2]
    assert len(recomputed) == COUNT - 1
    assert chosen[1:] == [a > b for a, b in zip(recomputed, propagated, strict=True)]
    assert any(chosen[1:]) and not all(chosen[1:])


@pytest.mark.parametrize("truth", [None, annotation([], [])])
def test_no_key_frame_where_nothing_is_annotated(model, frames, truth):
    oracle = OracleDetector(model, CONFIG.classes)
    assert [oracle.step(frame, truth).frame.is_key for frame in frames] == [True] + [False] * 8


def test_map_of_a_frame(model):
    classes = [*CONFIG.classes[2:4], "never seen"]
    oracle = OracleDetector(model, classes)
    truth = annotation(
        [[0, 0, 19, 19], [50, 0, 69, 19], [0, 50, 19, 69], [50, 50, 69, 69]], [0, 0, 1, 2]
    )
    found = FrameResult(
        index=3,
        time=None,
        is_key=False,
        updated=0.0,
        # Of the first class an object, nothing, an object; of the second one somewhere else; of
        # others what is not to be found.
        boxes=torch.tensor(
            [[0, 0, 19, 19], [90, 0, 99, 9], [50, 0, 69, 19], [50, 50, 69, 69], [0, 50, 19, 69.0]]
        ),
        labels=torch.tensor([2, 2, 2, 3, 0]),
        scores=torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5]),
        mask=None,
    )
    assert oracle._map(found, truth) == pytest.approx((1 + 2 / 3) / 2 / 3)


def test_another_size_needs_a_reset(model, frames):
    oracle = OracleDetector(model, CONFIG.classes)
    other = moving_frames(1, 64, 64)[0]
    oracle.step(frames[0], None)
    height, width, _ = frames[0].shape
    with pytest.raises(ValueError, match=f"frame 1: size changed from {height}x{width} to 64x64"):
        oracle.step(other, None)
    oracle.reset()
    assert oracle.step(other, None).frame.is_key
