"""warp_aggregate through its public function, in the backend of each device."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from ops.listed_cases import DTYPES, check_error, unit_in_the_last_place
from ops.warp_aggregate_cases import (
    Inputs,
    check_against_reference,
    evaluate,
    gradients,
    random_inputs,
)
from ops.warp_cases import LAYOUTS, poisoned_memory
from torch import Tensor

from hpvod_ops import aggregate, reference, use_backend, warp, warp_aggregate

CASES = 200


def some_inputs(
    device: torch.device,
    *,
    dtype: torch.dtype = torch.float64,
    layout: torch.memory_format = torch.contiguous_format,
    size: tuple[int, int] = (3, 5),
    channels: tuple[int, int] = (6, 4),
    masked: bool = True,
) -> Inputs:
    """All arguments; flow in quarters, away from whole pixels."""
    c, e = channels

    def maps(channels: int) -> Tensor:
        values = torch.randn(2, channels, *size).to(device, dtype)
        return values.contiguous(memory_format=layout)

    flow = torch.randint(-6, 6, (2, 2, *size)) / 2 + 0.25
    inputs = Inputs(maps(c), maps(e), maps(c), maps(e), flow.to(device, dtype))
    if not masked:
        return inputs
    mask = torch.rand(2, 1, *size, device=device) < 0.5
    return replace(inputs, mask=mask, own_feature=maps(c), own_embedding=maps(e), scale=maps(c))


def composed(
    key_feature: Tensor,
    key_embedding: Tensor,
    feature: Tensor,
    embedding: Tensor,
    flow: Tensor,
    *,
    mask: Tensor | None = None,
    own_feature: Tensor | None = None,
    own_embedding: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """The same by the other public ops."""
    if mask is not None:
        assert own_feature is not None and own_embedding is not None
        feature = torch.where(mask, feature, warp(own_feature, flow, scale))
        embedding = torch.where(mask, embedding, warp(own_embedding, flow))
    return aggregate([warp(key_feature, flow), feature], [warp(key_embedding, flow), embedding])


@pytest.mark.parametrize("index", range(CASES))
def test_agrees_with_reference(index: int, backend_device: torch.device) -> None:
    inputs = random_inputs(index, backend_device)
    with poisoned_memory():
        result = evaluate(warp_aggregate, inputs)
    check_against_reference(result, inputs)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_agrees_with_the_other_ops(
    masked: bool, layout: torch.memory_format, backend_device: torch.device
) -> None:
    inputs = some_inputs(backend_device, layout=layout, masked=masked)
    expected = evaluate(composed, inputs)
    # A few roundings of float64.
    torch.testing.assert_close(evaluate(warp_aggregate, inputs), expected, rtol=1e-13, atol=1e-14)
    grad_output = torch.randn_like(expected)
    found = gradients(warp_aggregate, inputs, grad_output)
    for name, gradient in gradients(composed, inputs, grad_output).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-12, atol=1e-13, msg=name)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_agree_with_the_reference(
    masked: bool, dtype: torch.dtype, backend_device: torch.device
) -> None:
    inputs = some_inputs(backend_device, dtype=dtype, masked=masked, size=(6, 7))
    grad_output = torch.randn_like(inputs.feature)
    results = gradients(warp_aggregate, inputs, grad_output)
    truths = gradients(reference.warp_aggregate, inputs, grad_output, torch.float64)
    compositions = gradients(reference.warp_aggregate, inputs, grad_output)
    for name, result in results.items():
        # Of the largest, for a gradient is the sum of many terms.
        unit = unit_in_the_last_place(4 * truths[name].abs(), dtype)
        check_error(result, truths[name], compositions[name], unit)


def test_exactly_equations_7_and_10(backend_device: torch.device) -> None:
    """On whole pixels, position by position."""
    inputs = some_inputs(backend_device)
    inputs = replace(inputs, flow=inputs.flow.round())
    result = evaluate(warp_aggregate, inputs)
    arguments = inputs.arguments()

    def moved(name: str, n: int, y: int, x: int) -> list[float]:
        dx, dy = inputs.flow[n, :, y, x].int().tolist()
        map = arguments[name]
        assert map is not None
        inside = 0 <= y + dy < 3 and 0 <= x + dx < 5
        values: list[float] = (
            map[n, :, y + dy, x + dx] if inside else 0 * map[n, :, 0, 0]
        ).tolist()
        return values

    def cosine(one: list[float], two: list[float]) -> float:
        dot = sum(a * b for a, b in zip(one, two, strict=True))
        return dot / max(math.hypot(*one) * math.hypot(*two), 1e-24)

    assert inputs.mask is not None and inputs.scale is not None
    for n in range(2):
        for y in range(3):
            for x in range(5):
                k, e_k = moved("key_feature", n, y, x), moved("key_embedding", n, y, x)
                if inputs.mask[n, 0, y, x]:
                    i = inputs.feature[n, :, y, x].tolist()
                    e_i = inputs.embedding[n, :, y, x].tolist()
                else:
                    scale = inputs.scale[n, :, y, x].tolist()
                    own = moved("own_feature", n, y, x)
                    i = [s * v for s, v in zip(scale, own, strict=True)]
                    e_i = moved("own_embedding", n, y, x)
                w_k, w_i = math.exp(cosine(e_k, e_i)), math.exp(cosine(e_i, e_i))
                expected = [(w_k * a + w_i * b) / (w_k + w_i) for a, b in zip(k, i, strict=True)]
                torch.testing.assert_close(
                    result[n, :, y, x].tolist(), expected, rtol=1e-13, atol=1e-14
                )


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, -1e30, 2.0**31, -(2.0**31)])
def test_flow_that_points_nowhere_reads_nothing(
    bad: float, layout: torch.memory_format, backend_device: torch.device
) -> None:
    inputs = some_inputs(backend_device, dtype=torch.float32, layout=layout)
    wild = torch.rand(2, 3, 5, device=backend_device) < 0.3
    inputs.key_feature[:, :, 0, 0] = math.nan  # must not leak through a weight of zero
    inputs.key_embedding[:, :, 0, 0] = math.nan
    inputs.flow[:, 0][wild] = 1000.0
    expected = evaluate(warp_aggregate, inputs)
    inputs.flow[:, 0][wild] = bad
    assert torch.equal(evaluate(warp_aggregate, inputs).nan_to_num(-99), expected.nan_to_num(-99))
    rows = expected.permute(0, 2, 3, 1)[wild]
    assert rows.isfinite().all()
    # Both are zeros where the mask is 0; where it is 1, the current embedding weighs e to 1.
    assert inputs.mask is not None
    updated = inputs.mask[:, 0][wild]
    current = inputs.feature.permute(0, 2, 3, 1)[wild] * (math.e / (1 + math.e))
    torch.testing.assert_close(rows, current * updated[:, None], rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_two_embeddings_of_zeros_weigh_alike(
    dtype: torch.dtype, backend_device: torch.device
) -> None:
    inputs = some_inputs(backend_device, dtype=dtype, masked=False)
    inputs.embedding.zero_()
    inputs = replace(inputs, flow=torch.zeros_like(inputs.flow))
    mean = (inputs.key_feature.double() + inputs.feature.double()) / 2
    # The key frame's embedding has cosine 0 with it, whatever it is.
    for key_embedding in (inputs.key_embedding, torch.zeros_like(inputs.key_embedding)):
        result = evaluate(warp_aggregate, replace(inputs, key_embedding=key_embedding))
        assert torch.equal(result, mean.to(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_weights_sum_to_one(dtype: torch.dtype, backend_device: torch.device) -> None:
    inputs = some_inputs(backend_device, dtype=dtype, masked=False)
    ones = torch.ones_like(inputs.feature)
    flow = torch.zeros_like(inputs.flow)
    result = evaluate(warp_aggregate, replace(inputs, key_feature=ones, feature=ones, flow=flow))
    tolerance = 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(result, ones, rtol=0, atol=tolerance)


@pytest.mark.parametrize("updated", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_what_the_mask_leaves_out_is_not_read(
    layout: torch.memory_format, updated: bool, backend_device: torch.device
) -> None:
    inputs = some_inputs(backend_device, layout=layout)
    assert inputs.mask is not None
    inputs = replace(inputs, mask=torch.full_like(inputs.mask, updated))
    expected = evaluate(warp_aggregate, inputs)
    unread = ("own_feature", "own_embedding", "scale") if updated else ("feature", "embedding")
    for name in unread:
        inputs.floats()[name].fill_(math.nan)
    assert torch.equal(evaluate(warp_aggregate, inputs), expected)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_mask_of_ones_is_none(layout: torch.memory_format, backend_device: torch.device) -> None:
    inputs = some_inputs(backend_device, layout=layout)
    assert inputs.mask is not None
    inputs = replace(inputs, mask=torch.ones_like(inputs.mask))
    without = replace(inputs, mask=None, own_feature=None, own_embedding=None, scale=None)
    assert torch.equal(evaluate(warp_aggregate, inputs), evaluate(warp_aggregate, without))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("channels", [1, 6])
def test_keeps_the_layout_of_the_current_feature(
    channels: int, layout: torch.memory_format, backend_device: torch.device
) -> None:
    inputs = some_inputs(backend_device, layout=layout, channels=(channels, 4))
    inputs = replace(inputs, key_feature=inputs.key_feature.contiguous())
    assert evaluate(warp_aggregate, inputs).is_contiguous(memory_format=layout)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_empty(shape: tuple[int, int, int, int], backend_device: torch.device) -> None:
    batch, _, height, width = shape
    maps = [
        torch.randn(batch, channels, height, width, device=backend_device)
        for channels in (shape[1], 6, shape[1], 6, 2)
    ]
    output = warp_aggregate(*maps)
    assert output.shape == shape
    for name, gradient in gradients(warp_aggregate, Inputs(*maps), output).items():
        assert not gradient.any(), name


def test_embeddings_without_channels_weigh_alike(backend_device: torch.device) -> None:
    inputs = some_inputs(backend_device, channels=(6, 0))
    expected = evaluate(composed, inputs)
    torch.testing.assert_close(evaluate(warp_aggregate, inputs), expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_result_does_not_depend_on_the_threads_and_hardly_on_the_layout(
    masked: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    inputs = some_inputs(
        torch.device("cpu"), dtype=dtype, size=(31, 60), channels=(700, 450), masked=masked
    )
    # Some neighbours move alike, others not.
    inputs.flow[..., :20] = inputs.flow[..., :1, :1]
    threads, of_layout = torch.get_num_threads(), []
    for layout in LAYOUTS:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            maps = {k: v.contiguous(memory_format=layout) for k, v in inputs.floats().items()}
            results.append(evaluate(warp_aggregate, replace(inputs, **maps)))
        assert all(torch.equal(result, results[0]) for result in results[1:])
        of_layout.append(results[0])
    torch.set_num_threads(threads)
    torch.testing.assert_close(*of_layout)  # sums are made in another order


@pytest.mark.parametrize("wanted", ["key_feature", "embedding", "flow", "own_embedding", "scale"])
def test_only_the_gradients_that_are_wanted(wanted: str, backend_device: torch.device) -> None:
    inputs = some_inputs(backend_device)
    grad_output = torch.randn_like(inputs.feature)
    expected = gradients(warp_aggregate, inputs, grad_output)[wanted]
    leaf = inputs.floats()[wanted].requires_grad_()
    (result,) = torch.autograd.grad(evaluate(warp_aggregate, inputs), leaf, grad_output)
    assert torch.equal(result, expected)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_gradcheck(
    masked: bool, layout: torch.memory_format, backend: str, backend_device: torch.device
) -> None:
    inputs = some_inputs(backend_device, layout=layout, masked=masked, size=(2, 3), channels=(2, 3))
    leaves = inputs.floats()

    def of_leaves(*values: Tensor) -> Tensor:
        named = dict(zip(leaves, values, strict=True))
        return warp_aggregate(**{**inputs.arguments(), **named})  # type: ignore[arg-type]

    # Where nothing is read, the cosine has no gradient: flow stays in the map.
    inputs.flow.clamp_(-0.4, 0.4)
    fast = backend == "reference"  # plain PyTorch
    leaves = {name: x.requires_grad_() for name, x in leaves.items()}
    assert torch.autograd.gradcheck(of_leaves, tuple(leaves.values()), fast_mode=fast)


def test_a_second_derivative_is_refused(kernel_device: torch.device) -> None:
    inputs = some_inputs(kernel_device)
    key_feature = inputs.key_feature.requires_grad_()
    flow = inputs.flow.requires_grad_()
    output = evaluate(warp_aggregate, inputs)
    (gradient,) = torch.autograd.grad(output.sum(), flow, create_graph=True)
    with pytest.raises(NotImplementedError, match="warp is differentiable once"):
        torch.autograd.grad(gradient.sum(), key_feature)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_opcheck(
    masked: bool, layout: torch.memory_format, kernel_device: torch.device, overload: str
) -> None:
    inputs = some_inputs(kernel_device, dtype=torch.float32, layout=layout, masked=masked)
    for tensor in inputs.floats().values():
        tensor.requires_grad_()
    op = getattr(torch.ops.hpvod.warp_aggregate, overload)
    torch.library.opcheck(op, tuple(inputs.arguments().values()))


def test_opcheck_of_views(kernel_device: torch.device, overload: str) -> None:
    """The fake kernel predicts the strides for maps that are not dense as well."""
    for index in range(32):
        inputs = random_inputs(index, kernel_device)
        torch.library.opcheck(
            getattr(torch.ops.hpvod.warp_aggregate, overload),
            tuple(inputs.arguments().values()),
            test_utils="test_faketensor",
        )


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_compiles_in_one_graph(layout: torch.memory_format, kernel_device: torch.device) -> None:
    inputs = some_inputs(kernel_device, layout=layout)
    leaf = inputs.key_feature.requires_grad_()

    def head(key_feature: Tensor, flow: Tensor) -> Tensor:
        moved = replace(inputs, key_feature=key_feature * 2, flow=flow + 0.125)
        return evaluate(warp_aggregate, moved).relu()

    compiled = torch.compile(head, fullgraph=True)(leaf, inputs.flow)
    eager = head(leaf, inputs.flow)
    assert torch.equal(compiled, eager)
    weight = torch.randn_like(eager)
    one, two = (torch.autograd.grad(output, leaf, weight)[0] for output in (compiled, eager))
    # The compiler orders the sums of float64 in its own way.
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-14)


class Head(torch.nn.Module):
    def forward(self, *maps: Tensor) -> Tensor:
        return warp_aggregate(*maps)


def test_exports_with_dynamic_shapes(kernel_device: torch.device, overload: str) -> None:
    maps = tuple(some_inputs(kernel_device, masked=False).floats().values())
    height, width = torch.export.Dim("height", max=64), torch.export.Dim("width", max=64)
    shapes = (tuple({2: height, 3: width} for _ in maps),)
    program = torch.export.export(Head(), maps, dynamic_shapes=shapes)
    others = some_inputs(kernel_device, masked=False, size=(9, 4)).floats().values()
    assert torch.equal(program.module()(*others), warp_aggregate(*others))
    targets = {str(node.target) for node in program.graph.nodes}
    assert f"hpvod.warp_aggregate.{overload}" in targets


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["cuda", "triton"])
def test_runs_in_a_cuda_graph(name: str) -> None:
    inputs = some_inputs(torch.device("cuda"), dtype=torch.float32, layout=torch.channels_last)
    with use_backend(name):
        evaluate(warp_aggregate, inputs)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = evaluate(warp_aggregate, inputs)
        inputs.key_feature.mul_(3)
        graph.replay()
        assert torch.equal(output, evaluate(warp_aggregate, inputs))


F = torch.zeros(2, 3, 4, 5)
E = torch.zeros(2, 6, 4, 5)
FLOW = torch.zeros(2, 2, 4, 5)
MASK = torch.zeros(2, 1, 4, 5, dtype=torch.bool)
GOOD = {"key_feature": F, "key_embedding": E, "feature": F, "embedding": E, "flow": FLOW}
OWN = {"mask": MASK, "own_feature": F, "own_embedding": E}


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"feature": F[0]}, ValueError, r"feature must be \[N, C, H, W\], not \[3, 4, 5\]"),
        ({"embedding": E[0]}, ValueError, r"embedding must be \[N, C, H, W\], not \[6, 4, 5\]"),
        ({"embedding": E[:1]}, ValueError, r"embedding must be \[2, 6, 4, 5\] .*not \[1, 6, 4"),
        ({"key_feature": E}, ValueError, r"key_feature must be \[2, 3, 4, 5\] .*not \[2, 6, 4, 5"),
        ({"key_embedding": F}, ValueError, r"key_embedding must be \[2, 6, 4, 5\] .*not \[2, 3"),
        ({"flow": F}, ValueError, r"flow must be \[2, 2, 4, 5\] .*not \[2, 3, 4, 5\]"),
        ({"mask": MASK[:1]}, ValueError, r"mask must be \[2, 1, 4, 5\] .*not \[1, 1, 4, 5\]"),
        ({"own_feature": E}, ValueError, r"own_feature must be \[2, 3, 4, 5\]"),
        ({"own_embedding": F}, ValueError, r"own_embedding must be \[2, 6, 4, 5\]"),
        ({"scale": E}, ValueError, r"scale must be \[2, 3, 4, 5\] .*not \[2, 6, 4, 5\]"),
        ({"key_feature": F.half()}, TypeError, "key_feature must be torch.float32, not torch.f"),
        ({"embedding": E.half()}, TypeError, "embedding must be torch.float32, not torch.float16"),
        ({"flow": FLOW.double()}, TypeError, "flow must be torch.float32, not torch.float64"),
        ({"mask": MASK.byte()}, TypeError, "mask must be torch.bool, not torch.uint8"),
        ({"scale": F.half()}, TypeError, "scale must be torch.float32, not torch.float16"),
        ({"flow": FLOW.to("meta")}, ValueError, "flow is on meta, but feature is on cpu"),
        ({"mask": MASK.to("meta")}, ValueError, "mask is on meta, but feature is on cpu"),
        ({"own_feature": None}, ValueError, "own_feature is needed with a mask"),
        ({"own_embedding": None}, ValueError, "own_embedding is needed with a mask"),
        ({"mask": None}, ValueError, "own_feature is read where the mask is 0: it needs a mask"),
        (
            {"mask": None, "own_feature": None, "own_embedding": None, "scale": F},
            ValueError,
            "scale is read where the mask is 0: it needs a mask",
        ),
    ],
)
def test_bad_argument_is_named(
    bad: dict[str, Tensor | None], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        warp_aggregate(**{**GOOD, **OWN, **bad})  # type: ignore[arg-type]


def test_integers_are_not_supported() -> None:
    maps = {name: tensor.int() for name, tensor in GOOD.items()}
    with pytest.raises(RuntimeError, match=r"torch.int32 is not supported"):
        warp_aggregate(**maps)
    with pytest.raises(RuntimeError, match="feature must be float32, float16, bfloat16 or"):
        torch.ops.hpvod.warp_aggregate(*maps.values(), None, None, None, None)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"feature": F[0]}, r"feature must be \[N, C, H, W\], not \[3, 4, 5\]"),
        ({"embedding": E[0]}, r"embedding must be \[N, E, H, W\], not \[6, 4, 5\]"),
        ({"embedding": E[:1]}, r"embedding must be \[N, 6, H, W\]"),
        ({"key_feature": E}, r"key_feature must be \[N, 3, H, W\]"),
        ({"key_embedding": F}, r"key_embedding must be \[N, 6, H, W\]"),
        ({"flow": FLOW[..., :4]}, r"flow must be \[N, 2, H, W\]"),
        ({"flow": FLOW.double()}, "flow must have the feature's dtype, or be float32"),
        ({"mask": MASK[:1]}, r"mask must be \[N, 1, H, W\]"),
        ({"mask": MASK.byte()}, "mask must be bool"),
        ({"own_feature": E}, r"own_feature must be \[N, 3, H, W\]"),
        ({"own_embedding": E.half()}, "own_embedding must have the feature's dtype"),
        ({"scale": F[:, :1]}, r"scale must be \[N, 3, H, W\]"),
        ({"own_feature": None}, "mask, own_feature and own_embedding go together"),
        ({"mask": None}, "mask, own_feature and own_embedding go together"),
    ],
)
def test_the_schema_itself_is_safe(bad: dict[str, Tensor | None], message: str) -> None:
    """torch.ops.hpvod.warp_aggregate can be called without the public function's checks."""
    arguments = {**GOOD, **OWN, "scale": F, **bad}
    with pytest.raises(RuntimeError, match=message):
        torch.ops.hpvod.warp_aggregate(*arguments.values())
