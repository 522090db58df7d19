"""ps_roi_pool through its public function, in the backend of each device."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from ops.ps_roi_pool_cases import (
    DTYPES,
    LAYOUTS,
    check_against_reference,
    evaluate,
    exact_inputs,
    random_inputs,
    random_rois,
)
from ops.warp_cases import poisoned_memory
from torch import Tensor
from torchvision.ops import ps_roi_pool as torchvision_ps_roi_pool

from hpvod_ops import ps_roi_pool, reference, use_backend
from hpvod_ops.backends import can_run
from models import literal_boxes

CASES = 120
GPU = torch.cuda.is_available()
# Without a GPU, tests/simt runs the CUDA kernel, and the interpreter Triton's on fewer cases, in
# test_ps_roi_pool_triton.py.
KERNELS = ("cpu", "cuda", "triton") if GPU else ("cpu",)


@pytest.fixture(params=(*KERNELS, "reference"))
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


def known_rois(count: int, images: int, height: int, width: int) -> Tensor:
    """RoIs that the loop over their pixels, which is in float32, takes as well."""
    generator = torch.Generator().manual_seed(0)
    sides = torch.tensor([width, height, width, height])
    corners = sides * (1.6 * torch.rand(count, 4, generator=generator) - 0.3)
    corners = torch.cat((corners[:, :2].minimum(corners[:, 2:]), corners[:, 2:]), 1)
    corners = corners.clamp(min=0)
    corners[::3] = corners[::3].floor() + 0.5
    image = torch.randint(0, images, (count, 1), generator=generator)
    return torch.cat((image, corners), 1)


@pytest.mark.parametrize(("groups", "stride"), [(7, 16), (3, 16), (2, 8)])
def test_equals_a_loop(groups: int, stride: int, device: torch.device) -> None:
    maps = torch.randn(2, 3 * groups**2, 9, 13, dtype=torch.float64)
    rois = known_rois(60, 2, 9 * stride, 13 * stride)
    expected = literal_boxes.ps_roi_pool(maps.numpy(), rois.numpy(), groups, stride)
    assert (expected == 0).any()
    found = ps_roi_pool(maps.to(device), rois.to(device), groups, stride).cpu()
    # float64 sums of at most 117 numbers of size 1 in another order.
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=1e-12)


def test_hand_case(device: torch.device) -> None:
    maps = torch.arange(4 * 4 * 4, dtype=torch.float32, device=device).reshape(1, 4, 4, 4)
    # Pixels 16..47 are rows and columns 1 and 2 of the map: one a bin.
    rois = torch.tensor([[0.0, 16.4, 15.5, 47.4, 46.5]], device=device)
    expected = [[5.0, 16 + 6.0], [32 + 9.0, 48 + 10.0]]
    assert ps_roi_pool(maps, rois, 2, 16).tolist() == [[expected]]


def test_torchvision_pools_otherwise() -> None:
    """The reason why this op exists."""
    maps = torch.randn(1, 49, 6, 6)
    rois = torch.tensor([[0.0, 0.0, 0.0, 95.0, 95.0]])
    theirs = torchvision_ps_roi_pool(maps, rois, 7, 1 / 16)
    assert not torch.allclose(ps_roi_pool(maps, rois, 7, 16), theirs, atol=0.1)


@pytest.mark.parametrize("index", range(CASES))
def test_agrees_with_reference(index: int, device: torch.device) -> None:
    inputs = random_inputs(index, device)
    with poisoned_memory():
        results = evaluate(ps_roi_pool, inputs)
    check_against_reference(results, inputs)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_exact_where_the_averages_are(layout: torch.memory_format, device: torch.device) -> None:
    inputs = exact_inputs(device, layout)
    expected = evaluate(reference.ps_roi_pool, inputs, torch.float64)
    for result, truth in zip(evaluate(ps_roi_pool, inputs), expected, strict=True):
        assert torch.equal(result.double(), truth)


def test_the_edge_between_two_pixels_is_exact(device: torch.device) -> None:
    """Where RoIs end at pixels' borders, float32 edges round over some of them."""
    side, groups, stride = 63, 7, 16
    first, last = torch.triu_indices(side, side)
    rois = torch.zeros(len(first), 5)
    rois[:, 1], rois[:, 3] = stride * first, stride * last + stride - 1
    rois[:, 4] = stride - 1
    columns = torch.arange(side, dtype=torch.float64)
    maps = (2.0**columns).repeat(1, groups**2, 1, 1).to(device)
    found = ps_roi_pool(maps, rois.to(device), groups, stride)[:, 0, 0].cpu()
    bin = torch.arange(groups + 1)
    edge = groups * first[:, None] + bin * (last + 1 - first)[:, None]  # in sevenths of a pixel
    begin, end = edge[:, :-1] // groups, -(-edge[:, 1:] // groups)
    expected = (2.0 ** end.double() - 2.0 ** begin.double()) / (end - begin)
    torch.testing.assert_close(found, expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("backend", KERNELS, indirect=True)
def test_values_that_are_not_finite_stay_in_their_bins(
    bad: float, layout: torch.memory_format, device: torch.device
) -> None:
    maps = torch.randn(2, 5 * 9, 6, 7).to(memory_format=layout)
    maps[torch.rand(maps.shape) < 0.02] = bad
    rois = known_rois(30, 2, 96, 112)
    expected = literal_boxes.ps_roi_pool(maps.double().numpy(), rois.numpy(), 3, 16)
    found = ps_roi_pool(maps.to(device), rois.to(device), 3, 16).cpu()
    torch.testing.assert_close(
        found.double(), torch.from_numpy(expected), rtol=1e-5, atol=1e-6, equal_nan=True
    )
    assert 0 < (~found.isfinite()).sum() < found.numel() / 2


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rois_without_pixels_are_zero(dtype: torch.dtype, device: torch.device) -> None:
    maps = torch.randn(2, 8, 5, 6, device=device).to(dtype)
    nan = math.nan
    rois = torch.tensor(
        [
            [0, -90, 0, -40, 50],
            [0, 96, 0, 150, 50],
            [1, 0, 1e30, 50, math.inf],
            [0, nan, 0, 50, 50],
            [1, 0, 0, 50, nan],
            [2, 0, 0, 50, 50],
            [-1, 0, 0, 50, 50],
            [nan, 0, 0, 50, 50],
            [math.inf, 0, 0, 50, 50],
        ],
        device=device,
    )
    assert not ps_roi_pool(maps, rois, 2, 16).any()
    maps.requires_grad_()
    (gradient,) = torch.autograd.grad(ps_roi_pool(maps, rois, 2, 16).sum(), maps)
    assert not gradient.any()


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ((2, 12, 4, 5), 0),
        ((0, 12, 4, 5), 3),
        ((2, 0, 4, 5), 3),
        ((2, 12, 0, 5), 3),
        ((2, 12, 4, 0), 3),
    ],
)
def test_empty(shape: tuple[int, int, int, int], count: int, device: torch.device) -> None:
    maps = torch.randn(shape, device=device, requires_grad=True)
    rois = torch.tensor([[0.0, 0, 0, 50, 50]], device=device).repeat(count, 1)
    with poisoned_memory():
        output = ps_roi_pool(maps, rois, 2, 16)
        (gradient,) = torch.autograd.grad(output.sum(), maps)
    assert output.shape == (count, shape[1] // 4, 2, 2)
    assert not output.any()
    assert torch.equal(gradient, torch.zeros_like(maps))


def test_result_does_not_depend_on_the_threads_or_the_layout() -> None:
    maps = torch.randn(2, 33 * 9, 20, 31)
    rois = random_rois(50, 2, 320, 496, 0)
    threads, results = torch.get_num_threads(), []
    for layout in LAYOUTS:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(ps_roi_pool(maps.contiguous(memory_format=layout), rois, 3, 16))
    torch.set_num_threads(threads)
    for result in results[1:]:
        assert torch.equal(result, results[0])


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_gradcheck(layout: torch.memory_format, device: torch.device) -> None:
    maps = torch.randn(2, 2 * 4, 3, 2, dtype=torch.float64, device=device)
    maps = maps.contiguous(memory_format=layout).requires_grad_()
    rois = random_rois(4, 2, 48, 32, 0).to(device)
    assert torch.autograd.gradcheck(lambda maps: ps_roi_pool(maps, rois, 2, 16), maps)
    assert torch.autograd.gradgradcheck(
        lambda maps: ps_roi_pool(maps, rois, 2, 16), maps, fast_mode=True
    )


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("backend", KERNELS, indirect=True)
def test_opcheck(layout: torch.memory_format, device: torch.device, backend: str) -> None:
    inputs = exact_inputs(device, layout)
    op = torch.ops.hpvod.ps_roi_pool
    torch.library.opcheck(
        op.triton if backend == "triton" else op.default,
        (inputs.score_maps.requires_grad_(), inputs.rois, inputs.groups, inputs.stride),
    )


@pytest.mark.parametrize("backend", KERNELS, indirect=True)
def test_compiles_in_one_graph(device: torch.device) -> None:
    inputs = exact_inputs(device, torch.channels_last)
    maps = inputs.score_maps.requires_grad_()

    def head(maps: Tensor, rois: Tensor) -> Tensor:
        return ps_roi_pool(maps * 2, rois, 2, 16).mean((2, 3))

    compiled, eager = (
        torch.compile(head, fullgraph=True)(maps, inputs.rois),
        head(maps, inputs.rois),
    )
    assert torch.equal(compiled, eager)
    weight = inputs.grad_output[:, :, 0, 0]
    gradients = [torch.autograd.grad(o, maps, weight)[0] for o in (compiled, eager)]
    assert torch.equal(*gradients)


class Head(torch.nn.Module):
    def forward(self, maps: Tensor, rois: Tensor) -> Tensor:
        return ps_roi_pool(maps, rois, 2, 16)


@pytest.mark.parametrize("backend", KERNELS, indirect=True)
def test_exports_with_dynamic_shapes(device: torch.device, backend: str) -> None:
    inputs = exact_inputs(device)
    height, width, count = (torch.export.Dim(name, max=64) for name in ("h", "w", "count"))
    program = torch.export.export(
        Head(),
        (inputs.score_maps, inputs.rois),
        dynamic_shapes=({2: height, 3: width}, {0: count}),
    )
    maps = torch.randn(2, 12, 9, 4, device=device)
    rois = random_rois(7, 2, 144, 64, 0).to(device)
    assert torch.equal(program.module()(maps, rois), ps_roi_pool(maps, rois, 2, 16))
    overload = "triton" if backend == "triton" else "default"
    assert f"hpvod.ps_roi_pool.{overload}" in {str(node.target) for node in program.graph.nodes}


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["cuda", "triton"])
def test_runs_in_a_cuda_graph(name: str) -> None:
    inputs = exact_inputs(torch.device("cuda"), torch.channels_last)
    arguments = (inputs.score_maps, inputs.rois, inputs.groups, inputs.stride)
    with use_backend(name):
        ps_roi_pool(*arguments)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = ps_roi_pool(*arguments)
        inputs.score_maps.mul_(3)
        inputs.rois.add_(16)
        graph.replay()
        assert torch.equal(output, ps_roi_pool(*arguments))


