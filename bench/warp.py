"""`warp` (Eq. 1), forward and backward, against grid_sample, embedding_bag and torch.compile."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._functorch import config as functorch_config

from bench.clip import true_flow
from bench.contest import MEMORY_FORMATS, Contest
from bench.rows import dtype_name
from bench.timing import Contestant, number_of_sets
from hpvod_ops import reference, use_backend, warp
from hpvod_ops.backends import BACKENDS, can_run

Warp = Callable[[Tensor, Tensor], Tensor]

_SIZE = (1024, 38, 63)  # the paper's features of a 600 x 1000 image


@dataclass(frozen=True)
class Case:
    """What one contest is about."""

    batch: int
    dtype: torch.dtype
    layout: str
    backward: bool

    def __str__(self) -> str:
        """For the progress display."""
        direction = "backward" if self.backward else "forward"
        return f"warp {direction}, {self.batch} x {dtype_name(self.dtype)} {self.layout}"


def cases(device: torch.device) -> list[Case]:
    """One frame's feature map; on a GPU also sixteen, which no L2 cache holds."""
    return [
        Case(batch, dtype, layout, backward)
        for batch in ((1, 16) if device.type == "cuda" else (1,))
        for dtype in (torch.float32, torch.bfloat16, torch.float16)
        for layout in MEMORY_FORMATS
        for backward in (False, True)
    ]


def runnable_backends(device: torch.device, dtype: torch.dtype) -> dict[str, Warp]:
    """`hpvod_ops.warp` by every backend that can run here."""

    def by(name: str, feature: Tensor, flow: Tensor) -> Tensor:
        with use_backend(name):
            return warp(feature, flow)

    return {
        name: functools.partial(by, name)
        for name in BACKENDS
        if can_run(name, device, dtype) is None
    }


def contest(case: Case, device: torch.device, backends: Mapping[str, Warp]) -> Contest:
    """Inputs, contestants and truth of one case; compiles what is to be compiled.

    Args:
        case: what to measure.
        device: where.
        backends: our op, by backend, as `runnable_backends` gives it.
    """
    shape = (case.batch, *_SIZE)
    map_bytes = case.batch * _SIZE[0] * _SIZE[1] * _SIZE[2] * case.dtype.itemsize
    flow_bytes = map_bytes // _SIZE[0] * 2
    inputs = _Inputs(case, device, number_of_sets(device, 2 * map_bytes))
    peers, left_out = _peers(case, inputs)
    return Contest(
        op="warp_backward" if case.backward else "warp",
        shape=shape,
        dtype=case.dtype,
        layout=case.layout,
        device=device,
        backends={
            name: inputs.contestant(function, case.layout) for name, function in backends.items()
        },
        peers=peers,
        truth=inputs.composition(torch.float64),
        composed=inputs.composition(case.dtype),
        sets=len(inputs.flows),
        copied=inputs.maps[case.layout],
        # Backward reads the map and the output's gradient and writes the map's gradient.
        moved=3 * map_bytes + 2 * flow_bytes if case.backward else 2 * map_bytes + flow_bytes,
        left_out=left_out,
    )


