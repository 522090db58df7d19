from __future__ import annotations

import dataclasses
import random
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from hpvod.detector import VideoDetector
from hpvod.folding import fold_batch_norm
from hpvod.method import PRESETS, Method
from hpvod.model import build_model
from hpvod.packed_flow import PackedFlow
from hpvod.preprocess import Preprocess
from hpvod.sparse_network import SparseNetwork

from .features_read import features_read
from .moving import CONFIG, SIZES, moving_frames, unchanged
from .sparse_setup import layers, tensor_bytes

SIZE = SIZES[1]


@pytest.fixture
def model():
    return build_model(CONFIG, seed=1)


def constant_quality(value):
    return lambda image_k, image_i, flow: torch.full_like(flow.quality, value)


def detect(model, method, frames, consistency=None):
    return list(VideoDetector(model, method, consistency=consistency).run(frames))


def assert_same(results, others):
    """To the last bit."""
    assert len(results) == len(others)
    for a, b in zip(results, others, strict=True):
        assert (a.index, a.time, a.is_key, a.updated) == (b.index, b.time, b.is_key, b.updated)
        assert_same_detections(a, b)


def assert_same_detections(a, b):
    assert len(a.boxes) > 10
    for name in ("boxes", "labels", "scores"):
        assert torch.equal(getattr(a, name), getattr(b, name))


def assert_close(results, others):
    """Up to sums in another order, for a model in float64: no rounding can swap detections."""
    assert len(results) == len(others)
    for a, b in zip(results, others, strict=True):
        assert (a.index, a.time, a.is_key, a.updated) == (b.index, b.time, b.is_key, b.updated)
        assert_close_detections(a, b)


def assert_close_detections(a, b):
    assert len(a.boxes) == len(b.boxes) > 10
    # Two units in the last place of a float32: of a score, of a coordinate near 128.
    torch.testing.assert_close(a.scores, b.scores, rtol=2.4e-7, atol=0)
    torch.testing.assert_close(a.boxes, b.boxes, rtol=0, atol=3.1e-5)
    assert torch.equal(a.labels, b.labels)


@contextmanager
def calls(model, monkeypatch):
    """Counts images, by network, that go through a model's own modules or packed ones.

    Of those that are computed in part, the part is counted.
    """
    counts = Counter()
    # A replay calls no network.
    monkeypatch.setattr("hpvod.key_frame_loop.replayed", lambda function, network: function)

    def counted(name, method, count):
        def call(network, *arguments):
            counts[name] += count(network, *arguments)
            return method(network, *arguments)

        return call

    def updated(network, *arguments):
        return network.plan.mask.double().mean().item()

    def keys(network, *arguments):
        return network.plan.is_key.sum().item()

    for name, network, method, count in (
        ("features", SparseNetwork, "feature", updated),
        ("embedding", SparseNetwork, "embedding", updated),
        ("embedding", SparseNetwork, "embed_keys_", keys),
        ("flow", PackedFlow, "__call__", lambda network, current, key: len(current)),
        ("detection", VideoDetector, "_detect", lambda detector, network, feature: len(feature)),
    ):
        monkeypatch.setattr(network, method, counted(name, getattr(network, method), count))
    hooks = [
        network.register_forward_hook(
            lambda module, inputs, output, name=name: counts.update({name: len(inputs[0])})
        )
        for name, network in model.named_children()
        if name != "detection"
    ]
    yield counts
    for hook in hooks:
        hook.remove()


def test_the_baseline_is_the_network_on_every_frame(model):
    frames = moving_frames(3, *SIZE)
    results = detect(model, PRESETS["per_frame"], frames)
    preprocess = Preprocess(CONFIG)
    for frame, result in zip(frames, results, strict=True):
        with torch.inference_mode():
            image = preprocess(frame, torch.device("cpu"), torch.float32)
            expected = model.detection(model.features(image), (80, 116)).of_image(0)
        assert result.is_key
        assert result.updated == 1
        ratio = torch.tensor([109 / 116, 75 / 80, 109 / 116, 75 / 80])
        # To frame pixels with one rounding more or less.
        torch.testing.assert_close(result.boxes, expected.boxes * ratio, rtol=2e-7, atol=0)
        assert torch.equal(result.scores, expected.scores)
        assert torch.equal(result.labels, expected.labels)


def test_the_baseline_is_propagation_with_interval_1(model):
    frames = moving_frames(4, *SIZE)
    every_frame = dataclasses.replace(PRESETS["dff"], interval=1)
    assert_same(detect(model, every_frame, frames), detect(model, PRESETS["per_frame"], frames))


