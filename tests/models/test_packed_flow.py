from __future__ import annotations

import pytest
import torch

from hpvod.networks.flow import FlowNetwork
from hpvod.packed_flow import PackedFlow

# Every level of odd and even sides, and images smaller than a pixel of the coarsest map.
SIZES = [(75, 109), (64, 128), (96, 97), (20, 33), (1, 1)]


def network(scale_channels=None, dtype=torch.float64, matching=False):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FlowNetwork(0.125, scale_channels, matching=matching).to(dtype).eval()


def images(batch, height, width, dtype=torch.float64):
    return torch.randn(2, batch, 3, height, width, dtype=torch.float64).mul(60).to(dtype)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("scale_channels", "matching"), [(None, False), (24, False), (None, True), (24, True)]
)
@torch.inference_mode()
def test_computes_what_the_flow_network_computes(size, scale_channels, matching):
    flow_network = network(scale_channels, matching=matching)
    current, key = images(2, *size)
    expected = flow_network(current, key)
    result = PackedFlow(flow_network)(current, key)
    for name in ("flow", "quality") if scale_channels is None else expected._fields:
        # 1e-12: sums of a few thousand products in another order.
        torch.testing.assert_close(
            getattr(result, name), getattr(expected, name), rtol=1e-12, atol=1e-12
        )
    assert (result.scale is None) == (scale_channels is None)


@torch.inference_mode()
def test_float32_is_as_near_the_truth_as_the_network_is():
    exact, single = network(), network(dtype=torch.float32)
    current, key = images(1, 75, 109, torch.float32)
    truth = exact(current.double(), key.double()).flow
    error = (PackedFlow(single)(current, key).flow - truth).abs().max()
    assert error <= 2 * (single(current, key).flow - truth).abs().max()


@torch.inference_mode()
def test_memory_is_reused_while_the_shape_stays():
    flow_network = network()
    packed = PackedFlow(flow_network)
    for size in ((64, 96), (64, 96), (75, 109), (64, 96)):
        current, key = images(1, *size)
        torch.testing.assert_close(
            packed(current, key).flow, flow_network(current, key).flow, rtol=1e-12, atol=1e-12
        )


def test_the_copy_does_not_follow_the_network():
    flow_network = network()
    current, key = images(1, 64, 64)
    with torch.inference_mode():
        packed = PackedFlow(flow_network)
        before = packed(current, key).flow.clone()
        for parameter in flow_network.parameters():
            parameter.zero_()
        assert torch.equal(packed(current, key).flow, before)
