"""warp through its public function, in the backend of each device."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from ops.warp_cases import (
    DTYPES,
    LAYOUTS,
    NAMES,
    Inputs,
    check_against_reference,
    evaluate,
    exact_inputs,
    poisoned_memory,
    random_inputs,
)
from torch import Tensor

from hpvod_ops import reference, use_backend, warp
from hpvod_ops.backends import can_run

CASES = 208
GPU = torch.cuda.is_available()
# Without a GPU, Triton runs in its interpreter, and tests/simt runs the CUDA kernels.
BACKENDS = ("cpu", "cuda", "triton") if GPU else ("cpu", "triton")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every op of the test runs on it."""
    with use_backend(request.param):
        yield request.param


@pytest.fixture
def device(backend: str) -> torch.device:
    device = torch.device("cuda" if GPU and backend != "cpu" else "cpu")
    if reason := can_run(backend, device, torch.float32):
        pytest.skip(reason) if backend == "triton" else pytest.fail(reason)
    return device


@pytest.fixture
def overload(backend: str) -> str:
    """The registered op that the public function calls."""
    return "triton" if backend == "triton" else "default"


def test_the_reference_is_what_grid_sample_computes() -> None:
    """The truth of all tests here, held to a function of PyTorch's: zeros outside, x before y."""
    shape = (3, 5, 7, 11)
    feature = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    flow = (4 * torch.randn(3, 2, 7, 11, dtype=torch.float64)).requires_grad_()
    x, y = torch.arange(11) + flow[:, 0], torch.arange(7)[:, None] + flow[:, 1]
    grid = torch.stack((x * 2 / 10 - 1, y * 2 / 6 - 1), dim=-1)
    sampled = torch.nn.functional.grid_sample(
        feature, grid, mode="bilinear", padding_mode="zeros", align_corners=True
    )
    output = reference.warp(feature, flow)
    torch.testing.assert_close(output, sampled, rtol=1e-12, atol=1e-12)
    grad_output = torch.randn(shape, dtype=torch.float64)
    for gradient, expected in zip(
        torch.autograd.grad(output, (feature, flow), grad_output),
        torch.autograd.grad(sampled, (feature, flow), grad_output),
        strict=True,
    ):
        torch.testing.assert_close(gradient, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("index", range(CASES))
def test_agrees_with_reference(index: int, device: torch.device) -> None:
    inputs = random_inputs(index, device)
    with poisoned_memory():
        results = evaluate(warp, inputs)
    check_against_reference(results, inputs)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_exact_where_the_sums_are(layout: torch.memory_format, device: torch.device) -> None:
    inputs = exact_inputs(device, layout)
    expected = evaluate(reference.warp, inputs)
    for name, result, truth in zip(NAMES, evaluate(warp, inputs), expected, strict=True):
        assert torch.equal(result, truth), name


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, -1e30, 2.0**31, -(2.0**31)])
def test_flow_that_points_nowhere_reads_nothing(
    bad: float, layout: torch.memory_format, device: torch.device
) -> None:
    inputs = exact_inputs(device, layout)
    wild = torch.rand(2, 5, 7, device=device) < 0.3
    inputs.feature[:, :, 0, 0] = math.nan  # must not leak through a weight of zero
    inputs.flow[:, 0][wild] = 1000.0
    expected = evaluate(warp, inputs)
    inputs.flow[:, 0][wild] = bad
    results = evaluate(warp, inputs)
    for name, result, wanted in zip(NAMES, results, expected, strict=True):
        assert torch.equal(result.nan_to_num(-99.0), wanted.nan_to_num(-99.0)), name
    assert not results[0].permute(0, 2, 3, 1)[wild].any()
    assert not results[2].permute(0, 2, 3, 1)[wild].any()


