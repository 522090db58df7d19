"""warp_pixels_ through its public function, in the backend of each device."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from ops.listed_cases import DTYPES, at, bits, dense_map, listed_pixels, patterned_mask
from ops.warp_cases import poisoned_memory
from ops.warp_pixels_cases import (
    Inputs,
    check_against_reference,
    compose,
    evaluate,
    exact_inputs,
    random_inputs,
)
from torch import Tensor
from torch.nn import functional as F

from hpvod_ops import PixelList, reference, warp, warp_pixels_

CASES = 144


def warp_listed(inputs: Inputs) -> Tensor:
    return warp_pixels_(
        inputs.out,
        inputs.feature,
        inputs.flow,
        inputs.pixels,
        ratio=inputs.ratio,
        scale=inputs.scale,
    )


@pytest.mark.parametrize("ratio", [1, 2, 4])
def test_the_reference_is_what_upsampling_and_warp_compute(ratio: int) -> None:
    """The truth of all tests here, held to a function of PyTorch's on the pixels it can give."""
    flow = torch.randn(2, 2, 4, 5, dtype=torch.float64)
    size = [ratio * (side - 1) + 1 for side in flow.shape[2:]]  # align_corners: at p / ratio
    fine = ratio * F.interpolate(flow, size=size, mode="bilinear", align_corners=True)
    fine = F.pad(fine, (0, ratio - 1, 0, ratio - 1), mode="replicate")
    feature, scale, base = torch.randn(3, 2, 3, *fine.shape[2:], dtype=torch.float64)
    mask = torch.rand(2, 1, *fine.shape[2:]) < 0.5
    out = base.contiguous(memory_format=torch.channels_last)
    pixels = listed_pixels(mask, out.device)
    reference.warp_pixels_(out, feature, flow, pixels, ratio=ratio, scale=scale)
    expected = torch.where(mask, reference.warp(feature, fine, scale), base)
    torch.testing.assert_close(out, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("index", range(CASES))
def test_agrees_with_reference(index: int, kernel_device: torch.device) -> None:
    inputs = random_inputs(index, kernel_device)
    with poisoned_memory():
        result = evaluate(warp_listed, inputs)
    check_against_reference(result, inputs)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("ratio", [1, 2, 4])
def test_exact_where_the_sums_are(ratio: int, scaled: bool, backend_device: torch.device) -> None:
    inputs = exact_inputs(backend_device, ratio)
    inputs = inputs if scaled else replace(inputs, scale=None)
    assert torch.equal(evaluate(warp_listed, inputs), evaluate(compose, inputs))


def test_returns_out(backend_device: torch.device) -> None:
    inputs = exact_inputs(backend_device)
    assert warp_listed(inputs) is inputs.out


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_at_the_resolution_of_the_flow_it_is_warp(
    dtype: torch.dtype, backend_device: torch.device
) -> None:
    shape = (2, 24, 6, 7)
    feature, scale, out = (
        dense_map(torch.randn(shape).to(dtype), backend_device) for _ in range(3)
    )
    flow = 3 * torch.randn(2, 2, 6, 7, device=backend_device)
    mask = patterned_mask("half", 2, 6, 7, 0)
    warp_pixels_(out, feature, flow, listed_pixels(mask, backend_device), scale=scale)
    assert torch.equal(at(mask, out), at(mask, warp(feature, flow, scale)))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, -1e30])
@pytest.mark.parametrize("ratio", [1, 4])
def test_flow_that_points_nowhere_reads_nothing(
    ratio: int, bad: float, backend_device: torch.device
) -> None:
    """Nor does a pixel that interpolates it, and all others are as before."""
    inputs = exact_inputs(backend_device, ratio)
    everywhere = torch.ones_like(inputs.mask)
    inputs = replace(inputs, mask=everywhere, pixels=listed_pixels(everywhere, backend_device))
    inputs.feature[:, :, 0, 0] = math.nan  # must not leak through a weight of zero
    expected = evaluate(warp_listed, inputs)
    inputs.flow[1, 0, 1, 2] = bad
    result = evaluate(warp_listed, inputs)
    y = torch.arange(inputs.out.shape[2])[:, None] / ratio - 1
    x = torch.arange(inputs.out.shape[3]) / ratio - 2
    reads_it, weighs_it = torch.zeros_like(everywhere), torch.zeros_like(everywhere)
    reads_it[1] = (y >= -1) & (y < 1) & (x >= -1) & (x < 1)
    weighs_it[1] = (y > -1) & (y < 1) & (x > -1) & (x < 1)
    # Zero times what is not finite is NaN, but zero times 1e30 is zero.
    reads_nothing = weighs_it if math.isfinite(bad) else reads_it
    assert not at(reads_nothing, result).any()
    assert torch.equal(
        at(~reads_nothing, result).nan_to_num(-99.0), at(~reads_nothing, expected).nan_to_num(-99.0)
    )


