"""`warp_aggregate` (Eq. 7, 10 and 11) of two frames, against PyTorch eager and compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.clip import true_flow
from bench.contest import (
    MEMORY_FORMATS,
    Contest,
    compiled_here,
    copied_for,
    kernels_here,
    on_backend,
)
from bench.rows import dtype_name
from bench.timing import CPU_CACHE, Contestant, number_of_sets
from bench.warp import with_grid_sample
from hpvod_ops import warp_aggregate

_CHANNELS = 1024
_SIZE = (38, 63)  # of the features of a 600 x 1000 image
_DENSITY = 0.1  # of U


@dataclass(frozen=True)
class Case:
    """What one contest is about."""

    embedding_channels: int
    masked: bool
    dtype: torch.dtype
    layout: str

    def __str__(self) -> str:
        """For the progress display."""
        return f"warp_aggregate, {self.variant}, {dtype_name(self.dtype)} {self.layout}"

    @property
    def variant(self) -> str:
        """What tells its rows apart."""
        return f"{self.embedding_channels}-d{', masked' if self.masked else ''}"


def cases(device: torch.device) -> list[Case]:
    """Embeddings of EmbedNet's 2048 channels, and of the small one's 256; with Eq. 10 as well."""
    if device.type == "cuda":
        return [
            Case(channels, masked, dtype, "channels_last")
            for dtype in (torch.float32, torch.bfloat16)
            for channels in (2048, 256)
            for masked in (False, True)
        ]
    return [
        Case(channels, masked, torch.float32, layout)
        for layout in MEMORY_FORMATS
        for channels in (2048, 256)
        for masked in ((False, True) if layout == "channels_last" else (False,))
    ]


runnable_backends = kernels_here


def contest(case: Case, device: torch.device, backends: Sequence[str]) -> Contest:
    """Inputs, contestants and truth of one case; compiles what is to be compiled."""
    shape = (1, _CHANNELS, *_SIZE)
    moved = _values_moved(case) * _SIZE[0] * _SIZE[1] * case.dtype.itemsize
    sets = number_of_sets(device, moved, CPU_CACHE)
    drawn = [_inputs(case, device, number) for number in range(sets)]

    def in_layout(tensors: dict[str, Tensor], layout: str) -> dict[str, Tensor]:
        memory = MEMORY_FORMATS[layout]
        return {
            name: x if name == "flow" else x.contiguous(memory_format=memory)
            for name, x in tensors.items()
        }

    inputs = {layout: [in_layout(each, layout) for each in drawn] for layout in MEMORY_FORMATS}

    def of(function: Callable[..., Tensor], layout: str) -> Contestant:
        def run(number: int) -> Tensor:
            with torch.inference_mode():
                return function(**inputs[layout][number])

        return run

    def composition(dtype: torch.dtype) -> tuple[Tensor, ...]:
        wide = {
            name: x.to(dtype) if x.is_floating_point() else x
            for name, x in inputs[case.layout][0].items()
        }
        with torch.inference_mode():
            return (on_backend(lambda _: warp_aggregate(**wide), "reference", device, dtype)(0),)

    compiled, left_out = compiled_here(of, eager, case.layout)
    return Contest(
        op="warp_aggregate",
        shape=shape,
        dtype=case.dtype,
        layout=case.layout,
        device=device,
        backends={
            name: on_backend(of(warp_aggregate, case.layout), name, device, case.dtype)
            for name in backends
        },
        peers={"eager": {layout: of(eager, layout) for layout in MEMORY_FORMATS}, **compiled},
        truth=composition(torch.float64),
        composed=composition(case.dtype),
        sets=sets,
        moved=moved,
        copied=copied_for(moved, sets, device),
        terms=3.0 * max(float(drawn[0][name].abs().max()) for name in ("key_feature", "feature")),
        columns={"variant": case.variant},
        left_out=left_out,
    )


def _values_moved(case: Case) -> int:
    """Values a pixel that must be read or written; of the two current maps one, where U says so."""
    return 3 * _CHANNELS + 2 * case.embedding_channels + 2


def _inputs(case: Case, device: torch.device, number: int) -> dict[str, Tensor]:
    """The arguments by name. The clip's motion from some frame back to its key frame."""
    generator = torch.Generator(device).manual_seed(number)

    def noise(channels: int) -> Tensor:
        size = (1, channels, *_SIZE)
        return torch.randn(size, generator=generator, device=device).to(case.dtype)

    tensors = {
        "key_feature": noise(_CHANNELS),
        "key_embedding": noise(case.embedding_channels),
        "feature": noise(_CHANNELS),
        "embedding": noise(case.embedding_channels),
        "flow": true_flow(1 + number % 30, 0, *_SIZE).to(device, case.dtype),
    }
    if case.masked:
        place = torch.rand(1, 1, *_SIZE, generator=generator, device=device)
        tensors["mask"] = place < _DENSITY
        tensors["own_feature"] = noise(_CHANNELS)
        tensors["own_embedding"] = noise(case.embedding_channels)
    return tensors


def eager(
    key_feature: Tensor,
    key_embedding: Tensor,
    feature: Tensor,
    embedding: Tensor,
    flow: Tensor,
    mask: Tensor | None = None,
    own_feature: Tensor | None = None,
    own_embedding: Tensor | None = None,
) -> Tensor:
    """Eq. 7 and 10 as a user of PyTorch writes them."""
    if mask is not None and own_feature is not None and own_embedding is not None:
        feature = torch.where(mask, feature, with_grid_sample(own_feature, flow))
        embedding = torch.where(mask, embedding, with_grid_sample(own_embedding, flow))
    key_feature = with_grid_sample(key_feature, flow)
    key_embedding = with_grid_sample(key_embedding, flow)
    similar = [F.cosine_similarity(e, embedding, dim=1) for e in (key_embedding, embedding)]
    weights = torch.stack(similar).softmax(dim=0)[:, :, None]
    return weights[0] * key_feature + weights[1] * feature
