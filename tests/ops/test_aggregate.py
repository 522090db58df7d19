"""aggregate through its public function, in the backend of each device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from ops.aggregate_cases import (
    Inputs,
    check_against_reference,
    evaluate,
    random_inputs,
)
from ops.listed_cases import DTYPES
from ops.warp_cases import LAYOUTS, poisoned_memory
from torch import Tensor

from hpvod_ops import aggregate, use_backend

CASES = 160


def random_maps(
    count: int,
    channels: int,
    device: torch.device,
    dtype: torch.dtype = torch.float64,
    layout: torch.memory_format = torch.contiguous_format,
    size: tuple[int, int] = (3, 5),
) -> list[Tensor]:
    return [
        torch.randn(2, channels, *size).to(device, dtype).contiguous(memory_format=layout)
        for _ in range(count)
    ]


def weights(embeddings: Sequence[Tensor]) -> Tensor:
    """[T, N, H, W]: what an aggregation weighs each frame with, from features that are its own."""
    batch, _, height, width = embeddings[-1].shape
    frames = len(embeddings)
    features = torch.eye(frames).to(embeddings[-1])[:, None, :, None, None]
    features = features.expand(-1, batch, -1, height, width).contiguous()
    return aggregate(list(features), embeddings).movedim(1, 0)


@pytest.mark.parametrize("count", [1, 2, 19])
def test_exactly_equations_2_and_3(count: int, backend_device: torch.device) -> None:
    features, embeddings = (random_maps(count, c, backend_device) for c in (6, 4))
    result = aggregate(features, embeddings)
    for n in range(2):
        for y in range(3):
            for x in range(5):
                e = [embedding[n, :, y, x].tolist() for embedding in embeddings]
                similar = []
                for other in e:
                    dot = sum(a * b for a, b in zip(other, e[-1], strict=True))
                    similar.append(math.exp(dot / (math.hypot(*other) * math.hypot(*e[-1]))))
                terms = [w * f[n, :, y, x] for w, f in zip(similar, features, strict=True)]
                expected = torch.stack(terms).sum(0) / sum(similar)
                # A few roundings of float64.
                torch.testing.assert_close(result[n, :, y, x], expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("index", range(CASES))
def test_agrees_with_reference(index: int, backend_device: torch.device) -> None:
    inputs = random_inputs(index, backend_device)
    with poisoned_memory():
        results = evaluate(aggregate, inputs)
    check_against_reference(results, inputs)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_frame_is_returned_exactly(
    dtype: torch.dtype, layout: torch.memory_format, backend_device: torch.device
) -> None:
    features, embeddings = (
        random_maps(1, channels, backend_device, dtype, layout) for channels in (37, 5)
    )
    assert torch.equal(aggregate(features, embeddings), features[0])


@pytest.mark.parametrize("count", [2, 19, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_weights_sum_to_one(count: int, dtype: torch.dtype, backend_device: torch.device) -> None:
    found = weights(random_maps(count, 8, backend_device, dtype))
    assert (found > 0).all()
    # Of `count` roundings of numbers below 1.
    tolerance = count * torch.finfo(dtype).eps
    torch.testing.assert_close(found.sum(0), torch.ones_like(found[0]), rtol=0, atol=tolerance)


def test_the_scale_of_an_embedding_does_not_matter(backend_device: torch.device) -> None:
    embeddings = random_maps(3, 8, backend_device)
    scaled = [scale * e for scale, e in zip((1e-9, 1e6, 3.0), embeddings, strict=True)]
    torch.testing.assert_close(weights(scaled), weights(embeddings), rtol=1e-13, atol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_embedding_of_zeros_has_cosine_0(
    dtype: torch.dtype, backend_device: torch.device
) -> None:
    (current,) = random_maps(1, 8, backend_device, dtype)
    found = weights([torch.zeros_like(current), current])
    # exp(0) against exp(1), the current frame's cosine with itself.
    expected = torch.full_like(found[0], 1 / (1 + math.e))
    tolerance = 2 * max(torch.finfo(dtype).eps, 1e-15)
    torch.testing.assert_close(found[0], expected, rtol=tolerance, atol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_current_embedding_of_zeros_weighs_all_alike(
    dtype: torch.dtype, backend_device: torch.device
) -> None:
    others = random_maps(3, 8, backend_device, dtype)
    found = weights([*others, torch.zeros_like(others[0])])
    assert torch.equal(found, torch.full_like(found, 0.25))


def test_an_embedding_of_zeros_gets_no_gradient(backend_device: torch.device) -> None:
    features = random_maps(3, 6, backend_device)
    embeddings = [e.requires_grad_() for e in random_maps(3, 4, backend_device)]
    with torch.no_grad():
        embeddings[0][:, :, 1, 2] = 0
        embeddings[2][:, :, 2, 3] = 0
    first, _, current = torch.autograd.grad(aggregate(features, embeddings).sum(), embeddings)
    assert not first[:, :, 1, 2].any() and not current[:, :, 2, 3].any()
    assert first[:, :, 0, 0].all() and first.abs().max() < 100


def test_low_precision_accumulates_in_float32(backend_device: torch.device) -> None:
    features, embeddings = (random_maps(19, 8, backend_device, torch.bfloat16) for _ in range(2))
    wide = aggregate([f.double() for f in features], [e.double() for e in embeddings])
    result = aggregate(features, embeddings)
    assert result.dtype == torch.bfloat16
    # Half a unit in the last place of bfloat16, and what float32 sums add.
    torch.testing.assert_close(result.double(), wide, rtol=2**-8, atol=1e-5)


def test_agrees_where_maps_are_given_more_than_once(backend_device: torch.device) -> None:
    """FGFA's window is padded with copies of its last frame; the strides may yet differ."""
    features, embeddings = (random_maps(2, c, backend_device, size=(4, 4)) for c in (4, 4))
    turned = features[0].mT
    window = [features[0], turned, features[0], features[1]]
    matching = [embeddings[0], embeddings[0], embeddings[0].mT, embeddings[1]]
    expected = aggregate([f.clone() for f in window], [e.clone() for e in matching])
    assert torch.equal(aggregate(window, matching), expected)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("channels", [1, 6])
