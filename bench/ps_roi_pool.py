"""`ps_roi_pool` of R-FCN's score maps, against summed-area tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.contest import MEMORY_FORMATS, Contest, kernels_here, on_backend
from bench.rows import dtype_name
from bench.timing import number_of_sets
from hpvod_ops import ps_roi_pool

_GROUPS, _STRIDE = 7, 16
_SIZE = (38, 63)  # of the score maps of a 600 x 1000 image
_ROIS = 300  # an image


@dataclass(frozen=True)
class Case:
    """What one contest is about."""

    channels: int
    batch: int
    dtype: torch.dtype

    def __str__(self) -> str:
        """For the progress display."""
        return f"ps_roi_pool, {self.channels} channels, {self.batch} x {dtype_name(self.dtype)}"


def cases(device: torch.device) -> list[Case]:
    """The scores of 31 classes and the 4 coordinates of boxes; on a GPU also eight images."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    batches = (1, 8) if device.type == "cuda" else (1,)
    return [Case(channels, batch, dtype) for batch in batches for channels in (31, 4)]


runnable_backends = kernels_here


def contest(case: Case, device: torch.device, backends: Sequence[str]) -> Contest:
    """Inputs, contestants and truth of one case."""
    shape = (case.batch, case.channels * _GROUPS**2, *_SIZE)
    rois = random_rois(case.batch).to(device)
    results = len(rois) * case.channels * _GROUPS**2
    moved = (torch.Size(shape).numel() + results) * case.dtype.itemsize + rois.nbytes
    sets = number_of_sets(device, moved)
    generator = torch.Generator(device).manual_seed(0)
    maps = [
        torch.randn(shape, generator=generator, device=device)
        .to(case.dtype)
        .contiguous(memory_format=torch.channels_last)
        for _ in range(sets)
    ]

    def by_backend(backend: str, dtype: torch.dtype = case.dtype) -> Callable[[int], Tensor]:
        def run(number: int) -> Tensor:
            with torch.inference_mode():
                return ps_roi_pool(maps[number].to(dtype), rois, _GROUPS, _STRIDE)

        return on_backend(run, backend, device, dtype)

    def summed_area(layout: str) -> Callable[[int], Tensor]:
        inputs = [m.contiguous(memory_format=MEMORY_FORMATS[layout]) for m in maps]

        def run(number: int) -> Tensor:
            with torch.inference_mode():
                return with_summed_area(inputs[number], rois, _GROUPS, _STRIDE)

        return run

    return Contest(
        op="ps_roi_pool",
        shape=shape,
        dtype=case.dtype,
        layout="channels_last",
        device=device,
        backends={name: by_backend(name) for name in backends},
        peers={"summed_area": {layout: summed_area(layout) for layout in MEMORY_FORMATS}},
        truth=(by_backend("reference", torch.float64)(0),),
        composed=(by_backend("reference")(0),),
        sets=sets,
        moved=moved,
    )


def random_rois(batch: int) -> Tensor:
    """RoIs of all sizes inside their images, [batch * 300, 5]."""
    generator = torch.Generator().manual_seed(0)
    height, width = (_STRIDE * side for side in _SIZE)
    corners = torch.rand(batch * _ROIS, 2, 2, generator=generator).sort(1)[0]
    corners = corners * torch.tensor([width - 1, height - 1])
    image = torch.arange(batch).repeat_interleave(_ROIS)[:, None]
    return torch.cat((image, corners.flatten(1)), 1)


def with_summed_area(score_maps: Tensor, rois: Tensor, groups: int, stride: int) -> Tensor:
    """The same by PyTorch's ops, at a cost that does not depend on the bins' sizes.

    The tables are float64 because a bin is a difference of sums over the whole map.
    """
    height, width = score_maps.shape[-2:]
    table = F.pad(score_maps.double().cumsum(-1).cumsum(-2), (1, 0, 1, 0))
    table = table.reshape(len(table), -1, groups, groups, height + 1, width + 1)
    x0, x1 = _bin_edges(rois[:, 1], rois[:, 3], groups, stride, width)
    y0, y1 = _bin_edges(rois[:, 2], rois[:, 4], groups, stride, height)
    image = rois[:, 0].long()[:, None, None]
    row = torch.arange(groups, device=rois.device)[:, None]
    column = torch.arange(groups, device=rois.device)

    def corner(y: Tensor, x: Tensor) -> Tensor:
        at: Tensor = table[image, :, row, column, y[:, :, None], x[:, None, :]]
        return at  # [R, groups, groups, C]

    total = corner(y1, x1) - corner(y0, x1) - corner(y1, x0) + corner(y0, x0)
    area = ((y1 - y0)[:, :, None] * (x1 - x0)[:, None, :]).clamp(min=1)
    return (total / area[..., None]).permute(0, 3, 1, 2).to(score_maps.dtype)


def _bin_edges(
    start: Tensor, end: Tensor, groups: int, stride: int, size: int
) -> tuple[Tensor, Tensor]:
    """First and one past the last feature pixel of every bin along one axis, both [R, groups]."""
    begin = (start + 0.5).floor() / stride
    length = (((end + 0.5).floor() + 1) / stride - begin).clamp(min=0.1)
    step = (length / groups)[:, None]
    index = torch.arange(groups, dtype=start.dtype, device=start.device)
    first = (index * step + begin[:, None]).floor().clamp(0, size).long()
    last = ((index + 1) * step + begin[:, None]).ceil().clamp(0, size).long()
    return first, last
