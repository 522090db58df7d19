"""The definition that the sparse network is held to is Section 3.2's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hpvod.model import build_model
from hpvod.networks.flow import FlowOutput
from hpvod_ops.reference.warp import warp

from .dense_partial_update import dense_update, flow_at_stride, mask_at_stride
from .moving import CONFIG

HEIGHT, WIDTH = 75, 109  # 5 x 7 features


@pytest.fixture(scope="module")
def model():
    return build_model(CONFIG, seed=3).double()


def image(seed):
    generator = torch.Generator().manual_seed(seed)
    return 60 * torch.randn(1, 3, HEIGHT, WIDTH, dtype=torch.float64, generator=generator)


def flow(scale=None):
    return FlowOutput(torch.randn(1, 2, 5, 7, dtype=torch.float64), torch.zeros(1, 1, 5, 7), scale)


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_mask_repeats_pixels(stride):
    mask = torch.rand(1, 1, 5, 7) < 0.5
    ratio = 16 // stride
    expected = mask.repeat_interleave(ratio, dim=2).repeat_interleave(ratio, dim=3)
    height, width = -(-HEIGHT // stride), -(-WIDTH // stride)
    result = mask_at_stride(mask, stride, height, width)
    assert result.dtype == torch.bool
    assert torch.equal(result, expected[..., :height, :width])


def test_masks_nest_under_strided_convolutions():
    mask = torch.rand(1, 1, 5, 7) < 0.5
    fine = mask_at_stride(mask, 4, 19, 28)
    for stride in (8, 16):
        step = stride // 4
        layer = mask_at_stride(mask, stride, -(-HEIGHT // stride), -(-WIDTH // stride))
        assert torch.equal(fine[..., ::step, ::step], layer)


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_flow_of_a_ramp(stride):
    # What is linear, bilinear interpolation reproduces; beyond the last pixel it stays constant.
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing="ij")
    coarse = torch.stack((x + 2 * y, 3 - y))[None].double()
    ratio = 16 // stride
    height, width = 5 * ratio, 7 * ratio
    fine_y = (torch.arange(height, dtype=torch.float64) / ratio).clamp(max=4)[:, None]
    fine_x = (torch.arange(width, dtype=torch.float64) / ratio).clamp(max=6)
    expected = ratio * torch.stack((fine_x + 2 * fine_y, (3 - fine_y).expand(-1, width)))[None]
    result = flow_at_stride(coarse, stride, height, width)
    torch.testing.assert_close(result, expected, rtol=1e-15, atol=1e-14)
    assert torch.equal(result[..., ::ratio, ::ratio], ratio * coarse)


def test_flow_of_low_precision_is_interpolated_in_float32():
    coarse = torch.randn(1, 2, 5, 7).bfloat16()
    result = flow_at_stride(coarse, 4, 20, 28)
    assert result.dtype == torch.float32
    assert torch.equal(result, flow_at_stride(coarse.float(), 4, 20, 28))


def test_where_u_is_1_everything_is_recomputed(model):
    key = dense_update(model, image(0))
    mask = torch.ones(1, 1, 5, 7, dtype=torch.bool)
    full, partial = dense_update(model, image(1)), dense_update(model, image(1), key, flow(), mask)
    assert all(torch.equal(partial[name], full[name]) for name in full)
    with torch.no_grad():
        assert torch.equal(full["feat_conv"], model.features(image(1)))
        assert torch.equal(full["embed"], model.embedding(full["feat_conv"]))


def test_where_u_is_0_everything_is_propagated(model):
    key = dense_update(model, image(0))
    scale = torch.rand(1, CONFIG.feature_channels, 5, 7, dtype=torch.float64)
    motion, mask = flow(scale), torch.zeros(1, 1, 5, 7, dtype=torch.bool)
    partial = dense_update(model, image(1), key, motion, mask)
    # The scale map belongs to the features alone. 1e-13: sums in another order.
    expected = scale * warp(key["feat_conv"], motion.flow), warp(key["embed"], motion.flow)
    found = partial["feat_conv"], partial["embed"]
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


def test_every_layer_is_the_blend_of_the_one_before(model):
    key, motion = dense_update(model, image(0)), flow()
    mask = torch.rand(1, 1, 5, 7) < 0.5
    seen = {}
    hook = model.features.feat_conv.register_forward_hook(
        lambda module, inputs, output: seen.update(before=inputs[0], after=output)
    )
    feature = dense_update(model, image(1), key, motion, mask)["feat_conv"]
    hook.remove()
    # res5, the input of the last convolution, is blended, and so is that convolution's result.
    propagated = warp(key["res5"], motion.flow)
    inactive = ~mask.expand_as(seen["before"])
    assert torch.equal(seen["before"][inactive], propagated[inactive])
    expected = torch.where(mask, F.relu(seen["after"]), warp(key["feat_conv"], motion.flow))
    assert torch.equal(feature, expected)
