from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hpvod.config import ModelConfig
from hpvod.model import HPVODModel, build_model
from hpvod.networks.flow import FlowNetwork

from .random_data import random_image
from .test_matching import literal_motion


def literal_flownet(network: FlowNetwork, current: Tensor, key: Tensor) -> Tensor:
    """The last concatenation of the references, pooled: layer by layer, with explicit crops."""
    p = dict(network.named_parameters())

    def linear(x: Tensor, name: str, stride: int, padding: int) -> Tensor:
        return F.conv2d(x, p[f"{name}.weight"], p[f"{name}.bias"], stride, padding)

    def rectified(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.1 * x)

    def conv(x: Tensor, name: str, stride: int, padding: int) -> Tensor:
        return rectified(linear(x, name, stride, padding))

    def deconv(x: Tensor, name: str, like: Tensor) -> Tensor:
        x = F.conv_transpose2d(x, p[f"{name}.weight"], p[f"{name}.bias"], stride=2)
        return x[:, :, 1 : 1 + like.shape[2], 1 : 1 + like.shape[3]]

    def up(x: Tensor, skip: Tensor, name: str) -> Tensor:
        flow = F.conv2d(x, p[f"{name}.flow.weight"], p[f"{name}.flow.bias"], padding=1)
        features = deconv(x, f"{name}.deconv", skip)
        features = torch.where(features > 0, features, 0.1 * features)
        return torch.cat((skip, features, deconv(flow, f"{name}.upsample_flow", skip)), 1)

    matching = network.descriptor is not None
    shrink = 4 if matching else 2
    images = [F.avg_pool2d(image / 255, shrink, ceil_mode=True) for image in (current, key)]
    if matching:
        second = [conv(conv(x, "encoder.conv1", 2, 3), "encoder.conv2", 2, 2) for x in images]
        described = [linear(x, "descriptor", 1, 1) for x in second]
        motion = literal_motion(*described, network.log_sharpness.exp().item())
        c2 = torch.cat((rectified(described[0]), motion), 1)
    else:
        c2 = conv(conv(torch.cat(images, 1), "encoder.conv1", 2, 3), "encoder.conv2", 2, 2)
    c3 = conv(c2, "encoder.conv3", 2, 2)
    c3 = conv(c3, "encoder.conv3_1", 1, 1)
    c4 = conv(conv(c3, "encoder.conv4", 2, 1), "encoder.conv4_1", 1, 1)
    c5 = conv(conv(c4, "encoder.conv5", 2, 1), "encoder.conv5_1", 1, 1)
    c6 = conv(conv(c5, "encoder.conv6", 2, 1), "encoder.conv6_1", 1, 1)
    x = up(c6, c5, "decoder.conv5_1")
    x = up(x, c4, "decoder.conv4_1")
    x = up(x, c3, "decoder.conv3_1")
    x = up(x, c2, "decoder.conv2")
    return x if matching else F.avg_pool2d(x, 2, ceil_mode=True)


@pytest.mark.parametrize("size", [(64, 96), (75, 131), (32, 33), (97, 101)])
@pytest.mark.parametrize("matching", [False, True])
def test_equals_a_literal_transcription(size: tuple[int, int], matching: bool) -> None:
    torch.manual_seed(0)
    network = FlowNetwork(1 / 16, scale_channels=5, matching=matching).double()
    assert network.scale is not None
    current, key = random_image(*size, seed=1).double(), random_image(*size, seed=2).double()
    found = network(current, key)
    pooled = literal_flownet(network, current, key)
    flow = 2.5 * F.conv2d(pooled, network.flow.weight, network.flow.bias, padding=1)
    quality = F.conv2d(pooled, network.quality.weight, network.quality.bias, padding=1)
    scale = F.conv2d(pooled, network.scale.weight, network.scale.bias)
    torch.testing.assert_close(found.flow, flow, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.quality, quality, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.scale, scale, rtol=1e-10, atol=1e-10)


