"""Line 18 of Algorithm 1 in its three cases."""

from __future__ import annotations

import torch

from hpvod.partial_update import FullUpdate, Propagation

from .sparse_setup import (
    HEIGHT,
    WIDTH,
    H,
    W,
    drawn_images,
    key_frame,
    other_frame,
    results,
    some_model,
    some_motion,
    sparse_network,
)


def assert_close(found, expected):
    # float64: sums in another order.
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_a_full_update_is_the_network():
    model = some_model(dtype=torch.float64)
    (image,) = drawn_images(1, torch.float64)
    feature, embedding = results(FullUpdate(model), image)
    assert torch.equal(feature, model.features(image))
    assert torch.equal(embedding, model.embedding(feature))


def test_a_partial_update_of_a_key_frame_is_a_full_update():
    model = some_model(dtype=torch.float64)
    (image,) = drawn_images(1, torch.float64)
    found = key_frame(sparse_network(model), image)
    with torch.no_grad():
        assert_close(found, results(FullUpdate(model), image))


def test_a_partial_update_where_u_is_0_is_propagation():
    model = some_model(dtype=torch.float64)
    network = sparse_network(model)
    key_image, image = drawn_images(2, torch.float64)
    feature, embedding = key_frame(network, key_image)
    motion = some_motion(model.config.feature_channels, torch.float64)
    nowhere = torch.zeros(1, 1, H, W, dtype=torch.bool)
    found = other_frame(network, image, motion, nowhere)
    # The scale map belongs to the features alone.
    assert_close(found, results(Propagation(feature, embedding, motion), image))


def test_a_flow_network_may_run_in_any_layout():
    model = some_model()
    network = sparse_network(model)
    key_image, image = drawn_images(2)
    motion = some_motion(model.config.feature_channels)
    channels_last = motion._replace(
        flow=motion.flow.to(memory_format=torch.channels_last),
        scale=motion.scale.to(memory_format=torch.channels_last),
    )
    assert not channels_last.flow.is_contiguous()
    mask = torch.rand(1, 1, H, W) < 0.5
    key_frame(network, key_image)
    expected = [map_.clone() for map_ in other_frame(network, image, motion, mask)]
    found = other_frame(network, image, channels_last, mask)
    assert all(map(torch.equal, found, expected))


def test_an_image_may_be_in_any_layout():
    network = sparse_network(some_model())
    (image,) = drawn_images(1)
    assert image.shape == (1, 3, HEIGHT, WIDTH) and not image.is_contiguous()
    expected = [map_.clone() for map_ in key_frame(network, image)]
    assert all(map(torch.equal, key_frame(network, image.contiguous()), expected))


def test_results_are_channels_last():
    network = sparse_network(some_model())
    for map_ in key_frame(network, *drawn_images(1)):
        assert map_.is_contiguous(memory_format=torch.channels_last)