def test_keeps_the_layout_of_the_current_features(
    channels: int, layout: torch.memory_format, backend_device: torch.device
) -> None:
    features = random_maps(2, channels, backend_device, layout=layout)
    embeddings = random_maps(2, 3, backend_device)
    others = [features[0].contiguous(), features[1]]
    assert aggregate(others, embeddings).is_contiguous(memory_format=layout)


def test_half_of_the_channels_stays_channels_last(backend_device: torch.device) -> None:
    (whole,) = random_maps(1, 8, backend_device, layout=torch.channels_last)
    output = aggregate([whole[:, 4:]], random_maps(1, 3, backend_device))
    assert output.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(output, whole[:, 4:])


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_empty(shape: tuple[int, int, int, int], backend_device: torch.device) -> None:
    batch, _, height, width = shape
    maps = [
        torch.randn(size, device=backend_device, requires_grad=True)
        for size in (shape, shape, *2 * [(batch, 6, height, width)])
    ]
    output = aggregate(maps[:2], maps[2:])
    assert output.shape == shape
    for leaf, gradient in zip(maps, torch.autograd.grad(output.sum(), maps), strict=True):
        assert gradient.shape == leaf.shape
        assert not gradient.any()


def test_embeddings_without_channels_weigh_all_alike(backend_device: torch.device) -> None:
    features = random_maps(2, 3, backend_device)
    embeddings = [f[:, :0] for f in features]
    assert torch.equal(aggregate(features, embeddings), 0.5 * features[0] + 0.5 * features[1])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [(70, 45), (150, 210), (5, 3)], ids=str)
def test_result_does_not_depend_on_the_threads_and_hardly_on_the_layout(
    channels: tuple[int, int], dtype: torch.dtype
) -> None:
    features, embeddings = (
        [torch.randn(2, count, 31, 60, dtype=dtype) for _ in range(3)] for count in channels
    )
    threads, of_layout = torch.get_num_threads(), []
    for layout in LAYOUTS:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            maps = ([m.contiguous(memory_format=layout) for m in f] for f in (features, embeddings))
            results.append(aggregate(*maps))
        assert all(torch.equal(result, results[0]) for result in results[1:])
        of_layout.append(results[0])
    torch.set_num_threads(threads)
    torch.testing.assert_close(*of_layout)  # sums are made in another order