def test_every_pixel_reads_the_same_four(device: torch.device) -> None:
    """The lists of readers that the gradient of the feature walks are as long as can be."""
    shape = (2, 3, 6, 7)
    flow = torch.empty(2, 2, 6, 7, device=device)
    flow[:, 0] = 2.25 - torch.arange(7, device=device)
    flow[:, 1] = 3.5 - torch.arange(6, device=device)[:, None]
    feature, grad_output = (
        torch.randint(-4, 5, size).float().to(device) for size in ((1, *shape[1:]), shape)
    )
    inputs = Inputs(feature, flow, None, grad_output)
    expected = evaluate(reference.warp, inputs)
    for name, result, truth in zip(NAMES, evaluate(warp, inputs), expected, strict=False):
        assert torch.equal(result, truth), name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_zero_flow_is_the_identity(dtype: torch.dtype, device: torch.device) -> None:
    feature, grad_output = torch.randn(2, 2, 3, 4, 5, device=device).to(dtype)
    inputs = Inputs(feature, feature.new_zeros(2, 2, 4, 5), None, grad_output)
    output, grad_feature, _ = evaluate(warp, inputs)
    assert torch.equal(output, feature)
    assert torch.equal(grad_feature, grad_output)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_keeps_the_layout(layout: torch.memory_format, device: torch.device) -> None:
    inputs = exact_inputs(device, layout)
    output, grad_feature, grad_flow, grad_scale = evaluate(warp, inputs)
    for result in (output, grad_feature, grad_scale):
        assert result.is_contiguous(memory_format=layout)
    assert grad_flow.is_contiguous()


def test_half_of_the_channels_stays_channels_last(device: torch.device) -> None:
    """The RPN and R-FCN each take half of the channels of one map."""
    whole = torch.randn(1, 8, 3, 4, device=device).contiguous(memory_format=torch.channels_last)
    output = warp(whole[:, 4:], torch.zeros(1, 2, 3, 4, device=device))
    assert output.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(output, whole[:, 4:])


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_empty(shape: tuple[int, int, int, int], device: torch.device) -> None:
    feature = torch.randn(shape, device=device, requires_grad=True)
    flow = torch.randn(shape[0], 2, *shape[2:], device=device, requires_grad=True)
    output = warp(feature, flow)
    assert output.shape == shape
    grad_feature, grad_flow = torch.autograd.grad(output.sum(), (feature, flow))
    assert grad_feature.shape == feature.shape
    assert not grad_flow.any()


def test_no_flows_of_one_feature_give_it_no_gradient(device: torch.device) -> None:
    feature = torch.randn(1, 3, 4, 5, device=device, requires_grad=True)
    with poisoned_memory():
        output = warp(feature, torch.zeros(0, 2, 4, 5, device=device))
        (gradient,) = torch.autograd.grad(output.sum(), feature)
    assert torch.equal(gradient, torch.zeros_like(feature))


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (1, 2)])
def test_only_the_gradients_that_are_wanted(wanted: tuple[int, ...], device: torch.device) -> None:
    inputs = exact_inputs(device)
    expected = evaluate(warp, inputs)[1:]
    assert inputs.scale is not None
    leaves = [inputs.feature, inputs.flow, inputs.scale]
    for index in wanted:
        leaves[index].requires_grad_()
    output = warp(*leaves)
    results = torch.autograd.grad(output, [leaves[i] for i in wanted], inputs.grad_output)
    for index, result in zip(wanted, results, strict=True):
        assert torch.equal(result, expected[index])


def test_result_does_not_depend_on_the_threads() -> None:
    feature = torch.randn(1, 70, 30, 41)
    flow = torch.randn(3, 2, 30, 41) * 3
    grad_output = torch.randn(3, 70, 30, 41)
    threads, results = torch.get_num_threads(), []
    for layout in LAYOUTS:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            leaves = [feature.contiguous(memory_format=layout).requires_grad_(), flow.clone()]
            leaves[1].requires_grad_()
            output = warp(*leaves)
            results.append((output, *torch.autograd.grad(output, leaves, grad_output)))
    torch.set_num_threads(threads)
    for start in (0, 3):
        for other in results[start + 1 : start + 3]:
            for one, two in zip(results[start], other, strict=True):
                assert torch.equal(one, two)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("feature_batch", [1, 2])