class _Inputs:
    """The input sets of one case, and how a function of feature and flow is run on them."""

    def __init__(self, case: Case, device: torch.device, sets: int) -> None:
        generator = torch.Generator(device).manual_seed(0)
        shape = (case.batch, *_SIZE)

        def noise() -> Tensor:
            return torch.randn(shape, generator=generator, device=device).to(case.dtype)

        noises = [noise() for _ in range(sets)]
        self.maps = {
            layout: [values.contiguous(memory_format=memory) for values in noises]
            for layout, memory in MEMORY_FORMATS.items()
        }
        # Each map goes along the motion from some frame of the clip back to its key frame.
        frames = itertools.cycle(range(1, 31))
        self.flows = [
            torch.cat([true_flow(next(frames), 0, *_SIZE[1:]) for _ in range(case.batch)]).to(
                device, case.dtype
            )
            for _ in range(sets)
        ]
        self._gradient = noise() if case.backward else None

    def contestant(self, function: Warp, layout: str) -> Contestant:
        """Runs `function`, or its backward pass with both gradients, on the input sets."""
        return self._contestant(function, self.maps[layout], self.flows)

    def composition(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """The results for input set 0 by plain PyTorch in `dtype`."""
        maps, flows = [self.maps["contiguous"][0].to(dtype)], [self.flows[0].to(dtype)]
        results = self._contestant(reference.warp, maps, flows)(0)
        return results if isinstance(results, tuple) else (results,)

    def _contestant(
        self, function: Warp, maps: Sequence[Tensor], flows: Sequence[Tensor]
    ) -> Contestant:
        if self._gradient is None:

            def forward(index: int) -> Tensor:
                with torch.no_grad():
                    return function(maps[index], flows[index])

            return forward

        leaves = [
            (feature.detach().requires_grad_(), flow.detach().requires_grad_())
            for feature, flow in zip(maps, flows, strict=True)
        ]
        outputs = [function(*pair) for pair in leaves]
        # Each function gets the gradient in the memory layout of its own output.
        gradients = [torch.empty_like(output).copy_(self._gradient) for output in outputs]

        def backward(index: int) -> tuple[Tensor, ...]:
            return torch.autograd.grad(
                outputs[index], leaves[index], gradients[index], retain_graph=True
            )

        return backward


def _peers(case: Case, inputs: _Inputs) -> tuple[dict[str, dict[str, Contestant]], dict[str, str]]:
    """The peers that run here, by name and layout, and why the others do not."""
    # Compiled functions are cached by code object, up to a few kinds of input.
    torch.compiler.reset()
    functions: list[tuple[str, Warp, Sequence[str]]] = [
        ("grid_sample", with_grid_sample, tuple(MEMORY_FORMATS)),
        ("torch.compile", torch.compile(with_grid_sample, dynamic=False), (case.layout,)),
    ]
    if case.layout == "channels_last":
        functions.append(("embedding_bag", with_embedding_bag, (case.layout,)))

    peers: dict[str, dict[str, Contestant]] = {}
    left_out: dict[str, str] = {}
    for name, function, layouts in functions:
        # Otherwise a compiled backward pass destroys its inputs and cannot be repeated.
        with functorch_config.patch(donated_buffer=False):
            try:
                peers[name] = {layout: inputs.contestant(function, layout) for layout in layouts}
                for run in peers[name].values():
                    run(0)
            except Exception as error:  # a missing compiler, a dtype without a kernel
                peers.pop(name, None)
                left_out[name] = f"{type(error).__name__}: {error}".partition("\n")[0]
    return peers, left_out


def with_grid_sample(feature: Tensor, flow: Tensor) -> Tensor:
    """Eq. 1 as a user of PyTorch writes it."""
    height, width = flow.shape[2:]
    x = torch.arange(width, device=flow.device) + flow[:, 0].float()
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1].float()
    grid = torch.stack((x * (2 / (width - 1)) - 1, y * (2 / (height - 1)) - 1), dim=-1)
    return F.grid_sample(
        feature, grid.to(feature.dtype), mode="bilinear", padding_mode="zeros", align_corners=True
    )


def with_embedding_bag(feature: Tensor, flow: Tensor) -> Tensor:
    """Eq. 1 as sums of four rows of a channels_last map, the fastest way without own kernels."""
    batch, channels, height, width = feature.shape
    x = torch.arange(width, device=flow.device) + flow[:, 0].float()
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1].float()
    image = torch.arange(batch, device=flow.device).view(-1, 1, 1).expand_as(x)
    rows = rows_with_embedding_bag(feature, image.flatten(), x.flatten(), y.flatten())
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


def rows_with_embedding_bag(feature: Tensor, image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """[K, C]: feature, bilinear, at each of K positions x, y of the batch's image [K]."""
    channels, height, width = feature.shape[1:]
    left, top = x.detach().floor(), y.detach().floor()
    column = torch.stack((left, left + 1, left, left + 1), dim=-1)
    row = torch.stack((top, top, top + 1, top + 1), dim=-1)
    weight = (1 - (x[:, None] - column).abs()) * (1 - (y[:, None] - row).abs())
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    position = torch.where(inside, (image[:, None] * height + row) * width + column, 0).long()
    return F.embedding_bag(
        position,
        feature.permute(0, 2, 3, 1).reshape(-1, channels),
        mode="sum",
        per_sample_weights=torch.where(inside, weight, 0).to(feature.dtype),
    )
