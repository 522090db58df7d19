"""masked_conv2d through its public functions, in the backend of each device."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from ops.listed_cases import DTYPES, at, bits, dense_map, listed_pixels, patterned_mask
from ops.masked_conv2d_cases import (
    Inputs,
    check_against_reference,
    compose,
    evaluate,
    exact_inputs,
    random_inputs,
)
from ops.warp_cases import poisoned_memory
from torch import Tensor
from torch.nn import functional as F

from hpvod_ops import (
    PixelList,
    masked_conv2d,
    masked_conv2d_,
    pack_conv2d,
    use_backend,
)

CASES = 144
CPU = torch.device("cpu")


def convolve(inputs: Inputs) -> Tensor:
    return masked_conv2d_(
        inputs.out,
        inputs.x,
        pack_conv2d(inputs.weight, inputs.bias),
        inputs.pixels,
        stride=inputs.stride,
        padding=inputs.padding,
        dilation=inputs.dilation,
        relu=inputs.relu,
        residual=inputs.residual,
    )


def settings(inputs: Inputs) -> dict[str, int | bool]:
    names = ("stride", "padding", "dilation", "relu")
    return {name: getattr(inputs, name) for name in names}


@pytest.mark.parametrize("stride", [1, 2])
def test_the_reference_is_what_a_dense_layer_computes(stride: int) -> None:
    """The truth of all tests here, held to PyTorch's own layers and a blend."""
    x = torch.randn(2, 5, 9, 11, dtype=torch.float64)
    layer = torch.nn.Conv2d(5, 7, 3, stride, padding=2, dilation=2).double().requires_grad_(False)
    dense = layer(x)
    residual, base = torch.randn(2, *dense.shape, dtype=torch.float64)
    mask = torch.rand(2, 1, *dense.shape[2:]) < 0.5
    with use_backend("reference"):
        result = masked_conv2d(
            x,
            layer.weight,
            layer.bias,
            mask,
            base,
            stride=stride,
            padding=2,
            dilation=2,
            relu=True,
            residual=residual,
        )
    expected = torch.where(mask, F.relu(dense + residual), base)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("index", range(CASES))
def test_agrees_with_reference(index: int, kernel_device: torch.device) -> None:
    inputs = random_inputs(index, kernel_device)
    with poisoned_memory():
        result = evaluate(convolve, inputs)
    check_against_reference(result, inputs)


@pytest.mark.parametrize("channels", [(1, 1), (20, 70), (64, 64), (128, 32), (3, 257)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_exact_where_the_sums_are(
    dtype: torch.dtype, channels: tuple[int, int], backend_device: torch.device
) -> None:
    inputs = exact_inputs(backend_device, dtype, channels)
    assert torch.equal(evaluate(convolve, inputs), evaluate(compose, inputs))


def test_adds_what_it_overwrites(backend_device: torch.device) -> None:
    inputs = exact_inputs(backend_device)
    shared = replace(inputs, residual=inputs.out)
    apart = replace(inputs, residual=dense_map(inputs.out, backend_device))
    assert torch.equal(evaluate(convolve, shared), evaluate(convolve, apart))


def test_returns_out(backend_device: torch.device) -> None:
    inputs = exact_inputs(backend_device)
    assert convolve(inputs) is inputs.out


@pytest.mark.parametrize("relu", [False, True])
def test_nan_is_not_hidden(relu: bool, backend_device: torch.device) -> None:
    """A network that has gone wrong shows: PyTorch's ReLU, too, passes NaN on."""
    inputs = replace(exact_inputs(backend_device), relu=relu)
    inputs.x[1, 3, 4, 5] = math.nan
    result = at(inputs.mask, evaluate(convolve, inputs))
    expected = at(inputs.mask, evaluate(compose, inputs))
    assert expected.isnan().any()
    assert torch.equal(result.nan_to_num(-99.0), expected.nan_to_num(-99.0))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_same_bits_every_run(dtype: torch.dtype, backend_device: torch.device) -> None:
    inputs = random_inputs(DTYPES.index(dtype) + 20, backend_device)
    first = evaluate(convolve, inputs)
    for _ in range(3):
        assert torch.equal(bits(evaluate(convolve, inputs)), bits(first))


@pytest.mark.parametrize(
    ("kernel", "channels"), [(3, (3, 64)), (1, (64, 64)), (3, (65, 100)), (1, (130, 17))], ids=str
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_pixel_depends_on_no_other(
    dtype: torch.dtype, kernel: int, channels: tuple[int, int]
) -> None:
    """On the CPU the bits are the same, whatever else is listed and however many threads work."""
    inputs, outputs = channels
    # The smaller outputs at a size whose blocks are shared out group by group.
    height, width = (31, 31) if outputs < 100 else (13, 21)
    x = dense_map(torch.randn(2, inputs, height, width).to(dtype), CPU)
    residual = dense_map(torch.randn(2, outputs, height, width).to(dtype), CPU)
    packed = pack_conv2d(
        torch.randn(outputs, inputs, kernel, kernel).to(dtype), torch.ones(outputs).to(dtype)
    )

    def result(mask: Tensor) -> Tensor:
        out = torch.zeros_like(residual)
        masked_conv2d_(
            out, x, packed, listed_pixels(mask, CPU), padding=kernel // 2, residual=residual
        )
        return at(mask, out)

    threads, everywhere = torch.get_num_threads(), torch.ones(2, 1, height, width, dtype=torch.bool)
    full = torch.zeros_like(residual)
    full.permute(0, 2, 3, 1).copy_(result(everywhere).view(2, height, width, outputs))
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        for seed, pattern in enumerate(("sparse", "half", "one", "blob", "stripes", "full")):
            mask = patterned_mask(pattern, 2, height, width, seed)
            assert torch.equal(bits(result(mask)), bits(at(mask, full))), (count, pattern)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 6)])
