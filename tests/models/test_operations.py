from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

from hpvod.config import ModelConfig
from hpvod.method import PRESETS
from hpvod.model import build_model
from hpvod.operations import PerNetwork, multiply_adds, runs_a_frame


def counted_by_hooks(network, run):
    """Output pixels times the size of the kernels, layer by layer."""
    total = 0

    def count(layer, inputs, output):
        nonlocal total
        transposed = isinstance(layer, nn.ConvTranspose2d)
        batch, _, *sides = (inputs[0] if transposed else output).shape
        total += batch * math.prod(sides) * layer.weight.numel()

    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return total


@pytest.mark.parametrize("size", [(64, 96), (75, 109)])
def test_every_convolution_and_match_is_counted(size):
    config = dataclasses.replace(ModelConfig.preset("tiny"), flow_scale_head=True)
    model = build_model(config)
    image = torch.zeros(1, 3, *size)
    h, w = (math.ceil(side / 16) for side in size)
    feature = torch.zeros(1, config.feature_channels, h, w)
    found = multiply_adds(config, size)
    assert found.features == counted_by_hooks(model.features, lambda: model.features(image))
    assert found.embedding == counted_by_hooks(model.embedding, lambda: model.embedding(feature))
    of_flow = counted_by_hooks(model.flow, lambda: model.flow(image, image))
    of_flow += (h * w) ** 2 * model.flow.encoder["conv2"].out_channels  # the matches' cosines
    assert found.flow == of_flow
    rpn, bins, half = 9 * (2 + 4), config.groups**2 * (31 + 4), config.feature_channels // 2
    assert found.detection == h * w * half * (rpn + bins)


def test_papers_networks():
    found = multiply_adds(ModelConfig(), (600, 1000))
    # In GFLOP: of features, embedding and flow, counted before this was written.
    for value, known in zip(dataclasses.astuple(found)[:3], (330, 19, 25), strict=True):
        assert 2e-9 * value == pytest.approx(known, rel=0.03)


CLIPS = [4, 2]  # 6 frames, of which 2 are the first of a clip


@pytest.mark.parametrize(
    ("name", "knobs", "key_share", "updated", "expected"),
    [
        ("per_frame", {}, 1, 1, (1, 0, 0, 1)),
        ("dff", {"interval": 2}, 3 / 6, 3 / 6, (1 / 2, 0, 1 / 2, 1)),
        ("dff", {"interval": 1}, 1, 1, (1, 0, 0, 1)),
        ("c1", {"interval": 2}, 3 / 6, 3 / 6, (1 / 2, 1, 4 / 6, 1)),
        ("c1", {"interval": 1}, 1, 1, (1, 2, 4 / 6, 1)),
        ("c2", {}, 2 / 6, 0.4, (0.4, 0.4 + 2 / 6, 4 / 6, 1)),
        ("c3", {}, 3 / 6, 0.7, (0.7, 1.2, 4 / 6, 1)),
        # Of 4 frames 1, 2, 2 and 1 have neighbours at one frame's distance; of 2 each has one.
        ("fgfa", {"window": 1}, 1, 1, (1, 1, 8 / 6, 1)),
        # All see all others of their clip.
        ("fgfa", {"window": 9}, 1, 1, (1, 1, (4 * 3 + 2 * 1) / 6, 1)),
    ],
)
def test_runs(name, knobs, key_share, updated, expected):
    method = dataclasses.replace(PRESETS[name], **knobs)
    runs = runs_a_frame(method, CLIPS, key_share, updated)
    assert dataclasses.astuple(runs) == pytest.approx(expected)


def test_dot():
    assert PerNetwork(1, 2, 3, 4).dot(PerNetwork(10, 100, 1000, 10000)) == 43210
