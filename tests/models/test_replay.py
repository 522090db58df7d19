from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hpvod.replay import Replay
from hpvod_ops import batched_nms, ps_roi_pool, use_backend

from .allocations import allocations


@pytest.fixture(autouse=True)
def cpu_backend():
    with use_backend("cpu"), torch.inference_mode():
        yield


def arithmetic(x):
    """Numbers beside tensors, types, layouts."""
    y = (2 * x + 1 - x / 3).to(torch.float64).float().permute(0, 2, 3, 1).contiguous()
    whole = (4 * y).to(torch.int32)
    return y.clamp(0, 3), (y > 0.5) & (y <= 2), y.exp().sum((1, 2)) / 63, whole // 3


def rearranged(x):
    rows = x.flatten(1)
    values, best = rows.topk(5, dim=1)
    picked = rows.gather(1, best).masked_fill(values[:, :1] > 2.5, -1)
    return values, best, torch.cat((picked, rows.softmax(1)), dim=1), rows[:, best[0]]


def in_place(x):
    total = torch.zeros(x.shape[1:])
    for each in x:
        total += each
    half = x.clone()
    half[:, 1:] *= 0.5
    F.leaky_relu_(half, 0.1)
    return total, half


def pooled(x):
    last = x.contiguous(memory_format=torch.channels_last)
    return F.avg_pool2d(last, 2, ceil_mode=True), F.avg_pool2d(x, 2, ceil_mode=True)


def not_in_place(x):
    """What PyTorch has no form of that allocates nothing."""
    small = F.interpolate(x, (5, 4), mode="bilinear", align_corners=False)
    order = x.flatten(1).argsort(dim=1, stable=True)
    return small, order, order * 0.5, torch.stack((small, small)), x.mean(1)


def detected(x):
    maps = torch.cat((x, x), 1)[:, :4].contiguous(memory_format=torch.channels_last)
    corners = x.flatten(1)[:, :8].reshape(-1, 2, 4).abs() * 30
    boxes = torch.cat((corners[..., :2], corners[..., :2] + corners[..., 2:]), dim=2)
    rois = torch.cat((torch.zeros(len(x), 2, 1), boxes), dim=2).flatten(0, 1)
    labels = torch.zeros(len(x), 2, dtype=torch.int64)
    scores = corners[..., 0].contiguous()
    return ps_roi_pool(maps, rois, 2, 16), *batched_nms(boxes, scores, labels, 0.5, 2)


FUNCTIONS = [arithmetic, rearranged, in_place, pooled, detected]


def inputs(count=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, 9, 7, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("function", [*FUNCTIONS, not_in_place])
def test_a_replay_computes_what_the_function_does(function):
    x, replay = torch.empty(2, 3, 9, 7), Replay(function)
    for values in inputs():
        x.copy_(values)
        for found, expected in zip(replay(x), function(values), strict=True):
            assert torch.equal(found, expected)
            assert found.stride() == expected.stride()
    assert torch.equal(x, values)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_numbers_keep_their_digits_beside_16_bits(dtype):
    def function(x):
        return x * 0.1, x / 0.3, x * 2.5, x > 0.1

    x, replay = torch.empty(500, dtype=dtype), Replay(function)
    for seed in range(3):
        x.copy_(torch.randn(500, generator=torch.Generator().manual_seed(seed)))
        assert all(map(torch.equal, replay(x), function(x)))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_replay_allocates_nothing(function):
    x, replay = inputs(1)[0], Replay(function)
    assert allocations(lambda: replay(x))
    assert allocations(lambda: replay(x)) == []


def test_convolutions_are_packed():
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(3, 5, 3, stride=2, padding=2, dilation=2).double()
    x = torch.empty(2, 3, 9, 7, dtype=torch.float64, memory_format=torch.channels_last)
    replay = Replay(lambda x: layer(x).relu())
    for values in inputs():
        x.copy_(values)
        torch.testing.assert_close(replay(x), layer(x).relu(), rtol=1e-12, atol=1e-12)
    assert allocations(lambda: replay(x)) == []


def test_a_convolution_whose_weight_changes_is_not_packed():
    x = torch.randn(1, 3, 9, 7).to(memory_format=torch.channels_last)
    weight = torch.randn(2, 3, 3, 3)
    replay = Replay(F.conv2d)
    for _ in range(3):
        weight.normal_()
        torch.testing.assert_close(replay(x, weight), F.conv2d(x, weight))


def test_constants_are_computed_once():
    replay = Replay(lambda x: x * torch.arange(7).exp())
    for x in [inputs(1)[0]] * 2:
        assert torch.equal(replay(x), x * torch.arange(7).exp())
    (recording,) = replay._recordings.values()
    assert len(recording.steps) == 1


def test_a_tensor_elsewhere_is_recorded_anew_and_two_recordings_are_kept():
    recorded = []
    replay = Replay(lambda x: recorded.append(x) or x + 1)
    a, b, c = inputs(3)
    for x in (a, b, a, b, c, c, b, a):
        assert torch.equal(replay(x), x + 1)
    assert [id(x) for x in recorded] == [id(x) for x in (a, b, c, a)]


@pytest.mark.parametrize("function", [lambda x: x[: int(x.sum())], lambda x: x[x > 0]])
def test_what_depends_on_a_value_is_refused(function):
    replay = Replay(function)
    with pytest.raises(RuntimeError, match="reads what a tensor holds: that cannot be replayed"):
        replay(torch.ones(3))
