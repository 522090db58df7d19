from __future__ import annotations

import dataclasses

import pytest
import torch

from bench.clip import draw_clip
from bench.non_recursive import NonRecursive
from hpvod.config import ModelConfig
from hpvod.detector import VideoDetector
from hpvod.method import PRESETS
from hpvod.model import HPVODModel, build_model
from hpvod.preprocess import Preprocess
from hpvod_ops import reference

INTERVAL, COUNT = 3, 8
SIZE = (64, 96)
FRAMES = list(draw_clip(COUNT, SIZE))
CONFIG = dataclasses.replace(
    ModelConfig.preset("tiny"), short_side=64, long_side=96, flow_scale_head=True
)


@pytest.fixture(scope="module")
def model() -> HPVODModel:
    """In float64, where no rounding can swap detections; with a scale map that is not 1."""
    model = build_model(CONFIG, seed=1).double()
    generator = torch.Generator().manual_seed(0)
    assert model.flow.scale is not None
    weight = model.flow.scale.weight
    with torch.no_grad():
        weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))
    return model


def run(model: HPVODModel, keys: int) -> tuple[list, list[torch.Tensor]]:
    """Results, and what the detection network was given."""
    read: list[torch.Tensor] = []
    hook = model.detection.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    detector = NonRecursive(model, INTERVAL, keys)
    results = [detector.step(frame) for frame in FRAMES]
    hook.remove()
    return results, read


def test_one_recursion_is_none(model: HPVODModel) -> None:
    """Of two key frames Eq. 2 makes what Eq. 4 does, as long as there was none before them."""
    c1 = dataclasses.replace(PRESETS["c1"], interval=INTERVAL)
    expected = list(VideoDetector(model, c1).run(FRAMES))
    results, _ = run(model, keys=2)
    for found, other in zip(results, expected, strict=True):
        assert (found.index, found.is_key, found.updated) == (
            other.index,
            other.is_key,
            other.updated,
        )
    for found, other in zip(results[: 2 * INTERVAL], expected, strict=False):
        assert len(other.boxes) > 10
        torch.testing.assert_close(found.scores, other.scores)
        torch.testing.assert_close(found.boxes, other.boxes, rtol=0, atol=1e-4)
        assert torch.equal(found.labels, other.labels)
    third = slice(2 * INTERVAL, None)
    for found, other in zip(results[third], expected[third], strict=True):
        assert not torch.equal(found.scores[:10], other.scores[:10])


@pytest.mark.parametrize("keys", [1, 2, 3, 5])
@torch.no_grad()
def test_key_frames_by_equation_2(model: HPVODModel, keys: int) -> None:
    preprocess = Preprocess(CONFIG)
    images = [preprocess(frame, torch.device("cpu"), torch.float64) for frame in FRAMES]
    _, read = run(model, keys)
    for index in range(0, COUNT, INTERVAL):
        features, embeddings = [], []
        for key in range(max(index - (keys - 1) * INTERVAL, 0), index + 1, INTERVAL):
            feature = model.features(images[key])
            embedding = model.embedding(feature)
            if key != index:
                flow = model.flow(images[index], images[key]).flow
                feature, embedding = reference.warp(feature, flow), reference.warp(embedding, flow)
            features.append(feature)
            embeddings.append(embedding)
        torch.testing.assert_close(read[index], reference.aggregate(features, embeddings))


def test_reset_begins_anew(model: HPVODModel) -> None:
    detector = NonRecursive(model, INTERVAL, 2)
    first = [detector.step(frame) for frame in FRAMES[:4]]
    detector.reset()
    for frame, before in zip(FRAMES, first, strict=False):
        again = detector.step(frame)
        assert again.index == before.index
        assert torch.equal(again.boxes, before.boxes)
