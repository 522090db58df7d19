"""`warp_pixels_` (Eq. 1 at listed pixels) against grid_sample everywhere and gathered rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.contest import MEMORY_FORMATS, Contest, kernels_here, on_backend
from bench.rows import dtype_name
from bench.timing import number_of_sets
from bench.updates import updates
from bench.warp import rows_with_embedding_bag, with_grid_sample
from hpvod_ops import PixelSet, update_plan, use_backend, warp_pixels_


@dataclass(frozen=True)
class Case:
    """What one contest is about."""

    layer: str
    channels: int
    pixels: PixelSet
    batch: int
    dtype: torch.dtype

    def __str__(self) -> str:
        """For the progress display."""
        return f"warp_pixels of {self.layer}, {self.batch} x {dtype_name(self.dtype)}"


# What ResNet-101 warps in a 600 x 1000 image: around the active pixels of res2's and feat_conv's
# inputs, and its result wherever it is not computed.
_LAYERS = (
    ("res2 halo", 64, PixelSet("halo", 4, 150, 250)),
    ("res5 halo", 2048, PixelSet("halo", 1, 38, 63, 6)),
    ("feat_conv inactive", 1024, PixelSet("inactive", 1, 38, 63)),
)
_DENSITY = 0.1  # of U = 1


def cases(device: torch.device) -> list[Case]:
    """A frame at 10 %; on a GPU also eight."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    batches = (1, 8) if device.type == "cuda" else (1,)
    return [Case(*layer, batch, dtype) for batch in batches for layer in _LAYERS]


runnable_backends = kernels_here


def contest(case: Case, device: torch.device, backends: Sequence[str]) -> Contest:
    """Inputs, contestants and truth of one case."""
    of_frames = updates(case.batch)
    flow = of_frames.flow.to(device, case.dtype)
    q = of_frames.quality(_DENSITY).to(device)
    _, ratio, height, width, _ = case.pixels
    shape = (case.batch, case.channels, height, width)
    with use_backend("reference"):
        plan = update_plan(q, 0.0, 1.0, sets=(case.pixels,))
    listed = plan.lists[case.pixels]
    count = int(listed.count)
    index = listed.indices[:count].long()

    bytes_moved = 2 * count * case.channels * case.dtype.itemsize + flow.nbytes + 4 * count
    sets = number_of_sets(device, bytes_moved)
    generator = torch.Generator(device).manual_seed(0)

    def noise() -> Tensor:
        values = torch.randn(shape, generator=generator, device=device).to(case.dtype)
        return values.contiguous(memory_format=torch.channels_last)

    features, base = [noise() for _ in range(sets)], noise()
    mask = torch.zeros(case.batch * height * width, dtype=torch.bool, device=device)
    mask[index] = True
    mask = mask.view(case.batch, 1, height, width)

    def by_backend(backend: str, dtype: torch.dtype = case.dtype) -> Callable[[int], Tensor]:
        maps = [feature.to(dtype) for feature in features]
        outputs = [base.to(dtype, copy=True) for _ in maps]
        motion = flow.to(dtype)
        with use_backend(backend):
            pixels = update_plan(q, 0.0, 1.0, sets=(case.pixels,)).lists[case.pixels]

        def run(number: int) -> Tensor:
            with torch.inference_mode():
                return warp_pixels_(outputs[number], maps[number], motion, pixels, ratio=ratio)

        return on_backend(run, backend, device, case.dtype)

    def everywhere(layout: str) -> Callable[[int], Tensor]:
        maps = [feature.contiguous(memory_format=MEMORY_FORMATS[layout]) for feature in features]

        def run(number: int) -> Tensor:
            with torch.inference_mode():
                return with_grid_sample(maps[number], flow_at_ratio(flow, ratio, height, width))

        return run

    outputs = [base.clone() for _ in features]

    def at_pixels(number: int) -> Tensor:
        with torch.inference_mode():
            return with_embedding_bag_(outputs[number], features[number], flow, index, ratio)

    return Contest(
        op="warp_pixels",
        shape=shape,
        dtype=case.dtype,
        layout="channels_last",
        device=device,
        backends={name: by_backend(name) for name in backends},
        peers={
            "grid_sample": {layout: everywhere(layout) for layout in MEMORY_FORMATS},
            "embedding_bag": {"channels_last": at_pixels},
        },
        truth=(by_backend("reference", torch.float64)(0),),
        composed=(by_backend("reference")(0),),
        sets=sets,
        moved=bytes_moved,
        # What is warped elsewhere, nobody asked for.
        peer_results=lambda out: (torch.where(mask, out, base),),
        density=count / mask.numel(),
        columns={"layer": case.layer, "updated": float((q <= 0).double().mean())},
    )


def flow_at_ratio(flow: Tensor, ratio: int, height: int, width: int) -> Tensor:
    """The flow of a layer with `ratio` times as many pixels, [N, 2, height, width]."""
    if ratio == 1:
        return flow
    x = torch.arange(width, device=flow.device) * (2 / ratio / (flow.shape[3] - 1)) - 1
    y = torch.arange(height, device=flow.device) * (2 / ratio / (flow.shape[2] - 1)) - 1
    grid = torch.stack((x.expand(height, width), y[:, None].expand(height, width)), dim=-1)
    grid = grid.expand(len(flow), -1, -1, -1)
    return ratio * F.grid_sample(flow.float(), grid, padding_mode="border", align_corners=True)


def with_embedding_bag_(
    out: Tensor, feature: Tensor, flow: Tensor, index: Tensor, ratio: int
) -> Tensor:
    """Eq. 1 at the pixels of an index, as sums of four rows."""
    channels, height, width = feature.shape[1:]
    motion = flow_at_ratio(flow, ratio, height, width).permute(0, 2, 3, 1).reshape(-1, 2)
    motion = motion.index_select(0, index).float()
    image, y, x = index // (height * width), index // width % height, index % width
    rows = rows_with_embedding_bag(feature, image, x + motion[:, 0], y + motion[:, 1])
    out.permute(0, 2, 3, 1).view(-1, channels).index_copy_(0, index, rows)
    return out
