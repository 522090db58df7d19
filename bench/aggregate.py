"""`aggregate` (Eq. 2 and 3) over FGFA's window of 19 frames, against PyTorch eager and compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.contest import (
    MEMORY_FORMATS,
    Contest,
    compiled_here,
    copied_for,
    kernels_here,
    on_backend,
)
from bench.rows import dtype_name
from bench.timing import Contestant, number_of_sets
from hpvod_ops import aggregate

_FRAMES = 19
_CHANNELS = 1024
_SIZE = (38, 63)  # of the features of a 600 x 1000 image


@dataclass(frozen=True)
class Case:
    """What one contest is about."""

    embedding_channels: int
    dtype: torch.dtype
    layout: str

    def __str__(self) -> str:
        """For the progress display."""
        return f"aggregate, {self.variant}, {dtype_name(self.dtype)} {self.layout}"

    @property
    def variant(self) -> str:
        """What tells its rows apart."""
        return f"{_FRAMES} frames, {self.embedding_channels}-d"


def cases(device: torch.device) -> list[Case]:
    """Embeddings of EmbedNet's 2048 channels, and of the small one's 256."""
    if device.type == "cuda":
        return [
            Case(channels, dtype, "channels_last")
            for dtype in (torch.float32, torch.bfloat16)
            for channels in (2048, 256)
        ]
    return [
        Case(channels, torch.float32, layout)
        for layout in MEMORY_FORMATS
        for channels in (2048, 256)
    ]


runnable_backends = kernels_here


def contest(case: Case, device: torch.device, backends: Sequence[str]) -> Contest:
    """Inputs, contestants and truth of one case; compiles what is to be compiled."""
    shape = (1, _CHANNELS, *_SIZE)
    pixels = _SIZE[0] * _SIZE[1]
    values = (_FRAMES + 1) * _CHANNELS + _FRAMES * case.embedding_channels
    moved = values * pixels * case.dtype.itemsize
    sets = number_of_sets(device, moved)
    generator = torch.Generator(device).manual_seed(0)

    def maps(channels: int) -> list[list[Tensor]]:
        """Frames that are alike, as those of a window are."""
        size = (1, channels, *_SIZE)
        scene = torch.randn(size, generator=generator, device=device)
        return [
            [
                (scene + torch.randn(size, generator=generator, device=device)).to(case.dtype)
                for _ in range(_FRAMES)
            ]
            for _ in range(sets)
        ]

    features, embeddings = maps(_CHANNELS), maps(case.embedding_channels)

    def in_layout(layout: str, number: int) -> tuple[list[Tensor], list[Tensor]]:
        memory = MEMORY_FORMATS[layout]
        return (
            [f.contiguous(memory_format=memory) for f in features[number]],
            [e.contiguous(memory_format=memory) for e in embeddings[number]],
        )

    inputs = {layout: [in_layout(layout, i) for i in range(sets)] for layout in MEMORY_FORMATS}

    def of(function: Callable[[list[Tensor], list[Tensor]], Tensor], layout: str) -> Contestant:
        def run(number: int) -> Tensor:
            with torch.inference_mode():
                return function(*inputs[layout][number])

        return run

    def composition(dtype: torch.dtype) -> tuple[Tensor, ...]:
        wide = ([m.to(dtype) for m in maps] for maps in inputs[case.layout][0])
        with torch.inference_mode():
            return (on_backend(lambda _: aggregate(*wide), "reference", device, dtype)(0),)

    compiled, left_out = compiled_here(of, eager, case.layout)
    return Contest(
        op="aggregate",
        shape=shape,
        dtype=case.dtype,
        layout=case.layout,
        device=device,
        backends={
            name: on_backend(of(aggregate, case.layout), name, device, case.dtype)
            for name in backends
        },
        peers={"eager": {layout: of(eager, layout) for layout in MEMORY_FORMATS}, **compiled},
        truth=composition(torch.float64),
        composed=composition(case.dtype),
        sets=sets,
        moved=moved,
        copied=copied_for(moved, sets, device),
        terms=3.0 * max(float(f.abs().max()) for f in features[0]),
        columns={"variant": case.variant},
        left_out=left_out,
    )


def eager(features: list[Tensor], embeddings: list[Tensor]) -> Tensor:
    """Eq. 2 and 3 as a user of PyTorch writes them."""
    current = embeddings[-1]
    similar = torch.stack([F.cosine_similarity(e, current, dim=1) for e in embeddings])
    weights = similar.softmax(dim=0)[:, :, None]
    average = weights[0] * features[0]
    for weight, feature in zip(weights[1:], features[1:], strict=True):
        average = average + weight * feature
    return average
