"""`masked_conv2d_` at the pixels that a frame updates, against dense and gathered convolutions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.contest import MEMORY_FORMATS, Contest, kernels_here, on_backend
from bench.rows import dtype_name
from bench.timing import CPU_CACHE, number_of_sets
from bench.updates import at_ratio, updates
from hpvod_ops import (
    PixelList,
    PixelSet,
    masked_conv2d,
    masked_conv2d_,
    pack_conv2d,
    update_plan,
    use_backend,
)

Run = Callable[[int], Tensor]


@dataclass(frozen=True)
class Layer:
    """A convolution of stride 1 that keeps its input's size, its bias and ReLU."""

    name: str
    kernel: int
    inputs: int
    outputs: int
    size: tuple[int, int]
    ratio: int  # pixels of its maps a pixel of Q
    dilation: int = 1
    residual: bool = False

    @property
    def padding(self) -> int:
        """On every side."""
        return self.kernel // 2 * self.dilation


# Features of a 600 x 1000 image. The first is no layer of ResNet-101, but a usual one to measure.
LAYERS = (
    Layer("3x3_256_75x125", 3, 256, 256, (75, 125), 2),
    Layer("1x1_1024-256_38x63", 1, 1024, 256, (38, 63), 1),
    Layer("1x1_256-1024_38x63", 1, 256, 1024, (38, 63), 1, residual=True),
    Layer("3x3_256_38x63", 3, 256, 256, (38, 63), 1),
    Layer("3x3_512_dilation2_38x63", 3, 512, 512, (38, 63), 1, dilation=2),
    Layer("3x3_64_150x250", 3, 64, 64, (150, 250), 4),
    Layer("feat_conv", 3, 2048, 1024, (38, 63), 1, dilation=6),
)


@dataclass(frozen=True)
class Case:
    """What one contest is about."""

    layer: Layer
    density: float  # of U = 1
    batch: int
    dtype: torch.dtype

    def __str__(self) -> str:
        """For the progress display."""
        kind = f"{self.batch} x {dtype_name(self.dtype)}"
        return f"{self.layer.name}, {kind}, {100 * self.density:g} %"