def test_half_precision_flow(backend_device: torch.device) -> None:
    inputs = exact_inputs(backend_device)
    half = replace(
        inputs,
        **{
            name: dense_map(getattr(inputs, name).half(), backend_device)
            for name in ("out", "feature", "scale")
        },
    )
    narrow = replace(half, flow=inputs.flow.half())
    assert torch.equal(evaluate(warp_listed, narrow), evaluate(warp_listed, half))


def test_strides_of_the_flow_do_not_matter(backend_device: torch.device) -> None:
    inputs = exact_inputs(backend_device)
    strided = replace(inputs, flow=inputs.flow.contiguous(memory_format=torch.channels_last))
    assert torch.equal(evaluate(warp_listed, strided), evaluate(warp_listed, inputs))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_pixel_depends_on_no_other(dtype: torch.dtype) -> None:
    """On the CPU the bits are the same, whatever else is listed and however many threads work."""
    cpu = torch.device("cpu")
    feature = dense_map(torch.randn(2, 70, 24, 36).to(dtype), cpu)
    flow = torch.randn(2, 2, 6, 9) * 2

    def result(mask: Tensor) -> Tensor:
        out = torch.zeros_like(feature)
        return at(mask, warp_pixels_(out, feature, flow, listed_pixels(mask, cpu), ratio=4))

    full = torch.zeros_like(feature)
    everywhere = torch.ones(2, 1, 24, 36, dtype=torch.bool)
    full.permute(0, 2, 3, 1).copy_(result(everywhere).view(2, 24, 36, 70))
    threads = torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        for seed, pattern in enumerate(("sparse", "half", "one", "blob", "full")):
            mask = patterned_mask(pattern, 2, 24, 36, seed)
            assert torch.equal(bits(result(mask)), bits(at(mask, full))), (count, pattern)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_empty(shape: tuple[int, ...], backend_device: torch.device) -> None:
    out, feature = (
        torch.zeros(shape, device=backend_device).contiguous(memory_format=torch.channels_last)
        for _ in range(2)
    )
    flow = torch.zeros(shape[0], 2, *shape[2:], device=backend_device)
    mask = torch.ones(shape[0], 1, *shape[2:], dtype=torch.bool)
    assert warp_pixels_(out, feature, flow, listed_pixels(mask, backend_device)).numel() == 0


@pytest.mark.parametrize("scaled", [False, True])
def test_opcheck(scaled: bool, overload: str, kernel_device: torch.device) -> None:
    inputs = exact_inputs(kernel_device)
    scale = inputs.scale if scaled else None
    torch.library.opcheck(
        getattr(torch.ops.hpvod.warp_pixels_, overload),
        (inputs.out, inputs.feature, inputs.flow, scale, *inputs.pixels, inputs.ratio),
    )


def test_compiles_in_one_graph(kernel_device: torch.device) -> None:
    inputs = exact_inputs(kernel_device)

    def layer(out: Tensor, feature: Tensor, flow: Tensor, pixels: PixelList) -> Tensor:
        return warp_pixels_(out, feature * 2, flow + 0.5, pixels, ratio=4) + 1

    results = []
    for function in (torch.compile(layer, fullgraph=True), layer):
        out = inputs.out.clone(memory_format=torch.channels_last)
        results.append((function(out, inputs.feature, inputs.flow, inputs.pixels), out))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.gpu
@pytest.mark.parametrize("kernel_backend", ["cuda", "triton"], indirect=True)
def test_runs_in_a_cuda_graph(kernel_device: torch.device) -> None:
    inputs = exact_inputs(kernel_device)
    warp_listed(inputs)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        warp_listed(inputs)
    inputs.feature.mul_(3)
    graph.replay()
    assert torch.equal(inputs.out, evaluate(warp_listed, inputs))


def last(*shape: int) -> Tensor:
    return torch.zeros(shape).contiguous(memory_format=torch.channels_last)


