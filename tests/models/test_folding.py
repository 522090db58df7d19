from __future__ import annotations

import copy

import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from hpvod.config import ModelConfig
from hpvod.folding import fold_batch_norm
from hpvod.model import build_model

from .layer_updates import Recorder
from .random_data import random_image, randomise_batch_norm


def test_folded_equals_unfolded_at_every_layer() -> None:
    model = build_model(ModelConfig.preset("tiny")).double()
    randomise_batch_norm(model)
    before = copy.deepcopy(model.state_dict())
    folded = fold_batch_norm(model)
    image = random_image(83, 125).double()
    expected, found = Recorder(), Recorder()
    with torch.no_grad():
        model.features(image, expected)
        folded.features(image, found)
    assert list(found.layers) == list(expected.layers)
    for name, layer in expected.layers.items():
        # float64: the products are only grouped otherwise.
        torch.testing.assert_close(found.layers[name], layer, rtol=1e-10, atol=1e-10)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_no_normalisation_is_left() -> None:
    model = build_model(ModelConfig.preset("tiny")).train()
    folded = fold_batch_norm(model)
    assert not folded.training
    assert not any(isinstance(module, FrozenBatchNorm2d) for module in folded.modules())
    paths = {name for name, module in folded.named_modules() if isinstance(module, nn.Conv2d)}
    assert {"features.conv1", "features.res3.0.downsample", "features.res5.0.conv3"} <= paths