def test_partial_update_limits_without_aggregation(model):
    """Eq. 10: U = 0 is sparse feature propagation, U = 1 the per-frame baseline."""
    model = model.double()
    frames = moving_frames(6, *SIZE)
    method = Method("mine", "every", do_aggr=False, do_spatial=True, interval=4)
    dff = dataclasses.replace(PRESETS["dff"], interval=4)
    assert_close(
        detect(model, method, frames, constant_quality(float("inf"))), detect(model, dff, frames)
    )
    recomputed = detect(model, method, frames, constant_quality(-float("inf")))
    for a, b in zip(recomputed, detect(model, PRESETS["per_frame"], frames), strict=True):
        assert a.updated == 1
        assert_close_detections(a, b)


def test_partial_update_limits_of_c2(model):
    """Eq. 10: U = 0 is c1; U = 1 on one non-key frame is a key frame there."""
    model = model.double()
    frames = moving_frames(6, *SIZE)
    c1, c2 = (dataclasses.replace(PRESETS[name], interval=4) for name in ("c1", "c2"))
    assert_close(
        detect(model, c2, frames, constant_quality(float("inf"))), detect(model, c1, frames)
    )
    every_frame = dataclasses.replace(PRESETS["c1"], interval=1)
    recomputed = detect(model, c2, frames[:2], constant_quality(-float("inf")))
    assert not recomputed[1].is_key
    assert_close_detections(recomputed[1], detect(model, every_frame, frames[:2])[1])


def test_q_equal_to_tau_is_updated_and_a_share_equal_to_gamma_is_no_key_frame(model):
    def a_fifth(image_k, image_i, flow):
        quality = torch.full_like(flow.quality, 2.0)
        assert quality.numel() == 40
        quality.flatten()[:8] = 1.5
        return quality

    method = dataclasses.replace(PRESETS["c3"], tau=1.5, gamma=0.2)
    results = detect(model, method, moving_frames(2, *SIZE), a_fifth)
    assert results[1].updated == 0.2
    assert not results[1].is_key
    # 0.2 as a float32 is more than 0.2.
    assert torch.tensor(0.2).item() > 0.2


@pytest.mark.parametrize(
    ("name", "features", "embedding", "flow"),
    [
        ("per_frame", 12, 0, 0),
        ("dff", 2, 0, 10),
        # Every frame once; 2 neighbours each, but at the stream's ends.
        ("fgfa", 12, 12, 2 * 12 - 2),
        # E(F) and E(F̄) of both key frames.
        ("c1", 2, 4, 11),
        # And six of 40 positions of the ten others.
        ("c2", 3.5, 5.5, 11),
    ],
)
def test_networks_run_only_where_they_are_read(model, monkeypatch, name, features, embedding, flow):
    method = PRESETS[name]
    if method.window:
        method = dataclasses.replace(method, window=1)
    with calls(model, monkeypatch) as counts:
        detect(model, method, moving_frames(12, *SIZE), a_corner)
    assert counts["features"] == pytest.approx(features)
    assert counts["embedding"] == pytest.approx(embedding)
    assert counts["flow"] == flow
    assert counts["detection"] == 12


def test_dense_aggregation_looks_ahead(model):
    frames = moving_frames(5, *SIZE)
    detector = VideoDetector(model, dataclasses.replace(PRESETS["fgfa"], window=2))
    stepped = [detector.step(frame, time=0.04 * i) for i, frame in enumerate(frames)]
    assert stepped[:2] == [None, None]
    results = [*stepped[2:], *detector.finish()]
    assert [(r.index, r.time) for r in results] == [(i, 0.04 * i) for i in range(5)]
    assert detector.finish() == []


@pytest.mark.parametrize("name", ["per_frame", "fgfa", "c3"])
def test_run_is_step_and_finish(model, name):
    method = PRESETS[name]
    frames = moving_frames(7, *SIZE, cuts=(3,))
    times = [i / 25 for i in range(7)]
    detector = VideoDetector(model, method, consistency=unchanged(25))
    run = list(detector.run(zip(frames, times, strict=True)))
    stepped = [detector.step(frame, time) for frame, time in zip(frames, times, strict=True)]
    assert_same([r for r in stepped if r is not None] + detector.finish(), run)
    assert [r.time for r in run] == times
    assert [r.time for r in detector.run(frames)] == [None] * 7


@pytest.mark.parametrize("name", ["fgfa", "c3"])
def test_reset_gives_the_same_results_again(model, name):
    method = PRESETS[name]
    frames = moving_frames(12, *SIZE, cuts=(3,))
    detector = VideoDetector(model, method, consistency=unchanged(25))
    first = list(detector.run(frames))
    for frame in reversed(frames):
        detector.step(frame)
    detector.reset()
    stepped = [detector.step(frame) for frame in frames]
    assert_same([r for r in stepped if r is not None] + detector.finish(), first)