def test_gradcheck(
    layout: torch.memory_format, feature_batch: int, device: torch.device, backend: str
) -> None:
    feature = torch.randn(feature_batch, 2, 3, 4, dtype=torch.float64, device=device)
    feature = feature.contiguous(memory_format=layout).requires_grad_()
    # Away from whole pixels, where the warp has a kink that finite differences step over.
    flow = torch.randint(-2, 2, (2, 2, 3, 4), device=device) + torch.empty(
        2, 2, 3, 4, dtype=torch.float64, device=device
    ).uniform_(0.1, 0.9)
    scale = torch.randn(2, 2, 3, 4, dtype=torch.float64, device=device, requires_grad=True)
    # Fast mode checks a random projection; all entries would take the interpreter minutes.
    fast = backend == "triton"
    assert torch.autograd.gradcheck(warp, (feature, flow.requires_grad_(), scale), fast_mode=fast)


def test_a_second_derivative_is_refused(device: torch.device) -> None:
    inputs = exact_inputs(device)
    feature = inputs.feature.requires_grad_()
    (gradient,) = torch.autograd.grad(
        warp(feature, inputs.flow.requires_grad_()).sum(), feature, create_graph=True
    )
    with pytest.raises(NotImplementedError, match="warp is differentiable once"):
        gradient.sum().backward()


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("with_scale", [False, True])
def test_opcheck(
    layout: torch.memory_format, with_scale: bool, device: torch.device, overload: str
) -> None:
    inputs = exact_inputs(device, layout)
    scale = inputs.scale if with_scale else None
    for tensor in (inputs.feature, inputs.flow, scale):
        if tensor is not None:
            tensor.requires_grad_()
    op = getattr(torch.ops.hpvod.warp, overload)
    torch.library.opcheck(op, (inputs.feature, inputs.flow, scale))
    maps = [None if t is None else t.detach() for t in (inputs.feature, inputs.flow, scale)]
    torch.library.opcheck(
        getattr(torch.ops.hpvod.warp_backward, overload),
        (inputs.grad_output, *maps, True, True, with_scale),
    )


def test_opcheck_of_views(device: torch.device, overload: str) -> None:
    """The fake kernel predicts the strides for maps that are not dense as well."""
    for index in range(0, 48):
        inputs = random_inputs(index, device)
        torch.library.opcheck(
            getattr(torch.ops.hpvod.warp, overload),
            (inputs.feature, inputs.flow, inputs.scale),
            test_utils="test_faketensor",
        )


def compiled_and_eager(function: object, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    compiled = torch.compile(function, fullgraph=True)  # type: ignore[call-overload]
    return compiled(*inputs), function(*inputs)  # type: ignore[operator]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_compiles_in_one_graph(layout: torch.memory_format, device: torch.device) -> None:
    inputs = exact_inputs(device, layout)
    feature = inputs.feature.requires_grad_()

    def propagate(feature: Tensor, flow: Tensor) -> Tensor:
        return warp(feature * 2, flow + 0.5).relu()

    compiled, eager = compiled_and_eager(propagate, (feature, inputs.flow))
    assert torch.equal(compiled, eager)
    gradients = [torch.autograd.grad(o, feature, inputs.grad_output)[0] for o in (compiled, eager)]
    assert torch.equal(*gradients)


def test_compile_follows_the_backend() -> None:
    inputs = exact_inputs(torch.device("cpu"))
    counter = []

    @torch.library.custom_op("hpvod_tests::count", mutates_args=())
    def count(x: Tensor) -> Tensor:
        counter.append(1)
        return x.clone()

    count.register_fake(torch.empty_like)
    compiled = torch.compile(lambda feature, flow: count(warp(feature, flow)), fullgraph=True)
    first = compiled(inputs.feature, inputs.flow)
    with use_backend("reference"):
        second = compiled(inputs.feature, inputs.flow)
    assert len(counter) == 2
    assert torch.equal(first, second)  # exact inputs: whichever ran


class Propagate(torch.nn.Module):
    def forward(self, feature: Tensor, flow: Tensor) -> Tensor:
        return warp(feature, flow)


def test_exports_with_dynamic_shapes(device: torch.device, overload: str) -> None:
    inputs = exact_inputs(device)
    height, width = torch.export.Dim("height", max=64), torch.export.Dim("width", max=64)
    program = torch.export.export(
        Propagate(),
        (inputs.feature, inputs.flow),
        dynamic_shapes=({2: height, 3: width}, {2: height, 3: width}),
    )
    feature = torch.randn(2, 6, 9, 4, device=device)
    flow = torch.randn(2, 2, 9, 4, device=device)
    assert torch.equal(program.module()(feature, flow), warp(feature, flow))
    targets = {str(node.target) for node in program.graph.nodes}
    assert f"hpvod.warp.{overload}" in targets


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["cuda", "triton"])
def test_runs_in_a_cuda_graph(name: str) -> None:
    with use_backend(name):
        _run_in_a_cuda_graph()