FEATURE, OUT, FLOW = last(2, 3, 8, 10), last(2, 3, 8, 10), torch.zeros(2, 2, 4, 5)
PIXELS = PixelList(torch.zeros(160, dtype=torch.int32), torch.zeros(1, dtype=torch.int32))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"feature": FEATURE[0]}, ValueError, r"feature must be \[N, C, H, W\], not \[3, 8, 10\]"),
        ({"feature": FEATURE.contiguous()}, ValueError, "feature must be dense in"),
        ({"feature": FEATURE.int()}, RuntimeError, "torch.int32 is not supported"),
        ({"out": OUT.half()}, TypeError, "out must be torch.float32, as feature is, not"),
        ({"out": OUT.to("meta")}, ValueError, "out is on meta, but feature is on cpu"),
        ({"out": OUT.contiguous()}, ValueError, "out must be dense in torch.channels_last"),
        ({"out": OUT[:1]}, ValueError, r"out must be \[2, 3, 8, 10\], as feature is, not \[1, 3"),
        ({"scale": OUT.half()}, TypeError, "scale must be torch.float32, as feature is, not"),
        ({"scale": OUT.contiguous()}, ValueError, "scale must be dense in torch.channels_last"),
        ({"scale": OUT[:1]}, ValueError, r"scale must be \[2, 3, 8, 10\], as feature is, not \[1"),
        ({"flow": FLOW[0]}, ValueError, r"flow must be \[2, 2, h, w\] .*, not \[2, 4, 5\]"),
        ({"flow": FLOW[:1]}, ValueError, r"flow must be \[2, 2, h, w\] .*, not \[1, 2, 4, 5\]"),
        ({"flow": FLOW[:, :1]}, ValueError, r"flow must be \[2, 2, h, w\] .*, not \[2, 1, 4, 5\]"),
        ({"flow": FLOW[:, :, :0]}, ValueError, r"flow has no pixels: it is \[2, 2, 0, 5\]"),
        ({"flow": FLOW.double()}, TypeError, "flow must be torch.float32, as feature is, or"),
        ({"flow": FLOW.to("meta")}, ValueError, "flow is on meta, but feature is on cpu"),
        ({"ratio": 0}, ValueError, "ratio must be at least 1, not 0"),
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
    arguments = {"out": OUT, "feature": FEATURE, "flow": FLOW, "pixels": PIXELS, "ratio": 2}
    with pytest.raises(error, match=message):
        warp_pixels_(**{**arguments, **changed})


@pytest.mark.parametrize("name", ["out", "feature", "flow", "scale"])
def test_is_for_inference_only(name: str) -> None:
    arguments = {"out": OUT, "feature": FEATURE, "flow": FLOW, "scale": None}
    arguments[name] = (FLOW.clone() if name == "flow" else last(2, 3, 8, 10)).requires_grad_()
    message = f"warp_pixels_ is for inference only, but {name} requires grad"
    with pytest.raises(RuntimeError, match=message):
        warp_pixels_(**arguments, pixels=PIXELS, ratio=2)
    with torch.no_grad():
        warp_pixels_(**arguments, pixels=PIXELS, ratio=2)


@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        (0, OUT.contiguous(), "out must be a map that is dense in channels_last"),
        (0, OUT.int(), "out must be float32"),
        (0, OUT[:1], "feature must have out's shape"),
        (1, FEATURE.contiguous(), "feature must be a map that is dense in channels_last"),
        (1, FEATURE.half(), "feature must have out's dtype and device"),
        (2, FLOW[:1], r"flow must be \[N, 2, h, w\]"),
        (2, FLOW[..., ::2], r"flow must be \[N, 2, h, w\], contiguous"),
        (2, FLOW[:, :, :0], "flow must not be empty"),
        (2, FLOW.double(), "flow must have out's dtype, or be float32"),
        (3, OUT[:1], "scale must have out's shape"),
        (3, OUT.half(), "scale must have out's dtype"),
        (4, PIXELS.indices.long(), "pixels must be int32"),
        (5, PIXELS.count.long(), "count must be int32"),
        (6, 0, "ratio must be positive"),
    ],
)
def test_the_schema_itself_is_safe(index: int, value: object, message: str) -> None:
    """torch.ops.hpvod.warp_pixels_ can be called without the public function's checks."""
    arguments = [OUT, FEATURE, FLOW, None, *PIXELS, 2]
    torch.ops.hpvod.warp_pixels_(*arguments)
    arguments[index] = value
    with pytest.raises(RuntimeError, match=message):
        torch.ops.hpvod.warp_pixels_(*arguments)