@pytest.mark.parametrize("name", ["c3", "per_frame", "fgfa"])
def test_inference_mode_may_change_from_frame_to_frame(model, name):
    frames = moving_frames(4, *SIZE)
    expected = detect(model, PRESETS[name], frames)
    detector = VideoDetector(model, PRESETS[name])
    results = []
    for i, frame in enumerate(frames):
        with torch.inference_mode(i % 2 == 0):
            results.append(detector.step(frame))
    assert_same([r for r in results if r is not None] + detector.finish(), expected)


@pytest.mark.parametrize("name", ["c3", "per_frame"])
def test_a_model_may_change_before_the_first_frame(model, name):
    frames = moving_frames(2, *SIZE)
    detector = VideoDetector(model, PRESETS[name])
    model.double()
    assert_same(list(detector.run(frames)), detect(model, PRESETS[name], frames))


def test_a_stream_may_have_no_frames(model):
    assert detect(model, PRESETS["fgfa"], []) == []


def test_frame_size_change(model):
    detector = VideoDetector(model, PRESETS["c3"])
    frames = moving_frames(3, *SIZE)
    detector.step(frames[0])
    detector.step(frames[1])
    message = r"^frame 2: size changed from 75x109 to 80x112 \(height x width\) in mid-stream"
    with pytest.raises(ValueError, match=message):
        detector.step(moving_frames(1, 80, 112)[0])
    # The stream is as it was, and another one may have another size.
    result = detector.step(frames[2])
    assert result is not None and result.index == 2
    detector.reset()
    assert detector.step(moving_frames(1, 80, 112)[0]) is not None


def test_streams_of_other_sizes(model):
    method = PRESETS["c3"]
    detector = VideoDetector(model, method, consistency=unchanged(25))
    packed = None
    for size in (SIZES[1], SIZES[0], SIZES[1]):
        frames = moving_frames(5, *size, cuts=(3,))
        assert_same(list(detector.run(frames)), detect(model, method, frames, unchanged(25)))
        assert detector._packed is (packed or detector._packed)
        packed = detector._packed
    assert packed is not None


def test_detectors_share_nothing_but_the_model(model):
    methods = [PRESETS["c2"], PRESETS["c3"], PRESETS["c3"]]
    clips = [moving_frames(6, *SIZES[i % 2], cuts=(3,), seed=i) for i in range(3)]
    detectors = [VideoDetector(model, method, consistency=unchanged(25)) for method in methods]
    results = [[], [], []]
    for frames in zip(*clips, strict=True):
        for found, detector, frame in zip(results, detectors, frames, strict=True):
            found.append(detector.step(frame))
    for found, method, frames in zip(results, methods, clips, strict=True):
        assert_same(found, detect(model, method, frames, unchanged(25)))


def test_a_model_in_training_mode(model):
    frames = moving_frames(4, *SIZE)
    expected = detect(model, PRESETS["c3"], frames, unchanged(25))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert_same(detect(model.train(), PRESETS["c3"], frames, unchanged(25)), expected)


def random_quality(seed):
    """A new Q for every frame; one in three makes a key frame by Eq. 9."""
    generator = torch.Generator().manual_seed(seed)

    def consistency(image_k, image_i, flow):
        share = 0.3 * torch.rand(1, generator=generator)
        return torch.rand(flow.quality.shape, generator=generator) - share

    return consistency


def test_soak(model):
    """300 frames: memory does not grow, and nothing is left of an earlier stream."""
    frames = moving_frames(20, *SIZE)
    qualities = [random_quality(1)]
    used = VideoDetector(
        model, PRESETS["c3"], consistency=lambda k, i, flow: qualities[-1](k, i, flow)
    )
    list(used.run(frames))
    qualities.append(random_quality(2))
    fresh = VideoDetector(model, PRESETS["c3"], consistency=random_quality(2))
    choices, sizes, keys = random.Random(0), {}, 0
    for i in range(300):
        frame = choices.choice(frames)
        results = used.step(frame), fresh.step(frame)
        assert_same(results[:1], results[1:])
        keys += results[0].is_key
        del results
        if i in (50, 299):
            sizes[i] = tensor_bytes()
    assert 50 < keys < 200
    assert sizes[299] == sizes[50]


def test_what_is_no_frame(model):
    detector = VideoDetector(model, PRESETS["c3"])
    with pytest.raises(ValueError, match=r"frame: expected uint8 RGB .* got uint8 of shape \[75"):
        detector.step(np.zeros(SIZE, np.uint8))
    result = detector.step(moving_frames(1, *SIZE)[0])
    assert result is not None and result.index == 0


def test_consistency_is_given_the_key_frame_first(model):
    pairs = []

    def remember(image_k, image_i, flow):
        pairs.append((image_k.clone(), image_i.clone()))
        return torch.ones_like(flow.quality)

    frames = moving_frames(3, *SIZE)
    detect(model, PRESETS["c3"], frames, remember)
    images = [Preprocess(CONFIG)(frame, torch.device("cpu"), torch.float32) for frame in frames]
    for i, (image_k, image_i) in enumerate(pairs, start=1):
        assert torch.equal(image_k, images[0])
        assert torch.equal(image_i, images[i])


