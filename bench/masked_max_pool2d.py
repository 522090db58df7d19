"""`masked_max_pool2d_` of ResNet's stem at the pixels that a frame updates, against PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.contest import MEMORY_FORMATS, Contest, kernels_here, on_backend
from bench.rows import dtype_name
from bench.timing import number_of_sets
from bench.updates import at_ratio, updates
from hpvod_ops import PixelSet, masked_max_pool2d_, update_plan, use_backend

_CHANNELS = 64
_SIZE = (300, 500)  # of the stem's output
_PIXELS = PixelSet("active", 4, 150, 250)


@dataclass(frozen=True)
class Case:
    """What one contest is about."""

    density: float  # of U = 1
    batch: int
    dtype: torch.dtype

    def __str__(self) -> str:
        """For the progress display."""
        kind = f"{self.batch} x {dtype_name(self.dtype)}"
        return f"masked_max_pool2d, {kind}, {100 * self.density:g} %"


def cases(device: torch.device) -> list[Case]:
    """A frame at 10 and 100 %."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    return [Case(density, 1, dtype) for density in (0.1, 1.0)]


runnable_backends = kernels_here


def contest(case: Case, device: torch.device, backends: Sequence[str]) -> Contest:
    """Inputs, contestants and truth of one case."""
    q = updates(case.batch).quality(case.density).to(device)
    mask = at_ratio(q <= 0, _PIXELS.ratio, (_PIXELS.height, _PIXELS.width))
    written = int(mask.sum()) * _CHANNELS * case.dtype.itemsize
    moved = written * 5  # with stride 2, four new pixels of the input each
    sets = number_of_sets(device, moved)
    generator = torch.Generator(device).manual_seed(0)

    def noise(height: int, width: int) -> Tensor:
        shape = (case.batch, _CHANNELS, height, width)
        values = torch.randn(shape, generator=generator, device=device).to(case.dtype)
        return values.contiguous(memory_format=torch.channels_last)

    maps, base = [noise(*_SIZE) for _ in range(sets)], noise(_PIXELS.height, _PIXELS.width)

    def by_backend(backend: str) -> Callable[[int], Tensor]:
        outputs = [base.clone() for _ in maps]
        with use_backend(backend):
            pixels = update_plan(q, 0.0, 1.0, sets=(_PIXELS,)).lists[_PIXELS]

        def run(number: int) -> Tensor:
            with torch.inference_mode():
                out, x = outputs[number], maps[number]
                return masked_max_pool2d_(out, x, pixels, kernel=3, stride=2, padding=1)

        return on_backend(run, backend, device, case.dtype)

    def dense(layout: str) -> Callable[[int], Tensor]:
        inputs = [x.contiguous(memory_format=MEMORY_FORMATS[layout]) for x in maps]

        def run(number: int) -> Tensor:
            with torch.inference_mode():
                return F.max_pool2d(inputs[number], 3, 2, 1)

        return run

    composed = by_backend("reference")(0)
    return Contest(
        op="masked_max_pool2d",
        shape=(case.batch, _CHANNELS, *_SIZE),
        dtype=case.dtype,
        layout="channels_last",
        device=device,
        backends={name: by_backend(name) for name in backends},
        peers={"dense": {layout: dense(layout) for layout in MEMORY_FORMATS}},
        truth=(composed.double(),),  # the largest of some numbers is exact in any dtype
        composed=(composed,),
        sets=sets,
        moved=moved,
        # What is pooled elsewhere, nobody asked for.
        peer_results=lambda out: (torch.where(mask, out, base),),
        density=float(mask.double().mean()),
        columns={"layer": "stem", "updated": float((q <= 0).double().mean())},
    )
