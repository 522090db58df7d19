from __future__ import annotations

import importlib.util
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hpvod_ops.reference.warp import warp as reference
from hpvod_ops.triton import unavailable_reason

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

from hpvod_ops.triton import warp as triton_warp
from hpvod_ops.triton.warp import warp_backward, warp_forward

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
LAYOUTS = (torch.contiguous_format, torch.channels_last)
ALL = (True, True, True)
NAMES = ("output", "grad_feature", "grad_flow", "grad_scale")


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Fresh tensors hold NaN, or the largest integer: what is not written shows."""
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(1).isnan()
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def run(
    feature: Tensor, flow: Tensor, scale: Tensor | None, grad_output: Tensor
) -> tuple[Tensor, ...]:
    with poisoned_memory():
        output = warp_forward(feature, flow, scale)
        mask = (True, True, scale is not None)
        gradients = warp_backward(grad_output, feature, flow, scale, mask)
    return output, *gradients[: sum(mask)]


def run_reference(
    feature: Tensor, flow: Tensor, scale: Tensor | None, grad_output: Tensor
) -> tuple[Tensor, ...]:
    leaves = [tensor.detach().requires_grad_() for tensor in (feature, flow)]
    if scale is not None:
        leaves.append(scale.detach().requires_grad_())
    output = reference(*leaves)
    return output.detach(), *torch.autograd.grad(output, leaves, grad_output)


def run_double(
    feature: Tensor, flow: Tensor, scale: Tensor | None, grad_output: Tensor
) -> tuple[Tensor, ...]:
    """The truth: the reference in float64, on the same numbers."""
    scale = None if scale is None else scale.double()
    return run_reference(feature.double(), flow.double(), scale, grad_output.double())


def last_places(
    feature: Tensor, flow: Tensor, scale: Tensor | None, grad_output: Tensor
) -> tuple[float, ...]:
    """For each result, a unit in the last place of the largest sum of its terms' absolute values.

    So much is lost in adding the terms in any order. The composition's error can by luck be
    far smaller, above all where one pixel alone has a gradient, or where it is the truth itself.
    """
    wide = torch.float64 if feature.dtype == torch.float64 else torch.float32
    others = flow, None if scale is None else scale.abs(), grad_output.abs()
    output, grad_feature, _, *grad_scale = run_double(feature.abs(), *others)
    # grad_flow sums differences between neighbours: of alternating signs, they add up.
    alternating = [1 - torch.arange(size, device=flow.device) % 2 * 2 for size in flow.shape[2:]]
    along_y = run_double(feature.abs() * alternating[0][:, None], *others)[2][:, 1]
    along_x = run_double(feature.abs() * alternating[1], *others)[2][:, 0]
    grad_flow = torch.stack((along_x, along_y)).abs()
    return tuple(
        math.ldexp(torch.finfo(wide).eps, math.frexp(float(terms.max()))[1] - 1)
        for terms in (output, grad_feature, grad_flow, *grad_scale)
    )


@dataclass(frozen=True)
class Case:
    """One of the random cases; `index` alone determines it."""

    index: int

    def __str__(self) -> str:
        return str(self.index)

    def tensors(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        choose = random.Random(self.index)
        torch.manual_seed(self.index)
        dtype, layout = DTYPES[self.index % 4], LAYOUTS[self.index // 4 % 2]
        batch = choose.choice((1, 1, 1, 2, 3))
        feature_batch = choose.choice((1, batch))
        channels = choose.choice((1, 2, 3, 5, 8, 12))
        height, width = choose.choice((1, 2, 3)), choose.choice((1, 2, 3, 5))
        if self.index % 12 == 0:  # wider than a block of pixels, or of channels
            height, width = choose.choice(((3, 43), (11, 12), (257, 1)))
            channels, batch, feature_batch = choose.choice((1, 2, 3)), 1, 1
        elif self.index % 5 == 0:
            channels = choose.choice((130, 257, 300))
            height, width = 1, choose.choice((1, 2, 3))
        shape = (batch, channels, height, width)

        def random_map(*shape: int) -> Tensor:
            values = torch.randn(shape).to(dtype)
            surround = choose.choice(("none", "batch", "channels", "columns"))
            if surround == "none":
                return values.to(device, memory_format=layout)
            axis = ("batch", "channels", "columns").index(surround)
            axis = 3 if axis == 2 else axis
            padded_shape = list(shape)
            padded_shape[axis] += 2
            padded = torch.full(padded_shape, math.nan, dtype=dtype, device=device)
            view = padded.contiguous(memory_format=layout).narrow(axis, 1, shape[axis])
            return view.copy_(values)

        flow_dtype = choose.choice((dtype, torch.float32))
        reach = choose.choice((0.3, 1.0, 4.0, 100.0))
        flow = torch.randn(batch, 2, height, width) * reach
        if choose.random() < 0.2:
            flow = flow.round()
        scale = random_map(*shape) if choose.random() < 0.5 else None
        feature = random_map(feature_batch, *shape[1:])
        return feature, flow.to(device, flow_dtype), scale, random_map(*shape)


@pytest.mark.parametrize("case", [Case(index) for index in range(200)], ids=str)
def test_agrees_with_reference(
    case: Case, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    feature, flow, scale, grad_output = case.tensors(device)
    if case.index % 2:  # each program loops over all channels instead
        monkeypatch.setattr(triton_warp, "ENOUGH_PROGRAMS", 1)
    inputs = feature, flow, scale, grad_output
    results, truths = run(*inputs), run_double(*inputs)
    composed, units = run_reference(*inputs), last_places(*inputs)
    for name, result, truth, composition, unit in zip(
        NAMES, results, truths, composed, units, strict=False
    ):
        assert (result.shape, result.dtype) == (composition.shape, composition.dtype), name
        error = float((result.double() - truth).abs().max())
        composition_error = float((composition.double() - truth).abs().max())
        assert error <= 2 * (composition_error + unit), name


def exact_case(
    device: torch.device, layout: torch.memory_format = torch.contiguous_format
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Small integers, and flow in quarters: every sum is exact, in whatever order."""
    shape = (2, 6, 5, 7)
    feature, scale, grad_output = (
        torch.randint(-4, 5, shape).float().to(device, memory_format=layout) for _ in range(3)
    )
    flow = (torch.randint(-12, 13, (2, 2, 5, 7)) / 4).to(device)
    return feature, flow, scale, grad_output


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_exact_where_the_sums_are(layout: torch.memory_format, device: torch.device) -> None:
    inputs = exact_case(device, layout)
    expected = run_reference(*inputs)
    for name, result, truth in zip(NAMES, run(*inputs), expected, strict=True):
        assert torch.equal(result, truth), name


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_wide_offsets_give_the_same(
    layout: torch.memory_format, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = exact_case(device, layout)
    narrow = run(*inputs)
    monkeypatch.setattr(triton_warp, "INT32_ELEMENTS", 0)
    for name, result, expected in zip(NAMES, run(*inputs), narrow, strict=True):
        assert torch.equal(result, expected), name


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, -(2.0**31)])
def test_flow_that_points_nowhere(
    bad: float, layout: torch.memory_format, device: torch.device
) -> None:
    feature, flow, scale, grad_output = exact_case(device, layout)
    pixels = torch.rand(2, 5, 7, device=device) < 0.3
    axis = int(bad > 0)
    # As if it pointed just far away; the first pixel's NaN must not leak through either.
    feature[:, :, 0, 0] = math.nan
    far, wild = flow.clone(), flow.clone()
    far[:, axis][pixels], wild[:, axis][pixels] = 1000.0, bad
    expected = run(feature, far, scale, grad_output)
    results = run(feature, wild, scale, grad_output)
    for name, result, wanted in zip(NAMES, results, expected, strict=True):
        assert torch.equal(result.nan_to_num(-99.0), wanted.nan_to_num(-99.0)), name
    everywhere = pixels[:, None]
    assert not results[0][everywhere.expand_as(results[0])].any()
    assert not results[2][everywhere.expand_as(results[2])].any()