def test_the_key_frame_is_seen_by_its_matches_alone() -> None:
    """With matching, the same two images in other places of one another give another flow."""
    torch.manual_seed(0)
    network = FlowNetwork(1 / 16, scale_channels=None, matching=True).double()
    image = random_image(64, 96).double()
    still, moved = network(image, image), network(image, image.roll(16, 3))
    assert not torch.allclose(still.flow, moved.flow, rtol=0.1)
    skip = network.encoder["conv2"].out_channels
    readers = [network.encoder["conv3"], network.flow, network.quality]
    for reader in readers:
        torch.nn.init.zeros_(reader.weight[:, skip : skip + 3].detach())
    still, moved = network(image, image), network(image, image.roll(16, 3))
    assert torch.equal(still.flow, moved.flow)


def test_channels_are_flownets() -> None:
    with torch.device("meta"):
        network = FlowNetwork(1.0, scale_channels=1024)
    shapes = {name: tuple(value.shape) for name, value in network.named_parameters()}
    assert shapes["encoder.conv1.weight"] == (64, 6, 7, 7)
    assert shapes["encoder.conv2.weight"] == (128, 64, 5, 5)
    assert shapes["encoder.conv6_1.weight"] == (1024, 1024, 3, 3)
    skips = ("conv5_1", "conv4_1", "conv3_1", "conv2")
    inputs = [shapes[f"decoder.{skip}.flow.weight"][1] for skip in skips]
    assert inputs == [1024, 1026, 770, 386]
    assert shapes["flow.weight"] == (2, 194, 3, 3)
    assert shapes["quality.weight"] == (1, 194, 3, 3)
    assert shapes["scale.weight"] == (1024, 194, 1, 1)


@pytest.mark.parametrize("matching", [False, True])
def test_size_is_the_feature_networks(matching: bool) -> None:
    with torch.device("meta"):
        network = FlowNetwork(1 / 64, scale_channels=None, matching=matching)
        sizes = [(h, 32 + 37 * h % 131) for h in range(32, 100)] + [(600, 1000), (562, 1000)]
        for height, width in sizes:
            image = torch.empty(1, 3, height, width)
            output = network(image, image)
            expected = (-(-height // 16), -(-width // 16))
            assert output.flow.shape == (1, 2, *expected)
            assert output.quality.shape == (1, 1, *expected)


def test_flow_is_scaled_to_feature_pixels(tiny_model: HPVODModel) -> None:
    network = copy.deepcopy(tiny_model.flow)
    torch.nn.init.zeros_(network.flow.weight)
    network.flow.bias.data = torch.tensor([1.0, -2.0])
    image = random_image(64, 96)
    flow = network(image, image).flow
    assert torch.equal(flow, torch.tensor([2.5, -5.0])[:, None, None].expand_as(flow))


def test_quality_has_a_head_of_its_own(tiny_model: HPVODModel) -> None:
    network = copy.deepcopy(tiny_model.flow)
    images = random_image(64, 96, seed=1), random_image(64, 96, seed=2)
    before = network(*images)
    torch.nn.init.zeros_(network.quality.weight)
    after = network(*images)
    assert torch.equal(after.flow, before.flow)
    assert before.quality.std() > 0
    assert (after.quality == 0).all()


def test_scale_head_starts_at_one() -> None:
    assert ModelConfig().flow_scale_head is False
    config = ModelConfig(**{**vars(ModelConfig.preset("tiny")), "flow_scale_head": True})
    scale = build_model(config).flow(random_image(64, 96), random_image(64, 96)).scale
    assert scale is not None
    assert torch.equal(scale, torch.ones(1, config.feature_channels, 4, 6))


def test_current_and_key_are_told_apart(tiny_model: HPVODModel) -> None:
    first, second = random_image(64, 96, seed=1), random_image(64, 96, seed=2)
    forth, back = tiny_model.flow(first, second), tiny_model.flow(second, first)
    assert forth.scale is None
    assert not torch.allclose(forth.flow, back.flow, rtol=0.1)


def test_images_of_two_sizes_are_refused(tiny_model: HPVODModel) -> None:
    with pytest.raises(ValueError, match=r"current and key.*64, 96.*64, 80"):
        tiny_model.flow(torch.zeros(1, 3, 64, 96), torch.zeros(1, 3, 64, 80))
