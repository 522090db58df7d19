from __future__ import annotations

import math

import pytest
import torch

from hpvod.aggregation import aggregate, aggregation_weights


def maps(count, channels, size=(3, 5), dtype=torch.float64, batch=1):
    return [torch.randn(batch, channels, *size, dtype=dtype) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 19])
def test_against_equations_2_and_3(count):
    features, embeddings = maps(count, 6, batch=2), maps(count, 4, batch=2)
    result = aggregate(features, embeddings)
    for n in range(2):
        for y in range(3):
            for x in range(5):
                e = [embedding[n, :, y, x].tolist() for embedding in embeddings]
                weights = []
                for other in e:
                    dot = sum(a * b for a, b in zip(other, e[-1], strict=True))
                    weights.append(math.exp(dot / (math.hypot(*other) * math.hypot(*e[-1]))))
                expected = sum(
                    w / sum(weights) * f[n, :, y, x] for w, f in zip(weights, features, strict=True)
                )
                # A few roundings of float64.
                torch.testing.assert_close(result[n, :, y, x], expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_weights_sum_to_one(dtype):
    weights = aggregation_weights(maps(19, 8, dtype=dtype))
    assert weights.shape == (19, 1, 1, 3, 5)
    assert weights.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(0), torch.ones_like(weights[0]), rtol=0, atol=1e-6)


def test_the_scale_of_an_embedding_does_not_matter():
    embeddings = maps(3, 8)
    scaled = [scale * e for scale, e in zip((1e-9, 1e6, 3.0), embeddings, strict=True)]
    torch.testing.assert_close(
        aggregation_weights(scaled), aggregation_weights(embeddings), rtol=1e-13, atol=0
    )


def test_an_embedding_of_zeros_has_cosine_0():
    current = maps(1, 8)[0]
    weights = aggregation_weights([torch.zeros_like(current), current])
    # exp(0) against exp(1), the current frame's cosine with itself.
    expected = torch.full_like(weights[0], 1 / (1 + math.e))
    torch.testing.assert_close(weights[0], expected, rtol=1e-13, atol=0)


def test_a_current_embedding_of_zeros_weighs_all_alike():
    other = maps(1, 8)[0]
    weights = aggregation_weights([other, torch.zeros_like(other)])
    assert torch.equal(weights, torch.full_like(weights, 0.5))


def test_low_precision_accumulates_in_float32():
    features = maps(19, 8, dtype=torch.bfloat16)
    embeddings = maps(19, 8, dtype=torch.bfloat16)
    wide = aggregate([f.double() for f in features], [e.double() for e in embeddings])
    result = aggregate(features, embeddings)
    assert result.dtype == torch.bfloat16
    # Half a unit in the last place of bfloat16, and what float32 sums add.
    torch.testing.assert_close(result.double(), wide, rtol=2**-8, atol=1e-5)


def test_as_many_embeddings_as_features():
    with pytest.raises(ValueError, match=r"features, embeddings: .* got 3 and 2"):
        aggregate(maps(3, 4), maps(2, 4))
    with pytest.raises(ValueError, match=r"features, embeddings: .* got 0 and 0"):
        aggregate([], [])
