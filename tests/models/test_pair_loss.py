from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from hpvod.config import ModelConfig
from hpvod.model import build_model
from hpvod.networks.flow import FlowOutput
from hpvod.training.pair import Pair, PairLoss, Targets
from hpvod.training.partial_update import KeyLayers, PartialUpdate, propagated
from hpvod.training.trainable import trainable_parameters
from hpvod_ops import aggregate, warp

from .dense_partial_update import dense_update
from .random_data import random_image, randomise_batch_norm
from .sparse_setup import CONFIGS, HEIGHT, WIDTH, drawn_images, masks, some_model, some_motion

CONFIG = dataclasses.replace(
    ModelConfig.preset("tiny"),
    classes=("cat", "dog"),
    depths=(1, 1, 1, 1),
    width=8,
    feature_channels=16,
    embedding_channels=(8, 12),
    groups=3,
    anchor_scales=(1.0, 2.0, 3.0),
)
SIZE = (75, 109)
TARGETS = Targets(torch.tensor([[8.0, 8, 50, 40], [60, 30, 99, 70]]), torch.tensor([1, 0]))
NO_TARGETS = Targets(torch.empty(0, 4), torch.empty(0, dtype=torch.int64))
MASKS = ("predicted", "zeros", "ones")


def model_of(seed=3, **changes):
    model = build_model(dataclasses.replace(CONFIG, **changes), seed=seed)
    randomise_batch_norm(model.features)
    with torch.no_grad():  # Q lies within 1 of tau, on both sides of it
        model.flow.quality.weight.mul_(0.2)
    return model


def pair_of(targets=TARGETS, still=False, dtype=torch.float32):
    key, current = random_image(*SIZE, batch=2).to(dtype)
    return Pair(key, current, targets, still)


def losses_of(model, pair, mask="predicted", area_weight=1.0):
    loss = PairLoss(model, area_weight=area_weight)
    return loss(pair, mask, torch.Generator().manual_seed(0))


def feature_read(model, pair, mask):
    """What the detection losses were computed from."""
    read = []
    handle = model.detection.rpn.register_forward_pre_hook(lambda _, x: read.append(x[0]))
    other = model.detection.rfcn.register_forward_pre_hook(lambda _, x: read.append(x[0]))
    losses_of(model, pair, mask)
    handle.remove()
    other.remove()
    return torch.cat(read, dim=1)


