from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from hpvod.config import ModelConfig
from hpvod.model import HPVODModel, build_model

from . import literal_boxes


def random_feature(batch: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 128, 6, 8, generator=generator).relu()


def test_equals_a_literal_transcription(tiny_model: HPVODModel) -> None:
    network, config = tiny_model.detection, tiny_model.config
    feature = random_feature()
    with torch.no_grad():
        found = network(feature, (90, 125)).of_image(0)
        first, last = feature[:, :64], feature[:, 64:]
        every = network.rpn.propose(network.rpn(first), (6, 8), (90, 125))
        proposals = every.boxes[0, : int(every.counts)]
        rois = torch.nn.functional.pad(proposals, (1, 0))
        logits, deltas = network.rfcn(last, rois)
    probabilities = literal_boxes.softmax(logits.numpy().astype(np.float64))[:, 1:]
    moved = [
        literal_boxes.clip(literal_boxes.decode(p, d, (0.1, 0.1, 0.2, 0.2)), 90, 125)
        for p, d in zip(proposals.tolist(), deltas.tolist(), strict=True)
    ]
    expected = []
    for label in range(30):
        chosen = [i for i in range(len(moved)) if probabilities[i, label] > config.score_threshold]
        scored = [float(probabilities[i, label]) for i in chosen]
        for i in literal_boxes.nms([moved[i] for i in chosen], scored, 0.3):
            expected.append((scored[i], label, moved[chosen[i]]))
    expected = sorted(expected, key=lambda e: -e[0])[: config.max_detections]

    assert len(found.boxes) == config.max_detections
    assert found.labels.tolist() == [label for _, label, _ in expected]
    # float32 probabilities below 1 and coordinates of up to 125 pixels.
    scores, boxes = zip(*((score, box) for score, _, box in expected), strict=True)
    torch.testing.assert_close(found.scores, torch.tensor(scores), rtol=1e-5, atol=0)
    torch.testing.assert_close(found.boxes, torch.tensor(boxes), rtol=0, atol=1e-4)


def test_channels_are_split_between_rpn_and_rfcn(tiny_model: HPVODModel) -> None:
    seen = {}
    network = copy.deepcopy(tiny_model.detection)
    network.rpn.register_forward_pre_hook(lambda _, arguments: seen.update(rpn=arguments[0]))
    network.rfcn.register_forward_pre_hook(lambda _, arguments: seen.update(rfcn=arguments[0]))
    feature = random_feature()
    network(feature, (90, 125))
    assert torch.equal(seen["rpn"], feature[:, :64])
    assert torch.equal(seen["rfcn"], feature[:, 64:])
    # Dense, or each of two convolutions would make a copy of its own.
    for layout in (torch.contiguous_format, torch.channels_last):
        network(feature.contiguous(memory_format=layout), (90, 125))
        assert all(half.is_contiguous(memory_format=layout) for half in seen.values())


def test_a_batch_is_its_images(tiny_model: HPVODModel) -> None:
    network = copy.deepcopy(tiny_model.detection).double()
    features = random_feature(batch=3).double()
    with torch.no_grad():
        together = network(features, (90, 125))
        alone = [network(f[None], (90, 125)).of_image(0) for f in features]
    assert [len(each) for each in together] == [3] * 4
    for n, b in enumerate(alone):
        a = together.of_image(n)
        assert torch.equal(a.labels, b.labels)
        torch.testing.assert_close(a.boxes, b.boxes, rtol=0, atol=1e-4)
        torch.testing.assert_close(a.scores, b.scores, rtol=1e-6, atol=0)


def test_detections_are_sorted_capped_and_in_the_image(tiny_model: HPVODModel) -> None:
    found = tiny_model.detection(random_feature(), (90, 125)).of_image(0)
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert found.labels.dtype == torch.int64
    assert (found.scores.diff() <= 0).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 2] <= 124).all() and (found.boxes[:, 3] <= 89).all()
    assert found.labels.min() >= 0 and found.labels.max() < 30


def test_the_size_is_fixed(tiny_model: HPVODModel) -> None:
    found = tiny_model.detection(random_feature(batch=2), (90, 125))
    most = tiny_model.config.max_detections
    assert [tuple(each.shape) for each in found] == [(2, most, 4), (2, most), (2, most), (2,)]
    assert found.counts.dtype == torch.int32


def test_rows_behind_the_counts_are_zero_and_never_detections(tiny_model: HPVODModel) -> None:
    network = copy.deepcopy(tiny_model.detection)
    # No score is 0: so every class of every proposal is a detection.
    network.score_threshold, network.nms, network.max_detections = 0.0, 1.0, 9000
    network.rpn.nms = 0.5  # leaves fewer proposals than there is room for
    features = random_feature(batch=2)
    with torch.no_grad():
        proposals = network.rpn.propose(network.rpn(features[:, :64]), (6, 8), (90, 125))
        found = network(features, (90, 125))
    assert (proposals.counts < proposals.boxes.shape[1]).all()
    assert found.counts.tolist() == (30 * proposals.counts).tolist()
    for n, count in enumerate(found.counts.tolist()):
        assert (found.scores[n, :count] > 0).all()
        assert not any(each[n, count:].any() for each in found[:3])


def test_gradients_reach_the_features(tiny_model: HPVODModel) -> None:
    feature = random_feature().requires_grad_()
    found = tiny_model.detection(feature, (90, 125))
    (gradient,) = torch.autograd.grad(found.scores.sum() + found.boxes.sum(), feature)
    assert gradient[:, 64:].any()


def test_nothing_above_the_threshold() -> None:
    config = ModelConfig(**{**vars(ModelConfig.preset("tiny")), "score_threshold": 0.999})
    every = build_model(config).detection(random_feature(2), (90, 125))
    assert every.counts.tolist() == [0, 0]
    assert not any(each.any() for each in every)
    found = every.of_image(1)
    assert (found.boxes.shape, found.scores.shape, found.labels.shape) == ((0, 4), (0,), (0,))


def test_image_size_that_does_not_fit_is_refused(tiny_model: HPVODModel) -> None:
    with pytest.raises(ValueError, match=r"image_size \(90, 140\).*\(6, 8\)"):
        tiny_model.detection(random_feature(), (90, 140))


def test_bfloat16_gives_float32_boxes(tiny_model: HPVODModel) -> None:
    network = copy.deepcopy(tiny_model.detection).bfloat16()
    found = network(random_feature().bfloat16(), (90, 125))
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert found.boxes.isfinite().all()