@pytest.mark.parametrize("wanted", [(0,), (3,), (1, 2), (0, 1, 2, 3)])
def test_only_the_gradients_that_are_wanted(
    wanted: tuple[int, ...], backend_device: torch.device
) -> None:
    features, embeddings = (random_maps(2, channels, backend_device) for channels in (3, 4))
    inputs = Inputs(features, embeddings, torch.randn_like(features[0]))
    expected = evaluate(aggregate, inputs)[1:]
    for index in wanted:
        inputs.maps[index].requires_grad_()
    output = aggregate(inputs.features, inputs.embeddings)
    results = torch.autograd.grad(output, [inputs.maps[i] for i in wanted], inputs.grad_output)
    for index, result in zip(wanted, results, strict=True):
        assert torch.equal(result, expected[index])


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("frames", [1, 3])
def test_gradcheck(
    frames: int, layout: torch.memory_format, backend: str, backend_device: torch.device
) -> None:
    maps = [
        m.requires_grad_()
        for channels in (2, 3)
        for m in random_maps(frames, channels, backend_device, layout=layout, size=(2, 3))
    ]

    def of_maps(*maps: Tensor) -> Tensor:
        return aggregate(maps[:frames], maps[frames:])

    fast = backend == "reference"  # plain PyTorch
    assert torch.autograd.gradcheck(of_maps, maps, fast_mode=fast)
    assert torch.autograd.gradgradcheck(of_maps, maps, fast_mode=True)


def test_gradients_of_maps_made_from_one_another(backend_device: torch.device) -> None:
    """What the op computes anew must not run through what its inputs were computed by."""
    leaf = random_maps(1, 3, backend_device, size=(2, 3))[0].requires_grad_()

    def of_leaf(leaf: Tensor) -> Tensor:
        twice = 2 * leaf
        return aggregate([leaf, twice], [twice.sin(), leaf])

    assert torch.autograd.gradcheck(of_leaf, leaf)
    assert torch.autograd.gradgradcheck(of_leaf, leaf, fast_mode=True)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_opcheck(layout: torch.memory_format, kernel_device: torch.device, overload: str) -> None:
    maps = [
        m.requires_grad_()
        for channels in (3, 4)
        for m in random_maps(2, channels, kernel_device, torch.float32, layout)
    ]
    op = getattr(torch.ops.hpvod.aggregate, overload)
    torch.library.opcheck(op, (maps[:2], maps[2:]))


def test_opcheck_of_views(kernel_device: torch.device, overload: str) -> None:
    """The fake kernel predicts the strides for maps that are not dense as well."""
    for index in range(32):
        inputs = random_inputs(index, kernel_device)
        torch.library.opcheck(
            getattr(torch.ops.hpvod.aggregate, overload),
            (inputs.features, inputs.embeddings),
            test_utils="test_faketensor",
        )


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_compiles_in_one_graph(layout: torch.memory_format, kernel_device: torch.device) -> None:
    features = random_maps(3, 6, kernel_device, layout=layout)
    embeddings = random_maps(3, 4, kernel_device, layout=layout)
    for each in features:
        each.requires_grad_()

    def head(features: list[Tensor], embeddings: list[Tensor]) -> Tensor:
        return aggregate([f * 2 for f in features], embeddings).relu()

    compiled = torch.compile(head, fullgraph=True)(features, embeddings)
    eager = head(features, embeddings)
    assert torch.equal(compiled, eager)
    weight = torch.randn_like(eager)
    gradients = [torch.autograd.grad(o, features, weight) for o in (compiled, eager)]
    for one, two in zip(*gradients, strict=True):
        # The compiler orders the sums of float64 in its own way.
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-14)


class Head(torch.nn.Module):
    def forward(self, features: list[Tensor], embeddings: list[Tensor]) -> Tensor:
        return aggregate(features, embeddings)