def test_every_pixel_reads_the_same_four(device: torch.device) -> None:
    shape = (2, 3, 6, 7)
    feature = torch.randint(-4, 5, (1, *shape[1:])).float().to(device)
    grad_output = torch.randint(-4, 5, shape).float().to(device)
    flow = torch.empty(2, 2, 6, 7, device=device)
    flow[:, 0] = 2.25 - torch.arange(7, device=device)
    flow[:, 1] = 3.5 - torch.arange(6, device=device)[:, None]
    results = run(feature, flow, None, grad_output)
    expected = run_reference(feature, flow, None, grad_output)
    for name, result, truth in zip(NAMES, results, expected, strict=False):
        assert torch.equal(result, truth), name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_zero_flow_is_the_identity(dtype: torch.dtype, device: torch.device) -> None:
    feature, grad_output = torch.randn(2, 2, 3, 4, 5, device=device).to(dtype)
    output, grad_feature, _ = run(feature, feature.new_zeros(2, 2, 4, 5), None, grad_output)
    assert torch.equal(output, feature)
    assert torch.equal(grad_feature, grad_output)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_memory_format_is_the_features(layout: torch.memory_format, device: torch.device) -> None:
    feature, flow, scale, grad_output = exact_case(device)
    expected = run(feature, flow, scale, grad_output)
    feature = feature.to(memory_format=layout)
    flow = flow.transpose(2, 3).contiguous().transpose(2, 3)
    results = run(feature, flow, scale, grad_output)
    for name, result, wanted in zip(NAMES, results, expected, strict=True):
        memory_format = torch.contiguous_format if name == "grad_flow" else layout
        assert result.is_contiguous(memory_format=memory_format), name
        assert torch.equal(result, wanted), name