MAPS = torch.zeros(2, 12, 4, 5)
ROIS = torch.zeros(3, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((MAPS[0], ROIS, 2, 16), ValueError, r"score_maps must be \[N, C \* 2 \* 2, h, w\] .*\[12"),
        ((MAPS, ROIS, 5, 16), ValueError, r"score_maps must be .* for 5 groups, not \[2, 12, 4, 5"),
        ((MAPS, ROIS, 0, 16), ValueError, "groups must be 1 to 1024, not 0"),
        ((MAPS, ROIS, 2**16, 16), ValueError, "groups must be 1 to 1024, not 65536"),
        ((MAPS, ROIS, 2, 0), ValueError, "stride must be 1 to 1048576, not 0"),
        ((MAPS, ROIS[:, :4], 2, 16), ValueError, r"rois must be \[R, 5\], not \[3, 4\]"),
        ((MAPS, ROIS[0], 2, 16), ValueError, r"rois must be \[R, 5\], not \[5\]"),
        ((MAPS, ROIS.double(), 2, 16), TypeError, "rois must be torch.float32, not torch.float64"),
        ((MAPS, ROIS.to("meta"), 2, 16), ValueError, "rois is on meta, but score_maps is on cpu"),
        ((MAPS.int(), ROIS, 2, 16), RuntimeError, "torch.int32 is not supported"),
    ],
)
def test_bad_argument_is_named(
    arguments: tuple[Tensor, Tensor, int, int], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ps_roi_pool(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (MAPS[0], ROIS, 2, 16),
            r"score_maps must be \[N, C \* groups \* groups, h, w\], not \[12",
        ),
        ((MAPS, ROIS, 5, 16), "score_maps must be"),
        ((MAPS.int(), ROIS, 2, 16), "score_maps must be float32, float16, bfloat16 or float64"),
        ((MAPS, ROIS, 0, 16), "groups must be 1 to 1024, not 0"),
        ((MAPS, ROIS, 2, 0), "stride must be 1 to 1048576, not 0"),
        ((MAPS, ROIS[:, :4], 2, 16), r"rois must be float32 \[R, 5\]"),
        ((MAPS, ROIS.double(), 2, 16), r"rois must be float32 \[R, 5\]"),
    ],
)
def test_the_schema_itself_is_safe(
    arguments: tuple[Tensor, Tensor, int, int], message: str
) -> None:
    """torch.ops.hpvod.ps_roi_pool can be called without the public function's checks."""
    with pytest.raises(RuntimeError, match=message):
        torch.ops.hpvod.ps_roi_pool(*arguments)