@pytest.mark.parametrize("name", ["per_frame", "dff", "fgfa", "c1"])
def test_no_layers_are_kept_where_none_is_updated(model, name):
    detector = VideoDetector(model, PRESETS[name])
    for frame in moving_frames(2, *SIZE):
        detector.step(frame)
    assert (detector._loop is None) == PRESETS[name].keys_only
    if detector._loop is not None:
        assert all(layer.of_key is None for layer in layers(detector._loop._network))


def test_consistency_of_the_wrong_shape(model):
    detector = VideoDetector(
        model, PRESETS["c3"], consistency=lambda k, i, flow: flow.quality[..., 1:]
    )
    frames = moving_frames(2, *SIZE)
    detector.step(frames[0])
    message = r"consistency: expected Q of shape \[1, 1, 5, 8\], got \[1, 1, 5, 7\]"
    with pytest.raises(ValueError, match=message):
        detector.step(frames[1])


def test_boxes_are_in_pixels_of_the_frame(model):
    for height, width in ((40, 58), (160, 232)):
        (result,) = detect(model, PRESETS["per_frame"], moving_frames(1, height, width))
        x, y = result.boxes[:, 0::2], result.boxes[:, 1::2]
        # Enough random boxes to come near the far sides.
        assert x.min() >= 0 and 0.9 * width < x.max() <= width
        assert y.min() >= 0 and 0.9 * height < y.max() <= height


def test_stages_are_entered_by_name_and_never_nested(model):
    entered, inside = [], []

    @contextmanager
    def stages(name):
        assert not inside
        inside.append(name)
        yield
        inside.pop()
        entered.append(name)

    frames = moving_frames(2, *SIZE)
    list(VideoDetector(model, PRESETS["c2"], stages=stages).run(frames))
    after = ["features", "embedding", "aggregation", "embedding", "features", "detection"]
    assert entered == ["preprocess", "plan", *after, "preprocess", "flow", "plan", *after]
    entered.clear()
    list(VideoDetector(model, PRESETS["dff"], stages=stages).run(frames))
    after = ["features", "features", "detection"]
    assert entered == ["preprocess", "plan", *after, "preprocess", "plan", "flow", *after]
    entered.clear()
    list(VideoDetector(model, PRESETS["per_frame"], stages=stages).run(frames))
    assert entered == 2 * ["preprocess", "features", "detection"]


def given_to_detection(model, method, frames, consistency):
    with features_read() as read:
        detect(model, method, frames, consistency)
    return [feature.double() for feature in read]


def a_corner(image_k, image_i, flow):
    quality = torch.ones_like(flow.quality)
    quality[..., :2, :3] = -1
    return quality


@pytest.mark.parametrize("name", PRESETS)
def test_bfloat16(name):
    frames = moving_frames(4, *SIZE)
    exact = given_to_detection(build_model(CONFIG, seed=1), PRESETS[name], frames, a_corner)
    half = build_model(CONFIG, seed=1).bfloat16()
    low = given_to_detection(half, PRESETS[name], frames, a_corner)
    for a, b in zip(exact, low, strict=True):
        # Some fifteen layers of relative error 2^-9 each, as a share of the map's norm.
        assert (a - b).norm() < 0.04 * a.norm()
    (result,) = detect(half, PRESETS[name], frames[:1])
    assert result.boxes.dtype == result.scores.dtype == torch.float32


def test_a_folded_model_in_channels_last(model):
    frames = moving_frames(4, *SIZE)
    exact = given_to_detection(model, PRESETS["c2"], frames, a_corner)
    folded = fold_batch_norm(model).to(memory_format=torch.channels_last)
    for a, b in zip(
        exact, given_to_detection(folded, PRESETS["c2"], frames, a_corner), strict=True
    ):
        # float32 sums in another order.
        assert (a - b).norm() < 1e-5 * a.norm()


@pytest.mark.gpu
@pytest.mark.parametrize("name", PRESETS)
def test_on_a_gpu(name):
    frames = moving_frames(4, *SIZE)
    exact = given_to_detection(build_model(CONFIG, seed=1), PRESETS[name], frames, a_corner)
    on_gpu = build_model(CONFIG, seed=1).cuda()
    for a, b in zip(
        exact, given_to_detection(on_gpu, PRESETS[name], frames, a_corner), strict=True
    ):
        # Convolutions may run in TF32, with 10 bits of mantissa.
        assert (a - b.cpu()).norm() < 0.02 * a.norm()
    (result,) = detect(on_gpu, PRESETS[name], frames[:1])
    assert result.boxes.device.type == "cpu"
