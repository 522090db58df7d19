from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

from hpvod.boxes import pairwise_iou
from hpvod.config import ModelConfig
from hpvod.model import build_model
from hpvod.training.calibrate import calibrate_batch_norm_, train_batch_norm_
from hpvod.training.pair import Pair, PairLoss, Targets
from hpvod.training.trainable import trainable_parameters
from hpvod.weights import load_model, save_weights

from .random_data import random_image

SIZE = (96, 128)
CONFIG = ModelConfig(
    classes=("red", "green", "blue"),
    depths=(1, 1, 1, 1),
    width=8,
    feature_channels=64,
    embedding_channels=(16, 32),
    flow_width=0.0625,
    anchor_scales=(2.0, 4.0),
    proposals_before_nms=200,
    proposals=50,
)


def inputs_of_normalisations(features, images):
    inputs = []
    hooks = [
        module.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
        for module in features.modules()
        if isinstance(module, FrozenBatchNorm2d)
    ]
    with torch.no_grad():
        features(images)
    for hook in hooks:
        hook.remove()
    return inputs


def test_statistics_are_those_of_the_images():
    features = build_model(CONFIG).features
    images = 3 + 2 * random_image(*SIZE, batch=3)
    calibrate_batch_norm_(features, images)
    modules = [m for m in features.modules() if isinstance(m, FrozenBatchNorm2d)]
    inputs = inputs_of_normalisations(features, images)
    assert len(inputs) == len(modules)
    for x in inputs:
        variance, mean = torch.var_mean(x, dim=(0, 2, 3))
        fits = [
            len(m.running_mean) == len(mean)
            and torch.allclose(m.running_mean, mean, rtol=1e-4, atol=1e-5)
            and torch.allclose(m.running_var, variance, rtol=1e-4, atol=1e-5)
            for m in modules
        ]
        assert sum(fits) == 1


def test_hooks_do_not_stay():
    features = build_model(CONFIG).features
    calibrate_batch_norm_(features, random_image(*SIZE))
    state = copy.deepcopy(features.state_dict())
    features(random_image(*SIZE, seed=1))
    assert all(torch.equal(state[name], value) for name, value in features.state_dict().items())
    with pytest.raises(ValueError, match="image must be"):
        calibrate_batch_norm_(features, torch.zeros(3, 8, 8))
    features(random_image(*SIZE, seed=1))
    assert all(torch.equal(state[name], value) for name, value in features.state_dict().items())


def test_trained_scales_and_biases_are_saved_like_frozen_ones(tmp_path):
    model, image = build_model(CONFIG), random_image(*SIZE)
    names, before = list(model.state_dict()), model.features(image)
    train_batch_norm_(model.features)
    assert list(model.state_dict()) == names
    assert torch.equal(model.features(image), before)
    trained = {name for name, _ in model.named_parameters() if ".bn." in name}
    assert trained == {n for n in names if n.endswith((".bn.weight", ".bn.bias"))}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in trained:
                parameter.add_(0.1)
    save_weights(model, tmp_path / "trained.safetensors")
    loaded = load_model(tmp_path / "trained.safetensors")
    assert not any(".bn." in name for name, _ in loaded.named_parameters())
    assert torch.equal(loaded.features(image), model.features(image))


def rectangle(seed):
    """A pair with a rectangle that moves a little, coloured by its class."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(low, high):
        return int(torch.randint(low, high, (1,), generator=generator))

    height, width = SIZE
    ground = 30 * torch.randn(1, 3, height // 16, width // 16, generator=generator)
    current = F.interpolate(ground, SIZE, mode="bilinear")[0]
    key, label, colour = current.clone(), drawn(0, 3), torch.full((3, 1, 1), -80.0)
    colour[label] = 100
    w, h = drawn(36, 60), drawn(36, 60)
    x, y = drawn(8, width - w - 8), drawn(8, height - h - 8)
    current[:, y : y + h, x : x + w] = colour
    x_then, y_then = x + drawn(-5, 6), y + drawn(-5, 6)
    key[:, y_then : y_then + h, x_then : x_then + w] = colour
    box = torch.tensor([[x, y, x + w - 1, y + h - 1]], dtype=torch.float32)
    return Pair(key, current, Targets(box, torch.tensor([label])), still=False)


def test_a_model_from_scratch_learns_four_pairs_by_heart():
    steps = 100
    model = build_model(CONFIG, seed=1)
    pairs = [rectangle(seed) for seed in range(4)]
    calibrate_batch_norm_(model.features, torch.stack([pair.current for pair in pairs]))
    train_batch_norm_(model.features)
    optimiser = torch.optim.AdamW(trainable_parameters(model, from_scratch=True), lr=2e-3)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimiser, steps)
    loss, generator = PairLoss(model, area_weight=0.05), torch.Generator().manual_seed(0)
    history = []
    for step in range(steps):
        optimiser.zero_grad()
        losses = loss(pairs[step % 4], ("predicted", "zeros", "ones")[step % 3], generator)
        losses.total.backward()
        optimiser.step()
        schedule.step()
        history.append(losses.total.item())
    assert sum(history[-12:]) < 0.25 * sum(history[:12])
    for pair in pairs:
        with torch.inference_mode():
            feature = model.features(pair.current[None])
            found = model.detection(feature, SIZE).of_image(0)
        assert found.scores[0] > 0.3
        assert found.labels[0] == pair.targets.labels[0]
        assert pairwise_iou(found.boxes[:1], pair.targets.boxes) > 0.5