def _run_in_a_cuda_graph() -> None:
    inputs = exact_inputs(torch.device("cuda"), torch.channels_last)
    warp(inputs.feature, inputs.flow)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = warp(inputs.feature, inputs.flow)
    inputs.feature.mul_(3)
    graph.replay()
    assert torch.equal(output, warp(inputs.feature, inputs.flow))


FEATURE = torch.zeros(2, 3, 4, 5)
FLOW = torch.zeros(2, 2, 4, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((FEATURE[0], FLOW), ValueError, r"feature must be \[N, C, H, W\], not \[3, 4, 5\]"),
        ((FEATURE, FLOW[0]), ValueError, r"flow must be \[N, 2, 4, 5\] .*, not \[2, 4, 5\]"),
        ((FEATURE, FLOW[:, :1]), ValueError, r"flow must be \[N, 2, 4, 5\] .*\[2, 1, 4, 5\]"),
        ((FEATURE, FLOW[..., :4]), ValueError, r"flow must be .*\[2, 2, 4, 4\]"),
        ((FEATURE, FLOW[:1]), ValueError, "feature must have a batch of 1, as flow has"),
        ((FEATURE, FLOW, FEATURE[:1]), ValueError, r"scale must be \[2, 3, 4, 5\], not \[1, 3"),
        ((FEATURE, FLOW.double()), TypeError, "flow must be torch.float32, as feature is"),
        ((FEATURE.half(), FLOW.bfloat16()), TypeError, "flow must be torch.float16, .* or float32"),
        ((FEATURE, FLOW, FEATURE.half()), TypeError, "scale must be torch.float32, as feature is"),
        ((FEATURE, FLOW.to("meta")), ValueError, "flow is on meta, but feature is on cpu"),
        ((FEATURE, FLOW, FEATURE.to("meta")), ValueError, "scale is on meta, but feature is on"),
        ((FEATURE.int(), FLOW), RuntimeError, "torch.int32 is not supported"),
    ],
)
def test_bad_argument_is_named(
    arguments: tuple[Tensor, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        warp(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((FEATURE[0], FLOW, None), r"feature must be \[N, C, H, W\], not \[3, 4, 5\]"),
        ((FEATURE, FLOW[..., :4], None), r"flow must be \[N, 2, H, W\] with the feature's"),
        ((FEATURE, FLOW[:1], None), "feature's batch must be flow's, or 1"),
        ((FEATURE.int(), FLOW, None), "feature must be float32, float16, bfloat16 or float64"),
        ((FEATURE, FLOW.double(), None), "flow must have the feature's dtype, or be float32"),
        ((FEATURE, FLOW, FEATURE[:1]), "scale must be"),
        ((FEATURE, FLOW, FEATURE.half()), "scale must have the feature's dtype"),
    ],
)
def test_the_schema_itself_is_safe(arguments: tuple[Tensor | None, ...], message: str) -> None:
    """torch.ops.hpvod.warp can be called without the public function's checks."""
    with pytest.raises(RuntimeError, match=message):
        torch.ops.hpvod.warp(*arguments)
    with pytest.raises(RuntimeError, match=message):
        torch.ops.hpvod.warp_backward(FEATURE, *arguments, True, True, False)
    with pytest.raises(RuntimeError, match="grad_output must have the output's shape"):
        torch.ops.hpvod.warp_backward(FEATURE[:1], FEATURE, FLOW, None, True, True, False)