def test_layouts_that_are_both(size: tuple[int, int], backend_device: torch.device) -> None:
    """A map of one channel, or one pixel, is contiguous and channels_last at once."""
    generator = torch.Generator().manual_seed(0)
    x, out = (torch.randn(2, 1, *size, generator=generator).to(backend_device) for _ in range(2))
    assert x.is_contiguous()
    weight = torch.randn(1, 1, 3, 3, generator=generator).to(backend_device)
    mask = patterned_mask("checkerboard", 2, *size, 0)
    expected = torch.where(mask.to(backend_device), F.conv2d(x, weight, padding=1), out)
    masked_conv2d_(out, x, pack_conv2d(weight), listed_pixels(mask, backend_device), padding=1)
    torch.testing.assert_close(out, expected)
    pixel = torch.randn(2, 5, 1, 1, device=backend_device)
    weight = torch.randn(7, 5, 1, 1, generator=generator).to(backend_device)
    everywhere = listed_pixels(torch.ones(2, 1, 1, 1, dtype=torch.bool), backend_device)
    out = masked_conv2d_(pixel.new_empty(2, 7, 1, 1), pixel, pack_conv2d(weight), everywhere)
    torch.testing.assert_close(out, F.conv2d(pixel, weight))


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0), (0, 3, 0, 0)])
@pytest.mark.parametrize("stride", [1, 2])
def test_empty(shape: tuple[int, ...], stride: int, backend_device: torch.device) -> None:
    size = [(side - 1) // stride + 1 for side in shape[2:]]
    base = torch.ones(shape[0], 6, *size, device=backend_device)
    x = torch.ones(shape, device=backend_device)
    weight = torch.ones(6, 3, 3, 3, device=backend_device)
    mask = base[:, :1].bool()
    result = masked_conv2d(x, weight, None, mask, base, stride=stride, padding=1)
    assert result.shape == base.shape
    assert result.numel() == 0


def test_a_window_of_padding_alone(backend_device: torch.device) -> None:
    """Reads nothing: bias and residual are left."""
    x = torch.ones(1, 2, 1, 1, device=backend_device)
    weight = torch.ones(3, 2, 1, 1, device=backend_device)
    bias = torch.arange(3.0, device=backend_device)
    base = torch.zeros(1, 3, 5, 5, device=backend_device)
    result = masked_conv2d(x, weight, bias, base[:, :1] == 0, base, padding=2)
    expected = bias[:, None, None].expand(1, 3, 5, 5).clone()
    expected[:, :, 2, 2] += 2
    assert torch.equal(result, expected)


@pytest.mark.parametrize("channels", [(5, 7), (300, 20)], ids=str)
def test_taps_outside_the_map(channels: tuple[int, int], backend_device: torch.device) -> None:
    """Of a kernel whose dilation is the map's size, the tap in the middle alone reads anything."""
    inputs, outputs = channels
    generator = torch.Generator().manual_seed(0)
    # Small integers: sums are exact, in whatever order.
    x, weight, base = (
        torch.randint(-3, 4, shape, generator=generator).float().to(backend_device)
        for shape in ((2, inputs, 5, 4), (outputs, inputs, 3, 3), (2, outputs, 5, 4))
    )
    mask = patterned_mask("half", 2, 5, 4, 0).to(backend_device)
    result = masked_conv2d(x, weight, None, mask, base, padding=5, dilation=5)
    middle = F.conv2d(x, weight[:, :, 1:2, 1:2])
    assert torch.equal(result, torch.where(mask, middle, base))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("x_layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_the_functional_form(
    x_layout: torch.memory_format, layout: torch.memory_format, backend_device: torch.device
) -> None:
    """Equals the op in place, leaves its arguments alone, and answers in base's layout."""
    inputs = exact_inputs(backend_device)
    x, residual = (
        tensor.contiguous(memory_format=x_layout) for tensor in (inputs.x, inputs.residual)
    )
    base = inputs.out.contiguous(memory_format=layout)
    mask = inputs.mask.to(backend_device)
    before = [tensor.clone() for tensor in (x, residual, base)]
    result = masked_conv2d(
        x, inputs.weight, inputs.bias, mask, base, residual=residual, **settings(inputs)
    )
    assert result.is_contiguous(memory_format=layout)
    assert torch.equal(result, evaluate(convolve, inputs))
    for tensor, copy in zip((x, residual, base), before, strict=True):
        assert torch.equal(tensor, copy)
    onto_base = masked_conv2d(
        x, inputs.weight, inputs.bias, mask, base, residual=base, **settings(inputs)
    )
    assert torch.equal(onto_base, evaluate(convolve, replace(inputs, residual=inputs.out)))


@pytest.mark.parametrize("residual", ["none", "own", "out"])
def test_opcheck(
    residual: str, kernel_backend: str, overload: str, kernel_device: torch.device
) -> None:
    del kernel_backend
    inputs = exact_inputs(kernel_device)
    packed = pack_conv2d(inputs.weight, inputs.bias)
    torch.library.opcheck(
        getattr(torch.ops.hpvod.masked_conv2d_, overload),
        (
            inputs.out,
            inputs.x,
            packed.weight,
            packed.bias,
            {"none": None, "own": inputs.residual, "out": inputs.out}[residual],
            *inputs.pixels,
            packed.kernel,
            1,
            1,
            1,
            True,
        ),
    )


def test_opcheck_of_packing() -> None:
    for dtype in DTYPES:
        weight = torch.randn(70, 20, 3, 3).to(dtype)
        torch.library.opcheck(torch.ops.hpvod.pack_conv2d_weight.default, (weight,))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_compiles_in_one_graph(layout: torch.memory_format, kernel_device: torch.device) -> None:
    inputs = exact_inputs(kernel_device)
    mask, base = inputs.mask.to(kernel_device), inputs.out.contiguous(memory_format=layout)

    def layer(x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor, base: Tensor) -> Tensor:
        return masked_conv2d(x + 1, weight, bias, mask, base * 2, padding=1, relu=True) * 3

    arguments = (inputs.x, inputs.weight, inputs.bias, mask, base)
    compiled = torch.compile(layer, fullgraph=True)(*arguments)
    eager = layer(*arguments)
    assert torch.equal(compiled, eager)
    assert compiled.stride() == eager.stride()


def test_compiles_in_place(kernel_device: torch.device) -> None:
    inputs = exact_inputs(kernel_device)
    packed = pack_conv2d(inputs.weight, inputs.bias)

    def layer(out: Tensor, x: Tensor, pixels: PixelList) -> Tensor:
        return masked_conv2d_(out, x * 2, packed, pixels, padding=1, residual=out) + 1

    results = []
    for function in (torch.compile(layer, fullgraph=True), layer):
        out = inputs.out.clone(memory_format=torch.channels_last)
        results.append((function(out, inputs.x, inputs.pixels), out))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


class Layer(torch.nn.Module):
    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor, base: Tensor
    ) -> Tensor:
        return masked_conv2d(x, weight, bias, mask, base, padding=1, relu=True)


