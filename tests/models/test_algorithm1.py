"""`VideoDetector` against the literal transcription of the paper's pseudo-code."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
import torch

from hpvod.detector import VideoDetector
from hpvod.method import PRESETS, Method
from hpvod.model import build_model

from .features_read import features_read
from .moving import CONFIG, SIZES, moving_frames, unchanged
from .transcription import algorithm1, preprocess


def scaled(model, seed=0):
    """The scale head at work: a map that differs from 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        weight = model.flow.scale.weight
        weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))
    return model


def transcribed(model, method, frames, consistency):
    return algorithm1(
        model,
        frames,
        schedule=method.interval if method.key == "every" else None,
        do_aggr=method.do_aggr,
        do_spatial=method.do_spatial,
        tau=method.tau,
        gamma=method.gamma,
        window=method.window,
        consistency=consistency,
    )


def some_quality(model, frames, share):
    """A tau that the given share of Q of frames 0 and 1 is under."""
    images = [preprocess(f, model.config, next(model.parameters())) for f in frames[:2]]
    with torch.no_grad():
        return model.flow(images[1], images[0]).quality.quantile(share).item()


def check_against_transcription(
    model, method, frames, consistency, *, feature_error, compare_boxes=True
):
    with features_read() as read:
        results = list(VideoDetector(model, method, consistency=consistency).run(frames))
    expected = transcribed(model, method, frames, consistency)

    assert [r.index for r in results] == list(range(len(frames)))
    assert [r.is_key for r in results] == expected.keys
    for i, r in enumerate(results):
        mask = expected.masks[i]
        assert r.updated == mask.sum().item() / mask.numel()
        if method.do_spatial and not r.is_key:
            assert torch.equal(r.mask, mask)
        else:
            assert r.mask is None
        largest = expected.features[i].abs().max()
        assert (read[i] - expected.features[i]).abs().max() <= feature_error * largest, i
        if compare_boxes:
            assert len(r.boxes) == len(expected.boxes[i]) > 10
            # Two units in the last place of a float32: of a score, of a coordinate near 128.
            torch.testing.assert_close(r.scores, expected.scores[i], rtol=2.4e-7, atol=0)
            torch.testing.assert_close(r.boxes, expected.boxes[i], rtol=0, atol=3.1e-5)
            assert torch.equal(r.labels, expected.labels[i])
    return results


# In float64 the two differ by the order of sums alone, and no rounding can swap detections.
@pytest.mark.parametrize("name", PRESETS)
def test_presets_in_float64(name):
    model = build_model(CONFIG, seed=1).double()
    frames = moving_frames(23, *SIZES[1], cuts=(5, 13))
    results = check_against_transcription(
        model, PRESETS[name], frames, unchanged(25), feature_error=1e-13
    )
    partial = [r.updated for r in results if r.mask is not None]
    assert bool(partial) == PRESETS[name].do_spatial
    if partial:
        assert sum(0 < updated < 1 for updated in partial) >= 8
    if name == "c3":
        keys = [r.index for r in results if r.is_key]
        # Both cuts, and frames between them at no fixed distance.
        assert {0, 5, 13} < set(keys)
        assert len({later - key for key, later in pairwise(keys)}) >= 3


# Detections are not compared: scores of an untrained network lie closer than float32 resolves.
@pytest.mark.parametrize("name", PRESETS)
def test_presets_in_float32(name):
    model = build_model(CONFIG, seed=1)
    check_against_transcription(
        model,
        PRESETS[name],
        moving_frames(12, *SIZES[1], cuts=(5,)),
        unchanged(25),
        feature_error=1e-5,
        compare_boxes=False,
    )


@pytest.mark.parametrize("name", ["c2", "c3"])
def test_q_head(name):
    model = build_model(CONFIG, seed=1).double()
    frames = moving_frames(14, *SIZES[1], cuts=(5,))
    tau = some_quality(model, frames, share=0.3)
    method = dataclasses.replace(PRESETS[name], gamma=0.3, tau=tau)
    results = check_against_transcription(model, method, frames, None, feature_error=1e-13)
    assert sum(0 < r.updated < 1 for r in results) >= 3
    assert sum(r.is_key for r in results) >= 2


@pytest.mark.parametrize("name", ["dff", "fgfa", "c1", "c3"])
def test_scale_map(name):
    config = dataclasses.replace(CONFIG, flow_scale_head=True)
    model = scaled(build_model(config, seed=1).double())
    frames = moving_frames(12, *SIZES[1], cuts=(5,))
    check_against_transcription(model, PRESETS[name], frames, unchanged(25), feature_error=1e-13)


def test_stride_in_the_3x3():
    model = build_model(dataclasses.replace(CONFIG, stride_in="3x3"), seed=1).double()
    frames = moving_frames(12, *SIZES[1], cuts=(5,))
    check_against_transcription(model, PRESETS["c3"], frames, unchanged(25), feature_error=1e-13)


@pytest.mark.parametrize("do_aggr", [False, True])
@pytest.mark.parametrize("do_spatial", [False, True])
@pytest.mark.parametrize("key", ["every", "adaptive"])
def test_every_combination(key, do_spatial, do_aggr):
    method = Method("mine", key, do_aggr=do_aggr, do_spatial=do_spatial, interval=4)
    model = build_model(CONFIG, seed=2).double()
    frames = moving_frames(10, *SIZES[0], cuts=(5,), seed=1)
    check_against_transcription(model, method, frames, unchanged(25), feature_error=1e-13)


@pytest.mark.parametrize(("count", "window"), [(1, 2), (2, 2), (5, 2), (6, 2), (4, 9)])
def test_dense_windows_at_both_ends(count, window):
    method = dataclasses.replace(PRESETS["fgfa"], window=window)
    model = build_model(CONFIG, seed=1).double()
    frames = moving_frames(count, *SIZES[0])
    check_against_transcription(model, method, frames, None, feature_error=1e-13)