def test_exports_with_dynamic_shapes(kernel_device: torch.device, overload: str) -> None:
    maps = [random_maps(2, channels, kernel_device) for channels in (6, 4)]
    height, width = torch.export.Dim("height", max=64), torch.export.Dim("width", max=64)
    shapes = [[{2: height, 3: width}] * 2] * 2
    program = torch.export.export(Head(), tuple(maps), dynamic_shapes=tuple(shapes))
    others = [random_maps(2, channels, kernel_device, size=(9, 4)) for channels in (6, 4)]
    assert torch.equal(program.module()(*others), aggregate(*others))
    targets = {str(node.target) for node in program.graph.nodes}
    assert f"hpvod.aggregate.{overload}" in targets


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["cuda", "triton"])
def test_runs_in_a_cuda_graph(name: str) -> None:
    device = torch.device("cuda")
    features, embeddings = (
        random_maps(3, channels, device, torch.float32, torch.channels_last) for channels in (6, 4)
    )
    with use_backend(name):
        aggregate(features, embeddings)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = aggregate(features, embeddings)
        features[0].mul_(3)
        graph.replay()
        assert torch.equal(output, aggregate(features, embeddings))


F = torch.zeros(2, 3, 4, 5)
E = torch.zeros(2, 6, 4, 5)


@pytest.mark.parametrize(
    ("features", "embeddings", "error", "message"),
    [
        ([], [], ValueError, "features must be 1 to 64 maps, not 0"),
        ([F] * 65, [E] * 65, ValueError, "features must be 1 to 64 maps, not 65"),
        ([F] * 3, [E] * 2, ValueError, "embeddings must be 3 maps, as features are, not 2"),
        ([F[0]], [E], ValueError, r"features\[-1\] must be \[N, C, H, W\], not \[3, 4, 5\]"),
        ([F], [E[0]], ValueError, r"embeddings\[-1\] must be \[2, E, 4, 5\] .*not \[6, 4, 5\]"),
        ([F], [E[:1]], ValueError, r"embeddings\[-1\] must be \[2, E, 4, 5\] .*\[1, 6, 4, 5\]"),
        ([F[:, :2], F], [E, E], ValueError, r"features\[0\] must be \[2, 3, 4, 5\], as features"),
        ([F, F], [E[..., :4], E], ValueError, r"embeddings\[0\] must be .*not \[2, 6, 4, 4\]"),
        ([F.half(), F], [E, E], TypeError, r"features\[0\] must be torch.float32, as features"),
        ([F, F], [E, E.half()], TypeError, r"embeddings\[1\] must be torch.float32, as features"),
        ([F.to("meta"), F], [E, E], ValueError, r"features\[0\] is on meta, but features\[-1\]"),
        ([F], [E.to("meta")], ValueError, r"embeddings\[0\] is on meta, but features\[-1\] is on"),
        ([F.int()], [E.int()], RuntimeError, "torch.int32 is not supported"),
    ],
)
def test_bad_argument_is_named(
    features: list[Tensor], embeddings: list[Tensor], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        aggregate(features, embeddings)


@pytest.mark.parametrize(
    ("features", "embeddings", "message"),
    [
        ([F] * 65, [E] * 65, "1 to 64, not 65 and 65"),
        ([F] * 3, [E] * 2, "features and embeddings must be as many, 1 to 64, not 3 and 2"),
        ([F[0]], [E], r"features and embeddings must be \[N, C, H, W\]"),
        ([F], [E[0]], r"features and embeddings must be \[N, C, H, W\]"),
        ([F[0], F], [E, E], r"features must be \[N, C, H, W\], not \[3, 4, 5\]"),
        ([F[:, :2], F], [E, E], "features must have one shape"),
        ([F], [E[:1]], "embeddings must have one shape, and the N, H and W"),
        ([F, F], [E[:, :5], E], "embeddings must have one shape"),
        ([F.int()], [E.int()], "features must be float32, float16, bfloat16 or float64"),
        ([F, F], [E, E.half()], "embeddings must have the dtype and device of the current"),
    ],
)
def test_the_schema_itself_is_safe(
    features: list[Tensor], embeddings: list[Tensor], message: str
) -> None:
    """torch.ops.hpvod.aggregate can be called without the public function's checks."""
    with pytest.raises(RuntimeError, match=message):
        torch.ops.hpvod.aggregate(features, embeddings)


def test_the_reference_weighs_by_cosines() -> None:
    """The truth of the tests here, held to a function of PyTorch's."""
    embeddings = random_maps(3, 8, torch.device("cpu"))
    cosines = [torch.cosine_similarity(e, embeddings[-1], dim=1) for e in embeddings]
    with use_backend("reference"):
        found = weights(embeddings)
    torch.testing.assert_close(found, torch.stack(cosines).softmax(0), rtol=1e-13, atol=0)