def test_exports_with_dynamic_shapes(kernel_device: torch.device, overload: str) -> None:
    inputs = exact_inputs(kernel_device)
    height, width = torch.export.Dim("height", max=64), torch.export.Dim("width", max=64)
    size = {2: height, 3: width}
    constants = (inputs.weight, inputs.bias)
    program = torch.export.export(
        Layer(),
        (inputs.x, *constants, inputs.mask.to(kernel_device), inputs.out),
        dynamic_shapes=(size, None, None, size, size),
    )
    x, base = (
        torch.randn(2, channels, 9, 4, device=kernel_device).contiguous(
            memory_format=torch.channels_last
        )
        for channels in (20, 70)
    )
    mask = torch.rand(2, 1, 9, 4, device=kernel_device) < 0.5
    arguments = (x, *constants, mask, base)
    assert torch.equal(program.module()(*arguments), Layer()(*arguments))
    targets = {str(node.target) for node in program.graph.nodes}
    assert f"hpvod.masked_conv2d_.{overload}" in targets


@pytest.mark.gpu
@pytest.mark.parametrize("kernel_backend", ["cuda", "triton"], indirect=True)
def test_runs_in_a_cuda_graph(kernel_device: torch.device) -> None:
    """A replay takes the number of pixels from the device."""
    inputs = exact_inputs(kernel_device)
    packed = pack_conv2d(inputs.weight, inputs.bias)
    pixels = PixelList(*(tensor.clone() for tensor in inputs.pixels))
    out = inputs.out.clone(memory_format=torch.channels_last)

    def layer() -> None:
        masked_conv2d_(out, inputs.x, packed, pixels, padding=1, residual=inputs.residual)

    layer()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        layer()
    for seed, pattern in enumerate(("sparse", "full", "empty", "half")):
        mask = patterned_mask(pattern, 2, 7, 9, seed)
        for kept, tensor in zip(pixels, listed_pixels(mask, kernel_device), strict=True):
            kept.copy_(tensor)
        out.copy_(inputs.out)
        graph.replay()
        expected = replace(inputs, mask=mask, pixels=pixels, relu=False)
        assert torch.equal(out, evaluate(convolve, expected))