@pytest.mark.parametrize("name", CONFIGS)
def test_partial_update_is_that_of_inference(name):
    dtype = torch.float64
    model = some_model(name, dtype)
    key, *images = drawn_images(31, dtype)
    of_key = KeyLayers()
    with torch.no_grad():
        model.embedding(model.features(key, of_key), of_key)
    expected_of_key = dense_update(model, key)
    channels = CONFIGS[name].feature_channels
    for i in (0, 1, 2, 7, 22, 25, 28):
        motion = some_motion(channels if i % 2 else None, dtype, seed=i)
        update = PartialUpdate(of_key.layers, motion, masks()[i].double())
        with torch.no_grad():
            feature = model.features(images[i], update)
            embedding = model.embedding(feature, update)
        expected = dense_update(model, images[i], expected_of_key, motion, masks()[i])
        torch.testing.assert_close(feature, expected["feat_conv"], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(embedding, expected["embed"], rtol=1e-12, atol=1e-12)


def test_partial_update_has_the_gradients_of_its_formula():
    # Of one layer at stride 8 and one that the scale map multiplies, in all that they read.
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_()

    fine, coarse, flow = drawn(1, 2, 3, 4), drawn(1, 2, 2, 2), drawn(1, 2, 2, 2)
    key_fine, key_coarse, scale, u = drawn(1, 2, 3, 4), drawn(1, 2, 2, 2), drawn(1, 2, 2, 2), 0.5

    def updated(fine, coarse, key_fine, key_coarse, flow, scale, u):
        motion = FlowOutput(flow, torch.empty(0), scale)
        update = PartialUpdate({"res3.0.conv1": key_fine, "feat_conv": key_coarse}, motion, u)
        return update("res3.0.conv1", fine, 8), update("feat_conv", coarse, 16)

    u = drawn(1, 1, 2, 2)
    inputs = (fine, coarse, key_fine, key_coarse, flow, scale, u)
    assert torch.autograd.gradcheck(updated, inputs)


@pytest.mark.parametrize("scale_head", [False, True])
@pytest.mark.parametrize("mask", ["zeros", "ones"])
def test_enforced_masks_equal_a_q_that_is_far_off(mask, scale_head):
    model = model_of(flow_scale_head=scale_head).double()
    if scale_head:
        torch.nn.init.normal_(model.flow.scale.weight, 0, 0.1)
    pair = pair_of(dtype=torch.float64)
    found = feature_read(model, pair, mask)
    torch.nn.init.constant_(model.flow.quality.bias, 1e6 if mask == "zeros" else -1e6)
    expected = feature_read(model, pair, "predicted")
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_u_of_0_propagates_and_u_of_1_aggregates_the_raw_feature():
    model = model_of().double()
    pair = pair_of(dtype=torch.float64)
    key, current = pair.key[None], pair.current[None]
    with torch.no_grad():
        of_key, raw = model.features(key), model.features(current)
        flow = model.flow(current, key).flow
        propagated_ = warp(of_key, flow)
        both = [warp(model.embedding(of_key), flow), model.embedding(raw)]
        aggregated = aggregate([propagated_, raw], both)
        zeros = feature_read(model, pair, "zeros")
        ones = feature_read(model, pair, "ones")
    # Two equal features, whatever their weights: half each.
    torch.testing.assert_close(zeros, propagated_, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ones, aggregated, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mask", MASKS)
def test_a_still_pair_reads_the_raw_feature(mask):
    model, pair = model_of(), pair_of(still=True)
    expected = model.features(pair.current[None])
    assert torch.equal(feature_read(model, pair, mask), expected)
    losses = losses_of(model, pair, mask)
    assert losses.area == 0
    losses.total.backward()
    assert all(p.grad is None for p in model.flow.parameters())


def test_area_is_the_mean_of_u():
    model, pair = model_of(), pair_of()
    with torch.no_grad():
        quality = model.flow(pair.current[None], pair.key[None]).quality
    updated = (quality <= 0).float().mean()
    assert 0 < updated < 1
    with torch.no_grad():
        losses = [losses_of(model, pair, mask, 3.0) for mask in MASKS]
    assert [float(each.area) for each in losses] == [updated, 0, 1]
    for each in losses:
        detection = sum(float(loss) for loss in each[:4])
        assert float(each.total) == pytest.approx(detection + 3 * float(each.area))


def test_gradients_reach_everything_that_is_trained():
    model = model_of(flow_scale_head=True)
    trained = trainable_parameters(model, from_scratch=False)
    losses_of(model, pair_of()).total.backward()
    names = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    everything = {name for name, _ in model.named_parameters()}
    frozen = {n for n in everything if n.startswith(("features.conv1.", "features.res2."))}
    assert frozen
    assert names == everything - frozen - {"flow.scale.bias"}
    assert len(trained) == len(names)
    assert all(torch.isfinite(p.grad).all() for p in trained)


def test_from_scratch_nothing_waits_for_a_pretrained_layer():
    model = model_of()
    assert len(trainable_parameters(model, from_scratch=True)) == len(list(model.parameters()))
    losses_of(model, pair_of()).total.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    trainable_parameters(model, from_scratch=False)
    assert not model.features.conv1.conv.weight.requires_grad


def test_batch_norm_has_no_parameters():
    assert not any(".bn." in name for name, _ in model_of().named_parameters())


def test_areas_gradient_is_lambda():
    def gradient(area_weight):
        model = model_of()
        losses_of(model, pair_of(), area_weight=area_weight).total.backward()
        return model.flow.quality.bias.grad.item()

    # dU / dQ is -1 at all positions, Q lying within 1 of tau.
    without = gradient(0.0)
    for area_weight in (0.5, 2.0, 8.0):
        assert gradient(area_weight) == pytest.approx(without - area_weight, abs=1e-4)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("targets", [TARGETS, NO_TARGETS])
def test_bfloat16_autocast(mask, targets):
    model = model_of(flow_scale_head=True)
    exact = losses_of(model, pair_of(targets), mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = losses_of(model, pair_of(targets), mask)
    losses.total.backward()
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert losses.total.item() == pytest.approx(exact.total.item(), rel=0.2)


def test_the_same_generator_gives_the_same_loss():
    model, pair = model_of(), pair_of()
    assert losses_of(model, pair).total == losses_of(model, pair).total


def test_nothing_of_the_model_is_changed():
    model = model_of()
    state = copy.deepcopy(model.state_dict())
    losses_of(model, pair_of()).total.backward()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_propagated_features_keep_their_dtype():
    key = torch.randn(1, 4, 5, 7)
    motion = some_motion(4, torch.bfloat16)
    found = propagated(key, motion.flow, motion.scale)
    torch.testing.assert_close(found, warp(key, motion.flow.float(), motion.scale.float()))


@pytest.mark.parametrize("area_weight", [-1.0, float("nan")])
def test_area_weight_is_checked(area_weight):
    with pytest.raises(ValueError, match="area_weight must not be negative"):
        PairLoss(model_of(), area_weight=area_weight)


def test_sizes_must_match():
    pair = pair_of()
    with pytest.raises(ValueError, match="current and key must both be"):
        losses_of(model_of(), dataclasses.replace(pair, key=pair.key[:, 1:]))
    assert (HEIGHT, WIDTH) == SIZE
