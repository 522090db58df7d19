from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hpvod.networks.matching import matched_motion


def literal_motion(first: Tensor, second: Tensor, sharpness: float) -> Tensor:
    """The definition, one position and one candidate at a time."""
    count, _, height, width = first.shape
    out = first.new_zeros((count, 3, height, width))
    for n in range(count):
        for y in range(height):
            for x in range(width):
                weights = {}
                for there_y in range(height):
                    for there_x in range(width):
                        pair = first[n, :, y, x], second[n, :, there_y, there_x]
                        cosine = F.cosine_similarity(*pair, dim=0)
                        weights[there_y, there_x] = (sharpness * cosine).exp()
                total = torch.stack(list(weights.values())).sum()
                for (there_y, there_x), weight in weights.items():
                    out[n, 0, y, x] += weight / total * (there_x - x)
                    out[n, 1, y, x] += weight / total * (there_y - y)
                out[n, 2, y, x] = torch.stack(list(weights.values())).max() / total
    return out


@pytest.mark.parametrize("size", [(3, 4), (1, 1), (1, 6), (5, 2)])
def test_is_the_weighted_mean_over_every_position(size: tuple[int, int]) -> None:
    first, second = torch.randn(2, 2, 4, *size, dtype=torch.float64)
    torch.testing.assert_close(
        matched_motion(first, second, torch.tensor(7.0)), literal_motion(first, second, 7.0)
    )


def test_a_moved_map_is_found_where_it_went() -> None:
    first = torch.randn(1, 32, 8, 9)
    second = first.roll((3, -4), (2, 3))  # what is at (y, x) is then at (y + 3, x - 4)
    found = matched_motion(first, second, torch.tensor(100.0))[:, :, :-3, 4:]
    expected = torch.tensor([-4.0, 3.0, 1.0]).view(1, 3, 1, 1).expand_as(found)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_a_vector_of_zeros_matches_everything_alike() -> None:
    found = matched_motion(torch.zeros(1, 3, 5, 5), torch.randn(1, 3, 5, 5), torch.tensor(10.0))
    torch.testing.assert_close(found[0, :2, 2, 2], torch.zeros(2))
    torch.testing.assert_close(found[:, 2], torch.full((1, 5, 5), 1 / 25))


def test_sixteen_bits_find_the_same_place() -> None:
    first = torch.randn(1, 16, 4, 63).bfloat16()
    second = first.roll(-20, 3)
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = matched_motion(first, second, torch.tensor(100.0))
        assert found.dtype == torch.bfloat16
        assert (found[:, 0, :, 20:] + 20).abs().max() < 0.1


def test_gradients() -> None:
    first, second = torch.randn(2, 1, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    sharpness = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(matched_motion, (first, second, sharpness))
