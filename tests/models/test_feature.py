from __future__ import annotations

import copy
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import Bottleneck as TorchvisionBottleneck
from torchvision.models.resnet import ResNet

from hpvod.config import ModelConfig
from hpvod.model import HPVODModel, build_model
from hpvod.networks.feature import Bottleneck, ConvBN, FeatureNetwork

from .layer_updates import Blend, Recorder, poison
from .random_data import random_image, randomise_batch_norm

PLACEMENTS: tuple[Literal["1x1", "3x3"], ...] = ("1x1", "3x3")
UPDATES = [
    *("res2.0.conv1", "res3.0.conv1", "res4.0.conv1", "res4.1.conv1", "res5.0.conv1"),
    *("res5", "feat_conv"),
]


def tiny_features(stride_in: Literal["1x1", "3x3"]) -> FeatureNetwork:
    config = ModelConfig.preset("tiny")
    model = build_model(ModelConfig(**{**vars(config), "stride_in": stride_in}))
    randomise_batch_norm(model.features)
    return model.features


def test_equals_torchvision() -> None:
    torch.manual_seed(0)
    theirs = ResNet(
        TorchvisionBottleneck, [1, 2, 3, 2], replace_stride_with_dilation=[False, False, True]
    )
    # torchvision dilates from the second block on; the paper's references dilate all of res5.
    theirs.layer4[0].conv2.dilation = theirs.layer4[0].conv2.padding = (2, 2)
    theirs = theirs.double().eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.2, 0.8)
            nn.init.normal_(module.bias, 0, 0.1)
    ours = FeatureNetwork((1, 2, 3, 2), 64, 1024, "3x3").double()

    state = {k: v for k, v in ours.state_dict().items() if not k.startswith("feat_conv")}
    source = [
        value
        for name, value in theirs.state_dict().items()
        if not name.startswith("fc") and not name.endswith("num_batches_tracked")
    ]
    for target, value in zip(state.values(), source, strict=True):
        target.copy_(value)

    image = torch.randn(2, 3, 75, 101, dtype=torch.float64)
    recorder = Recorder()
    with torch.no_grad():
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
        expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(x))))
        ours(image, recorder)
    assert expected.std() > 0.1
    # float64: only the order of summation and the frozen normalisation's factoring differ.
    torch.testing.assert_close(recorder.layers["res5"], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("stride_in", PLACEMENTS)
def test_bottleneck_equals_plain_functions(stride_in: Literal["1x1", "3x3"]) -> None:
    torch.manual_seed(0)
    block = Bottleneck("res3.0", 12, 8, 4, 2, 1, stride_in).double()
    randomise_batch_norm(block)
    x = torch.randn(2, 12, 9, 11, dtype=torch.float64)

    def conv_bn(layer: ConvBN, x: Tensor, stride: int, padding: int) -> Tensor:
        x = F.conv2d(x, layer.conv.weight, None, stride, padding)
        bn = layer.bn
        return F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=1e-5)

    assert block.downsample is not None
    first, second = (2, 1) if stride_in == "1x1" else (1, 2)
    out = F.relu(conv_bn(block.conv1, x, first, 0))
    out = F.relu(conv_bn(block.conv2, out, second, 1))
    expected = F.relu(conv_bn(block.conv3, out, 1, 0) + conv_bn(block.downsample, x, 2, 0))
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


def test_the_last_stage_is_dilated_and_the_top_is_a_dilated_3x3() -> None:
    with torch.device("meta"):
        network = FeatureNetwork((3, 4, 23, 3), 64, 1024, "1x1")
    for block in network.res5:
        assert block.conv2.conv.dilation == block.conv2.conv.padding == (2, 2)
        assert block.conv1.conv.stride == (1, 1)
    top = network.feat_conv
    assert (top.in_channels, top.out_channels, top.kernel_size) == (2048, 1024, (3, 3))
    assert top.dilation == top.padding == (6, 6)
    assert len(network.res4) == 23


@pytest.mark.parametrize("stride_in", PLACEMENTS)
def test_size_is_a_sixteenth_rounded_up(stride_in: Literal["1x1", "3x3"]) -> None:
    with torch.device("meta"):
        network = FeatureNetwork((1, 1, 1, 1), 1, 2, stride_in)
        for height in range(1, 100, 2):
            width = 1 + 37 * height % 131
            size = network(torch.empty(1, 3, height, width)).shape
            assert size == (1, 2, -(-height // 16), -(-width // 16))


def test_normalisation_is_frozen_in_training() -> None:
    network = tiny_features("1x1")
    assert not any("bn" in name for name, _ in network.named_parameters())
    image = random_image(64, 96)
    before = copy.deepcopy(network.state_dict())
    expected = network.eval()(image)
    assert torch.equal(network.train()(image), expected)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_gradient_reaches_the_stem() -> None:
    network = tiny_features("1x1").train()
    network(random_image(64, 96)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("stride_in", PLACEMENTS)
def test_updates_name_each_layer_once_with_its_stride(stride_in: Literal["1x1", "3x3"]) -> None:
    network = tiny_features(stride_in)
    image = random_image(83, 125)
    recorder = Recorder()
    with torch.no_grad():
        assert torch.equal(network(image, recorder), network(image))
    assert list(recorder.layers) == UPDATES
    for name, layer in recorder.layers.items():
        stride = recorder.strides[name]
        assert layer.shape[2:] == (-(-83 // stride), -(-125 // stride)), name
    assert recorder.strides["res3.0.conv1"] == (8 if stride_in == "1x1" else 4)


@pytest.mark.parametrize("stride_in", PLACEMENTS)
@pytest.mark.parametrize("skipped", [None, *UPDATES])
def test_inactive_pixels_are_read_at_the_updated_layers_alone(
    stride_in: Literal["1x1", "3x3"], skipped: str | None
) -> None:
    network = tiny_features(stride_in)
    key, current = random_image(160, 208, seed=1), random_image(160, 208, seed=2)
    mask = torch.rand(10, 13, generator=torch.Generator().manual_seed(3)) < 0.3
    recorder = Recorder()
    with torch.no_grad():
        network(key, recorder)
        expected = network(current, Blend(mask, recorder.layers))
        layers = [
            name
            for name, module in network.named_modules()
            if isinstance(module, ConvBN | Bottleneck) and name != "conv1"
        ]
        poison(network, [*layers, "feat_conv"], mask)
        update = Blend(mask, recorder.layers, skip=() if skipped is None else (skipped,))
        found = network(current, update)
    if skipped is None:
        assert torch.equal(found, expected)
    else:
        assert found.isnan().any()


def test_memory_layout_does_not_matter(tiny_model: HPVODModel) -> None:
    network = copy.deepcopy(tiny_model.features).double()
    image = random_image(83, 125).double()
    with torch.no_grad():
        expected = network(image)
        network = network.to(memory_format=torch.channels_last)
        found = network(image.to(memory_format=torch.channels_last))
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 4, 64, 64)])
def test_wrong_image_is_named(tiny_model: HPVODModel, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="image must be"):
        tiny_model.features(torch.zeros(shape))
