from __future__ import annotations

import pytest
import torch

from hpvod.training.flow_target import at_stride, background_flow, flow_target

CAMERA = torch.tensor([[2.0, -1.0], [0.03, 0.01], [-0.01, 0.03]])  # of 1, x and y in pixels


def of_camera(height, width):
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    points = torch.stack((torch.ones_like(x), x, y), dim=-1).float()
    return (points @ CAMERA).permute(2, 0, 1)[None]


def with_square(flow, left, top, side, motion):
    flow = flow.clone()
    flow[:, :, top : top + side, left : left + side] = torch.tensor(motion)[:, None, None]
    return flow


@pytest.mark.parametrize("size", [(64, 96), (75, 109), (288, 384), (1, 40), (1, 1)])
def test_a_cameras_motion_is_found_and_is_the_target(size):
    flow = of_camera(*size)
    torch.testing.assert_close(background_flow(flow), flow, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(flow_target(flow), flow[:, :, ::16, ::16], rtol=1e-3, atol=1e-3)


def test_objects_have_no_say_in_the_background():
    camera = of_camera(96, 128)
    flow = with_square(camera, 8, 8, 60, (25.0, -10.0))  # a third of the image
    flow = with_square(flow, 90, 50, 30, (-4.0, 4.0))
    assert (background_flow(flow) - camera).abs().max() < 0.2


def test_each_sample_has_its_own_background():
    flows = torch.cat((of_camera(64, 96), -2 * of_camera(64, 96)))
    torch.testing.assert_close(background_flow(flows), flows, rtol=1e-3, atol=1e-3)


def test_around_an_object_the_target_is_the_objects_motion():
    """Within 24 pixels, of which 8 are the position's own; farther away it is the background's."""
    motion = (20.0, 5.0)
    flow = with_square(torch.zeros(1, 2, 192, 192), 80, 80, 32, motion)
    target = flow_target(flow)
    assert target.shape == (1, 2, 12, 12)
    follows = (target - torch.tensor(motion)[:, None, None]).abs().amax(dim=(0, 1)) < 1e-3
    stays = target.abs().amax(dim=(0, 1)) < 1e-3
    # The object is at pixels 80 to 111: positions at pixels 64 to 128 have it within reach.
    expected = torch.zeros(12, 12, dtype=torch.bool)
    expected[4:9, 4:9] = True
    assert torch.equal(follows, expected)
    assert torch.equal(stays, ~expected)


def test_of_two_objects_the_faster_one_counts_for_more():
    flow = with_square(torch.zeros(1, 2, 96, 160), 40, 32, 32, (2.0, 0.0))
    flow = with_square(flow, 88, 32, 32, (-20.0, 0.0))
    between = flow_target(flow)[0, 0, 3, 5]  # at pixel 80, 8 away from either
    assert -20.01 < between < -19
    assert flow_target(flow)[0, 0, 3, 3] == pytest.approx(2, abs=1e-3)  # 40 away from the faster


@pytest.mark.parametrize("size", [(64, 96), (75, 109), (1, 1)])
@pytest.mark.parametrize("stride", [16, 32, 64, 128, 256])
def test_at_stride_has_the_size_of_the_level_and_keeps_a_constant(stride, size):
    found = at_stride(flow_target(torch.full((1, 2, *size), 3.5)), stride)
    assert found.shape[2:] == tuple(-(-side // stride) for side in size)
    torch.testing.assert_close(found, torch.full_like(found, 3.5))


def test_at_stride_is_the_mean_around_every_position():
    target = torch.zeros(1, 2, 9, 9)
    target[0, 0] = torch.arange(9.0)
    target[0, 1] = 10 * torch.arange(9.0)[:, None]
    found = at_stride(target, 64)
    # Around positions 0, 4 and 8: of 0..2, 2..6 and 6..8.
    assert found[0, 0].tolist() == [[1, 4, 7]] * 3
    assert found[0, 1].tolist() == [[10] * 3, [40] * 3, [70] * 3]
    assert torch.equal(at_stride(target, 16), target)
