from __future__ import annotations

import pytest
import torch
from torchvision.ops import ps_roi_pool as torchvision_ps_roi_pool

from hpvod.networks.psroi import ps_roi_pool

from . import literal_boxes


def random_rois(count: int, images: int, height: int, width: int) -> torch.Tensor:
    """RoIs that lie inside, cross every border, lie outside and have no area."""
    generator = torch.Generator().manual_seed(0)
    sides = torch.tensor([width, height, width, height])
    corners = sides * (1.6 * torch.rand(count, 4, generator=generator) - 0.3)
    corners = torch.cat((corners[:, :2].minimum(corners[:, 2:]), corners[:, 2:]), 1)
    corners = corners.clamp(min=0)
    corners[::3] = corners[::3].floor() + 0.5
    image = torch.randint(0, images, (count, 1), generator=generator)
    return torch.cat((image, corners), 1)


@pytest.mark.parametrize(("groups", "stride"), [(7, 16), (3, 16), (2, 8)])
def test_equals_a_loop(groups: int, stride: int) -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 3 * groups**2, 9, 13, dtype=torch.float64)
    rois = random_rois(60, 2, 9 * stride, 13 * stride)
    expected = literal_boxes.ps_roi_pool(maps.numpy(), rois.numpy(), groups, stride)
    assert (expected == 0).any()
    found = ps_roi_pool(maps, rois, groups, stride)
    # float64 sums of at most 117 numbers of size 1 in another order.
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=1e-12)


def test_hand_case() -> None:
    maps = torch.arange(4 * 4 * 4, dtype=torch.float32).reshape(1, 4, 4, 4)
    # Pixels 16..47 are rows and columns 1 and 2 of the map: one a bin.
    rois = torch.tensor([[0.0, 16.4, 15.5, 47.4, 46.5]])
    expected = [[5.0, 16 + 6.0], [32 + 9.0, 48 + 10.0]]
    assert ps_roi_pool(maps, rois, 2, 16).tolist() == [[expected]]


def test_torchvision_pools_otherwise() -> None:
    """The reason why this function exists."""
    maps = torch.randn(1, 49, 6, 6, generator=torch.Generator().manual_seed(0))
    rois = torch.tensor([[0.0, 0.0, 0.0, 95.0, 95.0]])
    theirs = torchvision_ps_roi_pool(maps, rois, 7, 1 / 16)
    assert not torch.allclose(ps_roi_pool(maps, rois, 7, 16), theirs, atol=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeps_the_dtype_and_the_precision(dtype: torch.dtype) -> None:
    maps = (100 + torch.randn(1, 2 * 49, 38, 63)).to(dtype)
    rois = random_rois(20, 1, 600, 1000)
    found = ps_roi_pool(maps, rois, 7, 16)
    assert found.dtype == dtype
    expected = ps_roi_pool(maps.double(), rois, 7, 16).to(dtype)
    assert torch.equal(found, expected)


def test_memory_layout_does_not_matter() -> None:
    maps = torch.randn(2, 2 * 9, 9, 13, generator=torch.Generator().manual_seed(0))
    rois = random_rois(20, 2, 144, 208)
    found = ps_roi_pool(maps.to(memory_format=torch.channels_last), rois, 3, 16)
    assert torch.equal(found, ps_roi_pool(maps, rois, 3, 16))


def test_no_rois() -> None:
    assert ps_roi_pool(torch.zeros(1, 18, 4, 4), torch.zeros(0, 5), 3, 16).shape == (0, 2, 3, 3)


def test_gradient() -> None:
    maps = torch.randn(1, 2 * 4, 5, 6, dtype=torch.float64, requires_grad=True)
    rois = random_rois(5, 1, 80, 96)
    assert torch.autograd.gradcheck(lambda maps: ps_roi_pool(maps, rois, 2, 16), maps)
