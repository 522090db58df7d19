"""masked_max_pool2d_ through its public function, in the backend of each device."""

from __future__ import annotations

import math

import pytest
import torch
from ops.listed_cases import DTYPES, at, bits, dense_map, listed_pixels, patterned_mask
from ops.masked_max_pool2d_cases import (
    Inputs,
    check_against_reference,
    compose,
    evaluate,
    random_inputs,
)
from ops.warp_cases import poisoned_memory
from torch import Tensor
from torch.nn import functional as F

from hpvod_ops import PixelList, masked_max_pool2d_

CASES = 144


def pool(inputs: Inputs) -> Tensor:
    return masked_max_pool2d_(
        inputs.out,
        inputs.x,
        inputs.pixels,
        kernel=inputs.kernel,
        stride=inputs.stride,
        padding=inputs.padding,
    )


def stem_inputs(device: torch.device, dtype: torch.dtype = torch.float32) -> Inputs:
    """The one pooling of a ResNet: 3x3, of stride 2."""
    mask = patterned_mask("half", 2, 5, 7, 1)
    return Inputs(
        out=dense_map(torch.randn(2, 24, 5, 7).to(dtype), device),
        x=dense_map(torch.randn(2, 24, 9, 14).to(dtype), device),
        mask=mask,
        pixels=listed_pixels(mask, device),
        kernel=3,
        stride=2,
        padding=1,
    )


def test_the_reference_is_what_a_dense_layer_computes() -> None:
    inputs = stem_inputs(torch.device("cpu"))
    before = inputs.out.clone()
    compose(inputs)
    expected = torch.where(inputs.mask, F.max_pool2d(inputs.x, 3, 2, 1), before)
    assert torch.equal(inputs.out, expected)


@pytest.mark.parametrize("index", range(CASES))
def test_agrees_with_reference(index: int, kernel_device: torch.device) -> None:
    inputs = random_inputs(index, kernel_device)
    with poisoned_memory():
        result = evaluate(pool, inputs)
    check_against_reference(result, inputs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_exact_as_pooling_is(dtype: torch.dtype, backend_device: torch.device) -> None:
    inputs = stem_inputs(backend_device, dtype)
    expected = torch.where(
        inputs.mask.to(backend_device), F.max_pool2d(inputs.x, 3, 2, 1), inputs.out
    )
    assert pool(inputs) is inputs.out
    assert torch.equal(inputs.out, expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_and_infinity_in_the_window(dtype: torch.dtype, backend_device: torch.device) -> None:
    """As PyTorch has it: NaN is the largest number, and a window may hold -inf alone."""
    inputs = stem_inputs(backend_device, dtype)
    wild = torch.rand(inputs.x.shape, device=backend_device)
    for bound, value in ((0.15, math.nan), (0.1, math.inf), (0.05, -math.inf)):
        inputs.x[wild < bound] = value
    inputs.x[1, :, :5, :5] = -math.inf
    inputs.x[1, :, 2, 2] = math.nan
    check_against_reference(evaluate(pool, inputs), inputs)
    expected = F.max_pool2d(inputs.x, 3, 2, 1)
    assert at(inputs.mask, expected).isnan().any()
    assert at(inputs.mask, expected).isneginf().any()


def test_result_does_not_depend_on_the_threads() -> None:
    x = torch.randn(2, 70, 61, 83).contiguous(memory_format=torch.channels_last)
    mask = patterned_mask("half", 2, 31, 42, 0)
    threads, results = torch.get_num_threads(), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        out = torch.zeros(2, 70, 31, 42).contiguous(memory_format=torch.channels_last)
        pixels = listed_pixels(mask, x.device)
        results.append(masked_max_pool2d_(out, x, pixels, kernel=3, stride=2, padding=1))
    torch.set_num_threads(threads)
    assert torch.equal(bits(results[0]), bits(results[1]))
    assert torch.equal(bits(results[0]), bits(results[2]))


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_empty(shape: tuple[int, ...], backend_device: torch.device) -> None:
    size = [max((side - 1) // 2 + 1, 0) for side in shape[2:]]
    out = torch.zeros(*shape[:2], *size, device=backend_device)
    out = out.contiguous(memory_format=torch.channels_last)
    x = torch.zeros(shape, device=backend_device).contiguous(memory_format=torch.channels_last)
    mask = torch.ones(shape[0], 1, *size, dtype=torch.bool)
    pixels = listed_pixels(mask, backend_device)
    assert masked_max_pool2d_(out, x, pixels, kernel=3, stride=2, padding=1).numel() == 0


def test_opcheck(overload: str, kernel_device: torch.device) -> None:
    inputs = stem_inputs(kernel_device)
    op = getattr(torch.ops.hpvod.masked_max_pool2d_, overload)
    torch.library.opcheck(op, (inputs.out, inputs.x, *inputs.pixels, 3, 2, 1))


def test_compiles_in_one_graph(kernel_device: torch.device) -> None:
    inputs = stem_inputs(kernel_device)

    def layer(out: Tensor, x: Tensor, pixels: PixelList) -> Tensor:
        return masked_max_pool2d_(out, x * 2, pixels, kernel=3, stride=2, padding=1) + 1

    results = []
    for function in (torch.compile(layer, fullgraph=True), layer):
        out = inputs.out.clone(memory_format=torch.channels_last)
        results.append((function(out, inputs.x, inputs.pixels), out))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.gpu
@pytest.mark.parametrize("kernel_backend", ["cuda", "triton"], indirect=True)
def test_runs_in_a_cuda_graph(kernel_device: torch.device) -> None:
    inputs = stem_inputs(kernel_device)
    before = inputs.out.clone()
    pool(inputs)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        pool(inputs)
    inputs.x.neg_()
    graph.replay()
    mask = inputs.mask.to(kernel_device)
    assert torch.equal(inputs.out, torch.where(mask, F.max_pool2d(inputs.x, 3, 2, 1), before))


def last(*shape: int) -> Tensor:
    return torch.zeros(shape).contiguous(memory_format=torch.channels_last)


X, OUT = last(2, 3, 8, 10), last(2, 3, 4, 5)
PIXELS = PixelList(torch.zeros(40, dtype=torch.int32), torch.zeros(1, dtype=torch.int32))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"x": X[0]}, ValueError, r"x must be \[N, C, H, W\], not \[3, 8, 10\]"),
        ({"x": X.contiguous()}, ValueError, "x must be dense in torch.channels_last"),
        ({"x": X.int()}, RuntimeError, "torch.int32 is not supported"),
        ({"out": OUT.half()}, TypeError, "out must be torch.float32, as x is, not torch.float16"),
        ({"out": OUT.to("meta")}, ValueError, "out is on meta, but x is on cpu"),
        ({"out": OUT.contiguous()}, ValueError, "out must be dense in torch.channels_last"),
        ({"out": OUT[:1]}, ValueError, r"out must be \[2, 3, 4, 5\] for an x of .*, not \[1, 3"),
        ({"out": last(2, 4, 4, 5)}, ValueError, r"out must be \[2, 3, 4, 5\] for an x of"),
        ({"stride": 1}, ValueError, r"out must be \[2, 3, 8, 10\] for an x of"),
        ({"kernel": 0, "padding": 0}, ValueError, "kernel and stride must be at least 1, not 0"),
        ({"stride": 0}, ValueError, "kernel and stride must be at least 1, not 3 and 0"),
        ({"padding": 2}, ValueError, "padding must be .* at most half the kernel, 3, not 2"),
        ({"padding": -1}, ValueError, "padding must be at least 0 .*, not -1"),
        (
            {"pixels": PIXELS._replace(indices=PIXELS.indices.long())},
            TypeError,
            "pixels must be torch.int32, not torch.int64",
        ),
    ],
)
def test_bad_argument_is_named(
    changed: dict[str, object], error: type[Exception], message: str
) -> None:
    arguments = {"out": OUT, "x": X, "pixels": PIXELS, "kernel": 3, "stride": 2, "padding": 1}
    with pytest.raises(error, match=message):
        masked_max_pool2d_(**{**arguments, **changed})


