from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hpvod.networks.correlation import correlation


def literal_correlation(first: Tensor, second: Tensor, reach: int) -> Tensor:
    """The definition, one position and one displacement at a time."""
    count, _, height, width = first.shape
    taps = 2 * reach + 1
    out = first.new_zeros((count, taps * taps, height, width))
    for y in range(height):
        for x in range(width):
            for channel in range(taps * taps):
                there_y, there_x = y + channel // taps - reach, x + channel % taps - reach
                if 0 <= there_y < height and 0 <= there_x < width:
                    pair = first[:, :, y, x], second[:, :, there_y, there_x]
                    out[:, channel, y, x] = F.cosine_similarity(*pair)
    return out


@pytest.mark.parametrize(
    ("size", "reach"), [((5, 7), 1), ((5, 7), 3), ((1, 1), 2), ((1, 6), 4), ((6, 2), 2)]
)
def test_is_the_cosine_with_every_position_around(size: tuple[int, int], reach: int) -> None:
    first, second = torch.randn(2, 2, 4, *size, dtype=torch.float64)
    torch.testing.assert_close(
        correlation(first, second, reach), literal_correlation(first, second, reach)
    )


def test_a_moved_map_matches_where_it_went() -> None:
    first = torch.randn(1, 16, 8, 9)
    second = first.roll((1, -2), (2, 3))  # what is at (y, x) is then at (y + 1, x - 2)
    best = correlation(first, second, 2).argmax(1)[:, :-1, 2:]
    assert (best == (1 + 2) * 5 + (-2 + 2)).all()


def test_a_vector_of_zeros_matches_nothing() -> None:
    first, second = torch.zeros(1, 3, 4, 4), torch.randn(1, 3, 4, 4)
    assert (correlation(first, second, 1) == 0).all()


def test_gradients() -> None:
    first, second = torch.randn(2, 1, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: correlation(a, b, 1), (first, second))