@pytest.mark.gpu
@pytest.mark.parametrize("kernel_backend", ["cuda", "triton"], indirect=True)
def test_the_functional_form_runs_in_a_cuda_graph(kernel_device: torch.device) -> None:
    """Nothing waits for the device: capturing would fail."""
    inputs = exact_inputs(kernel_device)
    mask = inputs.mask.to(kernel_device)
    arguments = (inputs.x, inputs.weight, inputs.bias, mask, inputs.out)
    masked_conv2d(*arguments, padding=1)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = masked_conv2d(*arguments, padding=1)
    mask.logical_not_()
    graph.replay()
    assert torch.equal(result, masked_conv2d(*arguments, padding=1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_packs_for_the_backend(
    dtype: torch.dtype, backend: str, backend_device: torch.device
) -> None:
    weight = torch.randn(7, 5, 3, 2, device=backend_device).to(dtype)
    packed = pack_conv2d(weight, torch.ones(7, device=backend_device).to(dtype))
    assert (packed.backend, packed.dtype, packed.kernel) == (backend, dtype, (3, 2))
    assert (packed.out_channels, packed.in_channels) == (7, 5)
    assert packed.bias.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    if backend == "cpu":
        assert packed.weight.dim() == 1
    else:
        expected = weight if backend == "reference" else weight.permute(0, 2, 3, 1)
        assert torch.equal(packed.weight, expected)
        assert packed.weight.is_contiguous()


def test_packing_takes_any_strides(backend_device: torch.device) -> None:
    inputs = exact_inputs(backend_device)
    strided = inputs.bias.repeat_interleave(2)[::2]
    result = evaluate(convolve, replace(inputs, bias=strided))
    assert torch.equal(result, evaluate(convolve, inputs))
    weight = inputs.weight.contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    for each in (weight, inputs.weight.transpose(2, 3).contiguous().transpose(2, 3)):
        result = evaluate(convolve, replace(inputs, weight=each))
        assert torch.equal(result, evaluate(convolve, inputs))


def last(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(shape, dtype=dtype).contiguous(memory_format=torch.channels_last)


X, OUT, WEIGHT, BIAS = last(2, 3, 4, 5), last(2, 6, 4, 5), torch.zeros(6, 3, 3, 3), torch.zeros(6)
PIXELS = PixelList(torch.zeros(40, dtype=torch.int32), torch.zeros(1, dtype=torch.int32))
PACKED = pack_conv2d(WEIGHT, BIAS)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"x": X[0]}, ValueError, r"x must be \[N, C, H, W\], not \[3, 4, 5\]"),
        ({"x": X.contiguous()}, ValueError, "x must be dense in torch.channels_last"),
        ({"x": X[:, :, :, ::2]}, ValueError, "x must be dense in torch.channels_last"),
        ({"x": last(2, 4, 4, 5)}, ValueError, r"x must have the weight's 3 channels, not \[2, 4"),
        ({"x": X.int()}, RuntimeError, "torch.int32 is not supported"),
        ({"out": OUT.half()}, TypeError, "out must be torch.float32, as x is, not torch.float16"),
        ({"out": OUT.to("meta")}, ValueError, "out is on meta, but x is on cpu"),
        ({"out": OUT.contiguous()}, ValueError, "out must be dense in torch.channels_last"),
        ({"out": OUT[:1]}, ValueError, r"out must be \[2, 6, 4, 5\] for an x of .*, not \[1, 6"),
        ({"out": last(2, 6, 4, 4)}, ValueError, r"out must be \[2, 6, 4, 5\] for an x of"),
        ({"stride": 2}, ValueError, r"out must be \[2, 6, 2, 3\] for an x of"),
        ({"stride": 0}, ValueError, "stride and dilation must be at least 1"),
        ({"dilation": 0}, ValueError, "stride and dilation must be at least 1"),
        ({"padding": -1}, ValueError, "padding at least 0, not 1, 1 and -1"),
        ({"residual": OUT[:1]}, ValueError, r"residual must be \[2, 6, 4, 5\] for an x"),
        ({"residual": OUT.contiguous()}, ValueError, "residual must be dense"),
        ({"residual": OUT.half()}, TypeError, "residual must be torch.float32, as x is"),
        ({"weight": pack_conv2d(WEIGHT.half())}, TypeError, "weight must be torch.float32, as x"),
        (
            {"pixels": PIXELS._replace(indices=PIXELS.indices.long())},
            TypeError,
            "pixels must be torch.int32, not torch.int64",
        ),
        (
            {"pixels": PIXELS._replace(indices=PIXELS.indices.view(2, 20))},
            ValueError,
            r"pixels must be indices \[capacity\], .*not \[2, 20\] and \[1\]",
        ),
        (
            {"pixels": PIXELS._replace(count=PIXELS.count.view(()))},
            ValueError,
            r"pixels must be .* a count \[1\], not \[40\] and \[\]",
        ),
        (
            {"pixels": PIXELS._replace(count=PIXELS.count.to("meta"))},
            ValueError,
            "pixels are on cpu with a count on meta, but x is on cpu",
        ),
    ],
)
def test_bad_argument_is_named(
    changed: dict[str, object], error: type[Exception], message: str
) -> None:
    arguments = {"out": OUT, "x": X, "weight": PACKED, "pixels": PIXELS, "padding": 1, **changed}
    with pytest.raises(error, match=message):
        masked_conv2d_(**arguments)


