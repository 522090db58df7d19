from __future__ import annotations

import random

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hpvod.networks.flow import FlowOutput
from hpvod.packed_network import PackedNetwork
from hpvod.sparse_network import SparseNetwork
from hpvod_ops import update_plan, use_backend, warp

from .dense_partial_update import dense_update
from .sparse_setup import (
    CONFIGS,
    HEIGHT,
    WIDTH,
    Follower,
    H,
    W,
    drawn_images,
    kept_maps,
    key_frame,
    layers,
    masks,
    other_frame,
    scratch_maps,
    some_model,
    some_motion,
    tensor_bytes,
)

# Of the largest value: rounding through some fifty layers.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}
EVERYWHERE = torch.ones(1, 1, H, W, dtype=torch.bool)


def assert_results(found, expected, tolerance):
    for name, map_ in zip(("feat_conv", "embed"), found, strict=True):
        truth = expected[name]
        assert map_.shape == truth.shape
        error = (map_.double() - truth.double()).abs().max()
        assert error <= tolerance * truth.abs().max(), name  # false for NaN as well


def same(maps, others):
    return all(map(torch.equal, maps, others))


def cloned(maps):
    return [map_.clone() for map_ in maps]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CONFIGS)
def test_equals_the_dense_definition(name, dtype):
    model = some_model(name, dtype)
    follower = Follower(model)
    key_image, *images = drawn_images(31, dtype)
    dense_key = dense_update(model, key_image)
    for map_ in scratch_maps(follower) + kept_maps(follower):
        map_.fill_(torch.nan)
    assert_results(key_frame(follower, key_image), dense_key, TOLERANCE[dtype])
    kept = cloned(kept_maps(follower))
    channels = CONFIGS[name].feature_channels
    for i, (image, mask) in enumerate(zip(images, masks(), strict=True)):
        motion = some_motion(channels if i % 2 else None, dtype, seed=i)
        for map_ in scratch_maps(follower):
            map_.fill_(torch.nan)  # what a frame reads of these it writes itself
        found = other_frame(follower, image, motion, mask)
        expected = dense_update(model, image, dense_key, motion, mask)
        assert_results(found, expected, TOLERANCE[dtype])
    assert same(kept_maps(follower), kept)


@pytest.mark.parametrize("name", CONFIGS)
def test_keeps_the_layers_that_updates_are_named_for(name):
    model = some_model(name, torch.float64)
    follower = Follower(model)
    (image,) = drawn_images(1, torch.float64)
    key_frame(follower, image)
    expected = list(dense_update(model, image).values())
    kept = kept_maps(follower)
    assert len(kept) == len(expected)
    for map_ in kept:
        close = [
            map_.shape == truth.shape and torch.allclose(map_, truth, rtol=1e-10, atol=1e-10)
            for truth in expected
        ]
        assert sum(close) == 1