def test_only_the_wanted_gradients(device: torch.device) -> None:
    feature, flow, scale, grad_output = exact_case(device)
    complete = warp_backward(grad_output, feature, flow, scale, ALL)
    for wanted in range(3):
        mask = (wanted == 0, wanted == 1, wanted == 2)
        for index, gradient in enumerate(warp_backward(grad_output, feature, flow, scale, mask)):
            if index == wanted:
                assert torch.equal(gradient, complete[index])
            else:
                assert gradient.numel() == 0


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_empty(shape: tuple[int, int, int, int], device: torch.device) -> None:
    batch, channels, height, width = shape
    feature = torch.randn(1, channels, height, width, device=device)
    flow = torch.randn(batch, 2, height, width, device=device)
    empty = torch.randn(shape, device=device)
    output, *gradients = run(feature, flow, empty, empty)
    assert output.shape == shape
    for gradient, input_ in zip(gradients, (feature, flow, empty), strict=True):
        assert gradient.shape == input_.shape
        assert not gradient.any()


def test_compiles_ahead_of_time(tmp_path: Path) -> None:
    layouts = ("channels_last", "contiguous")
    variants = [(90, dtype, layout, False) for dtype in ("fp32", "bf16") for layout in layouts]
    variants += [(80, "fp16", "channels_last", True), (80, "fp64", "contiguous", True)]

    environment = dict(os.environ, TRITON_CACHE_DIR=str(tmp_path))
    environment.pop("TRITON_INTERPRET", None)
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    program = Path(__file__).with_name("compile_warp_triton.py")
    command = [sys.executable, str(program), json.dumps(variants)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if "Cannot find ptxas" in done.stderr:
        pytest.skip("Triton came without ptxas")
    assert done.returncode == 0, done.stderr
    ptx: dict[str, str] = json.loads(done.stdout)

    assert sum("link" not in name for name in ptx) == 3 * len(variants)
    for name, text in ptx.items():
        if "channels_last" in name:
            assert text.count("ld.global.v4.b32") >= 2, name
            assert "ld.global.b16" not in text, name
            assert "st.global.v4.b32" in text, name


def test_reasons_why_triton_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda", 0)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert unavailable_reason(cpu, torch.bfloat16) is None
    monkeypatch.delenv("TRITON_INTERPRET")
    assert "TRITON_INTERPRET=1" in str(unavailable_reason(cpu, torch.float32))
    assert "mps" in str(unavailable_reason(torch.device("mps"), torch.float32))

    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Some GPU")
    for capability, dtype, runs in (
        ((9, 0), torch.bfloat16, True),
        ((7, 5), torch.float32, True),
        ((7, 5), torch.bfloat16, False),
        ((6, 1), torch.float16, False),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        reason = unavailable_reason(cuda, dtype)
        assert reason is None if runs else "Some GPU has" in str(reason)

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert unavailable_reason(cuda, torch.float32) == "Triton is not installed"


def test_hpvod_ops_needs_no_triton() -> None:
    program = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch, hpvod_ops, hpvod_ops.triton as package\n"
        "reason = package.unavailable_reason(torch.device('cpu'), torch.float32)\n"
        "assert reason == 'Triton is not installed', reason"
    )
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


@pytest.mark.gpu
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_beyond_int32(layout: torch.memory_format) -> None:
    shape = (1, 2, 2**15, 2**15 + 8)  # 2^31 elements and some: 4 GiB a map
    feature = torch.randint(-4, 5, shape, dtype=torch.int8, device="cuda").to(torch.float16)
    feature = feature.contiguous(memory_format=layout)
    flow = torch.zeros(1, 2, *shape[2:], dtype=torch.float16, device="cuda")
    assert feature.numel() > 2**31
    assert torch.equal(warp_forward(feature, flow, None), feature)
    grad_feature, _, _ = warp_backward(feature, feature, flow, None, (True, False, False))
    assert torch.equal(grad_feature, feature)


@pytest.mark.gpu
def test_in_a_cuda_graph(device: torch.device) -> None:
    inputs = exact_case(device)
    feature, flow, scale, grad_output = inputs
    expected = warp_forward(feature, flow, scale), *warp_backward(grad_output, *inputs[:3], ALL)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = warp_forward(feature, flow, scale), *warp_backward(grad_output, *inputs[:3], ALL)
    graph.replay()
    for name, result, wanted in zip(NAMES, results, expected, strict=True):
        assert torch.equal(result, wanted), name