MASK = torch.zeros(2, 1, 4, 5, dtype=torch.bool)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"x": X[0]}, ValueError, r"x must be \[N, I, H, W\], not \[3, 4, 5\]"),
        ({"weight": WEIGHT[0]}, ValueError, r"weight must be \[O, I, kh, kw\], .*not \[3, 3, 3\]"),
        ({"weight": WEIGHT[:, :0]}, ValueError, "weight must be .* nothing of it empty"),
        ({"weight": WEIGHT.half()}, TypeError, "weight must be torch.float32, as x is"),
        ({"bias": BIAS[:5]}, ValueError, r"bias must be \[6\] for a weight .*, not \[5\]"),
        ({"bias": BIAS.half()}, TypeError, "bias must be torch.float32, as weight is, or float32"),
        ({"bias": BIAS.to("meta")}, ValueError, "bias is on meta, but weight is on cpu"),
        ({"mask": MASK.float()}, TypeError, "mask must be torch.bool, not torch.float32"),
        ({"mask": MASK[:1]}, ValueError, r"mask must be \[2, 1, 4, 5\] for an x of .*not \[1, 1"),
        ({"mask": MASK.to("meta")}, ValueError, "mask is on meta, but x is on cpu"),
        ({"base": OUT[..., :4]}, ValueError, r"base must be \[2, 6, 4, 5\] for an x of"),
        ({"base": OUT.double()}, TypeError, "base must be torch.float32, as x is"),
        ({"base": OUT.to("meta")}, ValueError, "base is on meta, but x is on cpu"),
        ({"residual": OUT[:1]}, ValueError, r"residual must be \[2, 6, 4, 5\] for an x of"),
    ],
)
def test_bad_argument_of_the_functional_form_is_named(
    changed: dict[str, object], error: type[Exception], message: str
) -> None:
    arguments = {"x": X, "weight": WEIGHT, "bias": BIAS, "mask": MASK, "base": OUT, "padding": 1}
    with pytest.raises(error, match=message):
        masked_conv2d(**{**arguments, **changed})