def test_only_the_halos_that_a_network_reads_are_listed():
    def kinds(name, **options):
        network = Follower(some_model(name), **options).network
        return sorted((s.kind, 16 // s.ratio, s.dilation) for s in network.plan.sets)

    expected = [
        *(("active", stride, 1) for stride in (4, 8, 16)),
        *(("halo", stride, dilation) for stride, dilation in ((4, 1), (8, 1), (16, 1))),
        *(("halo", 16, 2), ("halo", 16, 6), ("inactive", 16, 1), ("reached", 2, 1)),
    ]
    for name in CONFIGS:
        assert kinds(name) == expected
    # With one block a stage that strides in its 3x3, only the embedding reads that halo.
    assert kinds("tiny", embed=False) == expected


def test_u_of_1_on_another_frame_is_a_key_frame():
    follower = Follower(some_model())
    first, second = drawn_images(2)
    key_frame(follower, first)
    found = cloned(other_frame(follower, second, some_motion(), EVERYWHERE))
    assert same(key_frame(follower, second), found)


def test_a_batch_is_as_many_frames():
    model = some_model(dtype=torch.float64)
    batch, one = Follower(model, batch=3), Follower(model)
    images = drawn_images(6, torch.float64)
    motions = [some_motion(128, torch.float64, seed=i) for i in range(3)]
    motion = FlowOutput(*(torch.cat(parts) for parts in zip(*motions, strict=True)))
    u = [masks()[index] for index in (0, 2, 25)]
    keys = cloned(key_frame(batch, torch.cat(images[:3])))
    others = other_frame(batch, torch.cat(images[3:]), motion, torch.cat(u))
    for i in range(3):
        for found, expected in zip(keys, key_frame(one, images[i]), strict=True):
            torch.testing.assert_close(found[i], expected[0], rtol=1e-12, atol=1e-12)
        result = other_frame(one, images[3 + i], motions[i], u[i])
        for found, expected in zip(others, result, strict=True):
            torch.testing.assert_close(found[i], expected[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision(dtype):
    exact, low = some_model(), some_model(dtype=dtype)
    follower = Follower(low)
    key_image, image = drawn_images(2)
    motion, mask = some_motion(128), masks()[25]
    key_frame(follower, key_image.to(dtype))
    low_motion = FlowOutput(motion.flow, motion.quality, motion.scale.to(dtype))
    found = other_frame(follower, image.to(dtype), low_motion, mask)
    expected = dense_update(exact, image, dense_update(exact, key_image), motion, mask)
    for map_, name in zip(found, ("feat_conv", "embed"), strict=True):
        assert map_.dtype == dtype
        error = (map_.float() - expected[name]).norm() / expected[name].norm()
        # Some fifteen layers, each with half a unit in the last place of its inputs and weights.
        assert error < 10 * torch.finfo(dtype).eps


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_folded_model(channels_last):
    model, folded = some_model(), some_model(folded=True)
    if channels_last:
        folded = folded.to(memory_format=torch.channels_last)
    key_image, image = drawn_images(2)
    motion, mask = some_motion(), masks()[25]
    followers = [Follower(m) for m in (model, folded)]
    for follower in followers:
        key_frame(follower, key_image)
    expected, found = (other_frame(each, image, motion, mask) for each in followers)
    for map_, truth in zip(found, expected, strict=True):
        torch.testing.assert_close(map_, truth, rtol=1e-5, atol=1e-5)


def test_a_model_in_training_is_packed_without_gradients():
    model = some_model().train()
    assert all(parameter.requires_grad for parameter in model.parameters())
    follower = Follower(model)
    (image,) = drawn_images(1)
    assert not any(map_.requires_grad for map_ in key_frame(follower, image))


def test_without_embedding():
    model = some_model()
    follower, whole = Follower(model, embed=False), Follower(model)
    key_image, image = drawn_images(2)
    motion, mask = some_motion(128), masks()[25]
    key_frame(whole, key_image)
    expected, _ = other_frame(whole, image, motion, mask)
    key_frame(follower, key_image)
    found, none = other_frame(follower, image, motion, mask)
    assert torch.equal(found, expected) and none is None


def test_without_parts_no_layer_is_kept():
    """U is 1 everywhere, or nowhere: propagation (Section 3.1), with the scale map on F alone."""
    model = some_model(dtype=torch.float64)
    packed = PackedNetwork.of(model, embed=True)
    network = SparseNetwork(packed, 1, HEIGHT, WIDTH, partial=False)
    assert all(layer.of_key is None for layer in layers(network))
    assert not any(each.kind == "halo" for each in network.plan.sets)
    follower = Follower(model)
    follower.network = network
    key_image, image = drawn_images(2, torch.float64)
    motion = some_motion(128, torch.float64)
    feature, embedding = cloned(key_frame(follower, key_image))
    with torch.no_grad():
        expected = model.features(key_image)
        torch.testing.assert_close(feature, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(embedding, model.embedding(expected), rtol=1e-12, atol=1e-12)
    found = other_frame(follower, image, motion, ~EVERYWHERE)
    truth = warp(feature, motion.flow, motion.scale), warp(embedding, motion.flow)
    torch.testing.assert_close(found, truth, rtol=1e-12, atol=1e-12)


def test_a_key_frame_in_a_batch_concerns_no_other_stream():
    model = some_model()
    both, alone = Follower(model, batch=2), Follower(model)
    images = drawn_images(9)
    pairs = [torch.cat((images[i], images[i + 3])) for i in range(6)]
    key_frame(both, pairs[0])
    key_frame(alone, images[0])
    motion, mask = some_motion(128), masks()[25]
    twice = FlowOutput(*(torch.cat((part, part)) for part in motion))
    u = torch.cat((mask, EVERYWHERE))
    for step in range(1, 6):
        key = torch.tensor([False, step in (2, 5)])  # of the second stream alone
        found = both.follow(pairs[step], twice, u, key)
        expected = other_frame(alone, images[step], motion, mask)
        assert all(torch.equal(a[:1], b) for a, b in zip(found, expected, strict=True))
        if key[1]:  # what is kept is of the last key frame
            kept = [map_[1:] for map_ in kept_maps(both)]
            fresh = Follower(model)
            key_frame(fresh, images[step + 3])
            assert same(kept, kept_maps(fresh))
    assert same([map_[:1] for map_ in kept_maps(both)], kept_maps(alone))


def test_embeds_key_frames_alone():
    model = some_model(dtype=torch.float64)
    follower = Follower(model, batch=3)
    images = torch.cat(drawn_images(3, torch.float64))
    key_frame(follower, images)
    none = torch.zeros(3, 1, H, W, dtype=torch.bool)
    key = torch.tensor([True, False, True])
    follower.follow(images, FlowOutput(torch.zeros(3, 2, H, W).double(), none, None), none, key)
    feature = torch.randn(3, 128, H, W, dtype=torch.float64)
    feature = feature.to(memory_format=torch.channels_last)
    out = torch.full_like(follower.keys.embedding, torch.nan)
    follower.network.embed_keys_(out, feature)
    with torch.no_grad():
        expected = model.embedding(feature[key])
    torch.testing.assert_close(out[key], expected, rtol=1e-12, atol=1e-12)
    assert out[1].isnan().all()


@pytest.mark.parametrize("channels_last", [False, True])
def test_an_image_may_be_in_any_layout(channels_last):
    follower = Follower(some_model())
    (image,) = drawn_images(1)
    expected = cloned(key_frame(follower, image))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    found = key_frame(follower, image.contiguous(memory_format=layout))
    assert same(found, expected)
    assert all(map_.is_contiguous(memory_format=torch.channels_last) for map_ in found)


def test_image_of_another_size():
    network = Follower(some_model()).network
    message = r"image must be \[1, 3, 75, 109\], not \[1, 3, 75, 110\]"
    with pytest.raises(ValueError, match=message):
        network.feature(torch.zeros(1, 3, 75, 110), None)


def test_sizes_share_packed_weights():
    model = some_model()
    packed = PackedNetwork.of(model, embed=True)
    for height, width in ((75, 109), (48, 33), (33, 64)):
        follower = Follower(model, height=height, width=width, packed=packed)
        image = torch.randn(1, 3, height, width)
        found = key_frame(follower, image)
        assert_results(found, dense_update(model, image), TOLERANCE[torch.float32])


class Dispatched(TorchDispatchMode):
    """The names of all ops that run."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


def test_a_frame_allocates_and_copies_nothing():
    with use_backend("cpu"):
        follower = Follower(some_model())
        key_image, *images = drawn_images(3)
        motion = some_motion(128)
        motion = motion._replace(scale=motion.scale.to(memory_format=torch.channels_last))
        key_frame(follower, key_image)
        network, keys = follower.network, follower.keys
        with torch.inference_mode(), Dispatched() as dispatched:
            for image in images:
                update_plan(motion.flow[:, :1], 0.0, 1.0, out=network.plan)
                feature = network.feature(image, motion.flow)
                network.embedding(feature, motion.flow)
                network.propagate_(feature, keys.feature, motion.flow, motion.scale)
    # All write in place; none of them returns a tensor.
    allowed = {
        *("hpvod::update_plan", "hpvod::masked_conv2d_"),
        *("hpvod::masked_max_pool2d_", "hpvod::warp_pixels_"),
    }
    ours = {name for name in dispatched.names if name.startswith("hpvod::")}
    assert ours == allowed
    # The views of one step, and the list of what is a key frame.
    assert dispatched.names - ours <= {
        *("aten::slice.Tensor", "aten::select.int", "aten::unbind.int"),
        *("aten::_local_scalar_dense", "aten::resolve_conj", "aten::resolve_neg"),
    }


def test_soak():
    model = some_model("deeper 3x3")
    follower = Follower(model)
    images, motions, u = drawn_images(20), [some_motion(128, seed=i) for i in range(7)], masks()
    choices = random.Random(0)
    before = 0
    for i in range(300):
        if i == 20:
            before = tensor_bytes()
        image = choices.choice(images)
        if i == 0 or choices.random() < 0.2:
            key_image = image
            key_frame(follower, key_image)
            continue
        motion, mask = choices.choice(motions), choices.choice(u)
        found = other_frame(follower, image, motion, mask)
        if i % 5 == 0:  # it depends on nothing but the last key frame
            fresh = Follower(model)
            key_frame(fresh, key_image)
            assert same(found, other_frame(fresh, image, motion, mask)), i
            del fresh
    assert tensor_bytes() == before > 0