def cases(device: torch.device) -> list[Case]:
    """A selection: every layer at 10 and 100 %, in the dtype that it is run in on the device."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    return [Case(layer, density, 1, dtype) for layer in LAYERS for density in (0.1, 1.0)]


runnable_backends = kernels_here


def contest(case: Case, device: torch.device, backends: Sequence[str]) -> Contest:
    """Inputs, contestants and truth of one case; compiles what is to be compiled."""
    layer = case.layer
    inputs = _inputs(layer, case.batch, case.dtype, device)
    pixels = _Pixels(case, device)
    return Contest(
        op="masked_conv2d",
        shape=(case.batch, layer.inputs, *layer.size),
        dtype=case.dtype,
        layout="channels_last",
        device=device,
        backends={name: _by_kernel(name, inputs, pixels) for name in backends},
        peers={**inputs.dense, "gathered": _gathered(inputs, pixels)},
        truth=(torch.where(pixels.mask, inputs.exact, inputs.base.double()),),
        composed=(torch.where(pixels.mask, inputs.composed, inputs.base),),
        sets=inputs.sets,
        moved=pixels.bytes_moved(case.dtype),
        operations=pixels.operations(),
        terms=inputs.terms,
        # What a dense peer computes elsewhere, nobody asked for.
        peer_results=lambda out: (torch.where(pixels.mask, out, inputs.base),),
        density=pixels.density,
        columns={
            "layer": layer.name,
            "updated": pixels.updated,
            "equal_rate": pixels.equal_rate(),
        },
        left_out=inputs.left_out,
    )


class _Inputs:
    """A layer's maps and weights, and what does not depend on the density: the dense peers."""

    def __init__(self, layer: Layer, batch: int, dtype: torch.dtype, device: torch.device) -> None:
        generator = torch.Generator(device).manual_seed(0)

        def noise(*shape: int, scale: float = 1.0) -> Tensor:
            return (scale * torch.randn(shape, generator=generator, device=device)).to(dtype)

        self.layer = layer
        k, (height, width) = layer.kernel, layer.size
        taps = layer.inputs * k * k
        elements = taps * layer.outputs + batch * height * width * (layer.inputs + layer.outputs)
        self.sets = number_of_sets(device, elements * dtype.itemsize, CPU_CACHE)
        x = [noise(batch, layer.inputs, height, width) for _ in range(self.sets)]
        # Each set has weights of its own: in a network, those of the other layers push them out
        # of the cache. But one layer after the other runs the same code.
        weight = [
            noise(layer.outputs, layer.inputs, k, k, scale=taps**-0.5) for _ in range(self.sets)
        ]
        self.x = {layout: _in(memory, x) for layout, memory in MEMORY_FORMATS.items()}
        self.weight = {layout: _in(memory, weight) for layout, memory in MEMORY_FORMATS.items()}
        self.bias = noise(layer.outputs, scale=0.1)
        self.base = noise(batch, layer.outputs, height, width).contiguous(
            memory_format=torch.channels_last
        )
        residual = [noise(*self.base.shape)] if layer.residual else []
        self.residual = {
            layout: next(iter(_in(memory, residual)), None)
            for layout, memory in MEMORY_FORMATS.items()
        }
        self.exact = self._exact()
        self.dense, self.left_out = self._dense()
        self.composed = self.dense["dense"]["channels_last"](0)

    @functools.cached_property
    def terms(self) -> float:
        """The largest sum of the magnitudes of a result's terms."""
        residual = self.residual["contiguous"]
        sums = F.conv2d(
            self.x["contiguous"][0].abs(),
            self.weight["contiguous"][0].abs(),
            self.bias.abs(),
            padding=self.layer.padding,
            dilation=self.layer.dilation,
        )
        return float((sums if residual is None else sums + residual.abs()).max())

    @functools.cached_property
    def rows(self) -> list[Tensor]:
        """Of each map [N * H * W + 1, I]: its pixels, and zeros for what lies outside."""
        return [F.pad(_pixel_rows(x), (0, 0, 0, 1)) for x in self.x["channels_last"]]

    @functools.cached_property
    def matrices(self) -> list[Tensor]:
        """Of each weight [k * k * I, O]."""
        return [w.permute(2, 3, 1, 0).flatten(0, 2) for w in self.weight["contiguous"]]

    def _exact(self) -> Tensor:
        """The dense result of set 0 in float64."""
        residual = self.residual["contiguous"]
        base = torch.zeros_like(self.base, dtype=torch.float64)
        with use_backend("reference"), torch.inference_mode():
            return masked_conv2d(
                self.x["contiguous"][0].double(),
                self.weight["contiguous"][0].double(),
                self.bias.double(),
                torch.ones_like(base[:, :1], dtype=torch.bool),
                base,
                padding=self.layer.padding,
                dilation=self.layer.dilation,
                relu=True,
                residual=None if residual is None else residual.double(),
            )

    def _dense(self) -> tuple[dict[str, dict[str, Run]], dict[str, str]]:
        """Dense convolutions, as PyTorch has them and compiled, and why one of them cannot run."""
        layer = self.layer

        def convolution(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None) -> Tensor:
            out = F.conv2d(x, weight, bias, padding=layer.padding, dilation=layer.dilation)
            if residual is not None:
                out += residual
            return out.relu_()

        def contestant(function: Callable[..., Tensor], layout: str) -> Run:
            x, weight, residual = self.x[layout], self.weight[layout], self.residual[layout]

            def run(index: int) -> Tensor:
                with torch.inference_mode():
                    return function(x[index], weight[index], self.bias, residual)

            return run

        peers = {"dense": {layout: contestant(convolution, layout) for layout in MEMORY_FORMATS}}
        # Compiled functions are cached by code object, up to a few kinds of input.
        torch.compiler.reset()
        compiled = contestant(torch.compile(convolution, dynamic=False), "channels_last")
        try:
            compiled(0)
        except Exception as error:  # a missing compiler, a dtype without a kernel
            return peers, {"torch.compile": f"{type(error).__name__}: {error}".partition("\n")[0]}
        return {**peers, "torch.compile": {"channels_last": compiled}}, {}


# The densities of a layer follow one another.
_inputs = functools.lru_cache(maxsize=1)(_Inputs)