def test_weights_of_another_backend_are_refused() -> None:
    with (
        use_backend("reference"),
        pytest.raises(RuntimeError, match="weight was packed for cpu, but reference is chosen now"),
    ):
        masked_conv2d_(OUT, X, PACKED, PIXELS, padding=1)


@pytest.mark.parametrize("name", ["x", "out", "residual"])
def test_is_for_inference_only(name: str) -> None:
    arguments = {"out": OUT, "x": X, "residual": None}
    arguments[name] = last(*(X if name == "x" else OUT).shape).requires_grad_()
    rest = {"weight": PACKED, "pixels": PIXELS, "padding": 1}
    message = f"masked_conv2d_ is for inference only, but {name} requires grad"
    with pytest.raises(RuntimeError, match=message):
        masked_conv2d_(**arguments, **rest)
    with torch.no_grad():
        masked_conv2d_(**arguments, **rest)


@pytest.mark.parametrize("name", ["x", "weight", "bias", "base", "residual"])
def test_the_functional_form_is_for_inference_only(name: str) -> None:
    arguments = {"x": X, "weight": WEIGHT, "bias": BIAS, "base": OUT, "residual": OUT}
    arguments[name] = arguments[name].clone().requires_grad_()
    message = f"masked_conv2d is for inference only, but {name} requires grad"
    with pytest.raises(RuntimeError, match=message):
        masked_conv2d(**arguments, mask=MASK, padding=1)
    with torch.inference_mode():
        masked_conv2d(**arguments, mask=MASK, padding=1)


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_packing_is_for_inference_only(name: str) -> None:
    arguments = {"weight": WEIGHT, "bias": BIAS}
    arguments[name] = arguments[name].clone().requires_grad_()
    with pytest.raises(RuntimeError, match=f"pack_conv2d is for .*, but {name} requires grad"):
        pack_conv2d(**arguments)


@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        (0, OUT.contiguous(), "out must be a map that is dense in channels_last"),
        (0, OUT.int(), "out must be float32"),
        (0, OUT[:1], "x must have out's batch"),
        (0, last(2, 6, 4, 4), "out must have the convolution's height and width"),
        (0, last(2, 7, 4, 5), "weight must come from pack_conv2d_weight|bias must be"),
        (1, X.contiguous(), "x must be a map that is dense in channels_last"),
        (1, X.half(), "x must have out's dtype and device"),
        (1, last(2, 80, 4, 5), "weight must come from pack_conv2d_weight"),
        (2, WEIGHT, "weight must"),
        (2, PACKED.weight.double(), "weight must come from pack_conv2d_weight"),
        (2, PACKED.weight[:-1], "weight must come from pack_conv2d_weight"),
        (3, BIAS.half(), "bias must be float32"),
        (3, BIAS[:5], "bias must be float32"),
        (4, OUT[:1], "residual must have out's shape"),
        (5, PIXELS.indices.long(), "pixels must be int32"),
        (6, PIXELS.count.long(), "count must be int32"),
        (7, (3,), "kernel"),
        (7, (3, 0), "kernel, stride and dilation must be positive"),
        (8, 0, "kernel, stride and dilation must be positive"),
        (9, -1, "padding not negative"),
        (10, 0, "kernel, stride and dilation must be positive"),
    ],
)
def test_the_schema_itself_is_safe(index: int, value: object, message: str) -> None:
    """torch.ops.hpvod.masked_conv2d_ can be called without the public function's checks."""
    arguments = [OUT, X, PACKED.weight, PACKED.bias, None, *PIXELS, (3, 3), 1, 1, 1, False]
    torch.ops.hpvod.masked_conv2d_(*arguments)
    arguments[index] = value
    with pytest.raises(RuntimeError, match=message):
        torch.ops.hpvod.masked_conv2d_(*arguments)


@pytest.mark.parametrize("weight", [WEIGHT[0], WEIGHT.int()])
def test_the_schema_of_packing_is_safe(weight: Tensor) -> None:
    with pytest.raises(RuntimeError, match=r"weight must be \[O, I, kernel_height, kernel_width\]"):
        torch.ops.hpvod.pack_conv2d_weight(weight)
