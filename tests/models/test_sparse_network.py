from __future__ import annotations

import random

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hpvod.networks.flow import FlowOutput
from hpvod.packed_network import PackedNetwork
from hpvod.partial_update import PartialUpdate
from hpvod.sparse_network import SparseNetwork
from hpvod_ops import update_plan, use_backend

from .dense_partial_update import dense_update
from .sparse_setup import (
    CONFIGS,
    H,
    W,
    drawn_images,
    kept_maps,
    key_frame,
    masks,
    other_frame,
    scratch_maps,
    some_model,
    some_motion,
    sparse_network,
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
    network = sparse_network(model)
    key_image, *images = drawn_images(31, dtype)
    dense_key = dense_update(model, key_image)
    for map_ in scratch_maps(network) + kept_maps(network):
        map_.fill_(torch.nan)
    assert_results(key_frame(network, key_image), dense_key, TOLERANCE[dtype])
    kept = cloned(kept_maps(network))
    channels = CONFIGS[name].feature_channels
    for i, (image, mask) in enumerate(zip(images, masks(), strict=True)):
        motion = some_motion(channels if i % 2 else None, dtype, seed=i)
        for map_ in scratch_maps(network):
            map_.fill_(torch.nan)  # what a frame reads of these it writes itself
        found = other_frame(network, image, motion, mask)
        expected = dense_update(model, image, dense_key, motion, mask)
        assert_results(found, expected, TOLERANCE[dtype])
    assert same(kept_maps(network), kept)


@pytest.mark.parametrize("name", CONFIGS)
def test_keeps_the_layers_that_updates_are_named_for(name):
    model = some_model(name, torch.float64)
    network = sparse_network(model)
    (image,) = drawn_images(1, torch.float64)
    key_frame(network, image)
    expected = list(dense_update(model, image).values())
    kept = kept_maps(network)
    assert len(kept) == len(expected)
    for map_ in kept:
        close = [
            map_.shape == truth.shape and torch.allclose(map_, truth, rtol=1e-10, atol=1e-10)
            for truth in expected
        ]
        assert sum(close) == 1


def test_only_the_halos_that_a_network_reads_are_listed():
    def kinds(name, **options):
        network = sparse_network(some_model(name), **options)
        assert network.plan.sets == network.key_plan.sets
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
    network = sparse_network(some_model())
    first, second = drawn_images(2)
    key_frame(network, first)
    found = cloned(other_frame(network, second, some_motion(), EVERYWHERE))
    assert same(key_frame(network, second), found)


def test_a_batch_is_as_many_frames():
    model = some_model(dtype=torch.float64)
    batch, one = sparse_network(model, batch=3), sparse_network(model)
    images = drawn_images(6, torch.float64)
    motions = [some_motion(128, torch.float64, seed=i) for i in range(3)]
    motion = FlowOutput(*(torch.cat(parts) for parts in zip(*motions, strict=True)))
    u = [masks()[index] for index in (0, 2, 25)]
    keys = key_frame(batch, torch.cat(images[:3]))
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
    network = sparse_network(low)
    key_image, image = drawn_images(2)
    motion, mask = some_motion(128), masks()[25]
    key_frame(network, key_image.to(dtype))
    low_motion = FlowOutput(motion.flow, motion.quality, motion.scale.to(dtype))
    found = other_frame(network, image.to(dtype), low_motion, mask)
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
    networks = [sparse_network(m) for m in (model, folded)]
    for network in networks:
        key_frame(network, key_image)
    expected, found = (other_frame(network, image, motion, mask) for network in networks)
    for map_, truth in zip(found, expected, strict=True):
        torch.testing.assert_close(map_, truth, rtol=1e-5, atol=1e-5)


def test_a_model_in_training_is_packed_without_gradients():
    model = some_model().train()
    assert all(parameter.requires_grad for parameter in model.parameters())
    network = sparse_network(model)
    (image,) = drawn_images(1)
    assert not any(map_.requires_grad for map_ in key_frame(network, image))


def test_without_embedding():
    model = some_model()
    network, whole = sparse_network(model, embed=False), sparse_network(model)
    key_image, image = drawn_images(2)
    motion, mask = some_motion(128), masks()[25]
    key_frame(whole, key_image)
    expected, _ = other_frame(whole, image, motion, mask)
    with torch.no_grad():
        PartialUpdate(network, network.key_plan, None).feature(key_image)
        plan = update_plan(0.5 - mask.float(), 0.0, 1.0, out=network.plan)
        assert torch.equal(PartialUpdate(network, plan, motion).feature(image), expected)


def test_image_of_another_size():
    network = sparse_network(some_model())
    message = r"image must be \[1, 3, 75, 109\], not \[1, 3, 75, 110\]"
    with pytest.raises(ValueError, match=message):
        network.feature(torch.zeros(1, 3, 75, 110), network.key_plan, None)


def test_sizes_share_packed_weights():
    model = some_model()
    packed = PackedNetwork.of(model, embed=True)
    for height, width in ((75, 109), (48, 33), (33, 64)):
        network = SparseNetwork(packed, 1, height, width)
        image = torch.randn(1, 3, height, width)
        found = key_frame(network, image)
        assert_results(found, dense_update(model, image), TOLERANCE[torch.float32])


def test_a_key_frame_s_results_outlive_the_next_key_frame():
    network = sparse_network(some_model())
    images = drawn_images(8)
    motion, mask = some_motion(), masks()[25]
    first = key_frame(network, images[0])
    first_values = cloned(first)
    for image in images[1:4]:
        other_frame(network, image, motion, mask)
        assert same(first, first_values)
    second = key_frame(network, images[4])
    second_values = cloned(second)
    assert same(first, first_values)
    assert not same(first, second)
    third = key_frame(network, images[5])  # straight after it
    third_values = cloned(third)
    assert same(second, second_values)
    for image in images[6:]:
        other_frame(network, image, motion, mask)
        assert same(third, third_values)


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
        network = sparse_network(some_model())
        key_image, *images = drawn_images(3)
        motion = some_motion(128)
        motion = motion._replace(scale=motion.scale.to(memory_format=torch.channels_last))
        with torch.inference_mode(), Dispatched() as dispatched:
            for image, flow in ((key_image, None), *((image, motion) for image in images)):
                plan = network.key_plan if flow is None else network.plan
                if flow is not None:
                    update_plan(flow.flow[:, :1], 0.0, 1.0, out=plan)
                feature = network.feature(image, plan, flow)
                network.embedding(feature, plan, flow)
    # All write in place; none of them returns a tensor.
    allowed = {
        *("hpvod::update_plan", "hpvod::masked_conv2d_"),
        *("hpvod::masked_max_pool2d_", "hpvod::warp_pixels_"),
    }
    assert dispatched.names - {"aten::slice.Tensor"} == allowed


def test_soak():
    model = some_model("deeper 3x3")
    network = sparse_network(model)
    images, motions, u = drawn_images(20), [some_motion(128, seed=i) for i in range(7)], masks()
    choices = random.Random(0)
    before = 0
    for i in range(300):
        if i == 20:
            before = tensor_bytes()
        image = choices.choice(images)
        if i == 0 or choices.random() < 0.2:
            key_image = image
            key_frame(network, key_image)
            continue
        motion, mask = choices.choice(motions), choices.choice(u)
        found = other_frame(network, image, motion, mask)
        if i % 5 == 0:  # it depends on nothing but the last key frame
            fresh = sparse_network(model)
            key_frame(fresh, key_image)
            assert same(found, other_frame(fresh, image, motion, mask)), i
            del fresh
    assert tensor_bytes() == before > 0