class _Pixels:
    """The pixels of a layer that are computed.

    Attributes:
        mask: U at the layer's resolution, bool [N, 1, H, W].
        updated: share of U = 1 at stride 16.
        density: the same at the layer's resolution.
    """

    def __init__(self, case: Case, device: torch.device) -> None:
        layer = case.layer
        self._layer = layer
        self._q = updates(case.batch).quality(case.density).to(device)
        u = self._q <= 0
        self.mask = at_ratio(u, layer.ratio, layer.size)
        self.updated = float(u.double().mean())
        self.density = float(self.mask.double().mean())

    def listed(self, backend: str) -> PixelList:
        """The list, made by a backend's own `update_plan`."""
        pixels = PixelSet("active", self._layer.ratio, *self._layer.size)
        with use_backend(backend):
            return update_plan(self._q, 0.0, 1.0, sets=(pixels,)).lists[pixels]

    def taps(self) -> tuple[Tensor, Tensor]:
        """Indices [count] of the listed pixels, and [count, k * k] of what each of them reads.

        What lies outside the map has the index N * H * W.
        """
        layer, device = self._layer, self.mask.device
        image, _, y, x = (index[:, None] for index in self.mask.nonzero().unbind(1))
        height, width = layer.size
        offset = torch.arange(layer.kernel, device=device) * layer.dilation - layer.padding
        rows = y + offset.repeat_interleave(layer.kernel)
        columns = x + offset.repeat(layer.kernel)
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        read = (image * height + rows) * width + columns
        index = ((image * height + y) * width + x).flatten()
        return index, torch.where(inside, read, self.mask.numel())

    def operations(self) -> int:
        """2 a multiply-add, those with what lies outside the map left out."""
        return 2 * self._inside() * self._layer.inputs * self._layer.outputs

    def equal_rate(self) -> float:
        """The efficiency if the dense convolution, too, left out what lies outside the map.

        Near the border there is less to compute: of the dense convolution's pixels more are there
        than of a mask in the map's middle.
        """
        layer = self._layer
        inside = 1
        for size in layer.size:
            offsets = range(-layer.padding, layer.padding + 1, layer.dilation)
            inside *= sum(max(0, size - abs(offset)) for offset in offsets)
        return len(self.mask) * inside / self._inside() * self.density

    def _inside(self) -> int:
        """Taps of the listed pixels that lie inside the map."""
        _, taps = self.taps()
        return int((taps < self.mask.numel()).sum())

    def bytes_moved(self, dtype: torch.dtype) -> int:
        """Of the weight, of the pixels that are read and those that are written."""
        layer = self._layer
        index, taps = self.taps()
        read = int((taps.unique() < self.mask.numel()).sum())
        written = len(index) * (2 if layer.residual else 1)
        weights = layer.kernel**2 * layer.inputs * layer.outputs
        elements = weights + read * layer.inputs + written * layer.outputs
        return elements * dtype.itemsize + 4 * len(index)


def _by_kernel(backend: str, inputs: _Inputs, pixels: _Pixels) -> Run:
    layer = inputs.layer
    x, residual = inputs.x["channels_last"], inputs.residual["channels_last"]
    with use_backend(backend):
        weights = [pack_conv2d(weight, inputs.bias) for weight in inputs.weight["contiguous"]]
    outputs = [inputs.base.clone() for _ in range(inputs.sets)]
    listed = pixels.listed(backend)

    def run(index: int) -> Tensor:
        with torch.inference_mode():
            return masked_conv2d_(
                outputs[index],
                x[index],
                weights[index],
                listed,
                padding=layer.padding,
                dilation=layer.dilation,
                relu=True,
                residual=residual,
            )

    return on_backend(run, backend, inputs.base.device, inputs.base.dtype)


def _gathered(inputs: _Inputs, pixels: _Pixels) -> dict[str, Run]:
    """The taps' rows gathered into a matrix, and one of PyTorch's libraries to multiply it.

    On a CPU PyTorch computes products and convolutions with different libraries. Where to gather
    from, and memory for the matrix, are given.
    """
    layer = inputs.layer
    index, taps = pixels.taps()
    count = len(index)
    matrix = inputs.rows[0].new_empty(taps.numel(), layer.inputs)
    factors = matrix.view(count, -1)
    image = factors.view(1, 1, count, -1).permute(0, 3, 1, 2)  # [1, k * k * I, 1, count]
    kernels = [weight.t()[:, :, None, None].contiguous() for weight in inputs.matrices]
    outputs = [inputs.base.clone() for _ in range(inputs.sets)]
    residual = inputs.residual["channels_last"]

    def product(number: int) -> Tensor:
        return torch.addmm(inputs.bias, factors, inputs.matrices[number])

    def convolution(number: int) -> Tensor:
        return F.conv2d(image, kernels[number], inputs.bias).permute(0, 2, 3, 1).view(count, -1)

    def contestant(multiply: Callable[[int], Tensor]) -> Run:
        @torch.inference_mode()
        def run(number: int) -> Tensor:
            torch.index_select(inputs.rows[number], 0, taps.flatten(), out=matrix)
            result = multiply(number)
            if residual is not None:
                result += _pixel_rows(residual).index_select(0, index)
            _pixel_rows(outputs[number]).index_copy_(0, index, result.relu_())
            return outputs[number]

        return run

    return {"addmm": contestant(product), "conv2d": contestant(convolution)}


def _in(memory: torch.memory_format, maps: Sequence[Tensor]) -> list[Tensor]:
    return [values.contiguous(memory_format=memory) for values in maps]


def _pixel_rows(maps: Tensor) -> Tensor:
    """[N * H * W, C], a view of a channels_last map [N, C, H, W]."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)