def test_windows_without_a_pixel_are_refused() -> None:
    with pytest.raises(ValueError, match=r"x has no pixels: it is \[2, 3, 0, 10\]"):
        masked_max_pool2d_(
            last(2, 3, 1, 11), last(2, 3, 0, 10), PIXELS, kernel=2, stride=1, padding=1
        )


@pytest.mark.parametrize("name", ["x", "out"])
def test_is_for_inference_only(name: str) -> None:
    arguments = {"x": X, "out": OUT}
    arguments[name] = last(*arguments[name].shape).requires_grad_()
    message = f"masked_max_pool2d_ is for inference only, but {name} requires grad"
    with pytest.raises(RuntimeError, match=message):
        masked_max_pool2d_(**arguments, pixels=PIXELS, kernel=3, stride=2, padding=1)
    with torch.no_grad():
        masked_max_pool2d_(**arguments, pixels=PIXELS, kernel=3, stride=2, padding=1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({0: OUT.contiguous()}, "out must be a map that is dense in channels_last"),
        ({0: OUT.int(), 1: X.int()}, "out must be float32"),
        ({0: OUT[:1]}, "x must have out's batch"),
        ({0: last(2, 3, 4, 4)}, "out must have the pooled height and width"),
        ({1: X.contiguous()}, "x must be a map that is dense in channels_last"),
        ({1: X.half()}, "x must have out's dtype and device"),
        ({1: last(2, 4, 8, 10)}, "x must have out's batch and channels"),
        ({2: PIXELS.indices.long()}, "pixels must be int32"),
        ({3: PIXELS.count.long()}, "count must be int32"),
        ({4: 0}, "kernel and stride must be positive"),
        ({5: 0}, "kernel and stride must be positive"),
        ({6: 2}, "padding at most half the kernel"),
        ({6: -1}, "padding"),
        ({0: last(2, 3, 1, 11), 1: last(2, 3, 0, 10), 4: 2, 5: 1}, "x has no pixels"),
    ],
)
def test_the_schema_itself_is_safe(changed: dict[int, object], message: str) -> None:
    """torch.ops.hpvod.masked_max_pool2d_ can be called without the public function's checks."""
    arguments = dict(enumerate([OUT, X, *PIXELS, 3, 2, 1]))
    torch.ops.hpvod.masked_max_pool2d_(*arguments.values())
    with pytest.raises(RuntimeError, match=message):
        torch.ops.hpvod.masked_max_pool2d_(*{**arguments, **changed}.values())
