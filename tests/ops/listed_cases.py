"""What the cases of the ops that compute at listed pixels share: masks, lists, poisoned maps."""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor

from hpvod_ops import PixelList

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
PATTERNS = ("sparse", "half", "blob", "one", "border", "stripes", "checkerboard", "full", "empty")
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def patterned_mask(pattern: str, batch: int, height: int, width: int, seed: int) -> Tensor:
    """bool, [N, 1, H, W], on the CPU."""
    choose = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, 1, height, width)
    y, x = torch.arange(height)[:, None], torch.arange(width)
    if pattern in ("sparse", "half"):
        return torch.rand(shape, generator=generator) < (0.1 if pattern == "sparse" else 0.5)
    if pattern == "blob":
        top, left = choose.randrange(height), choose.randrange(width)
        mask = (y - top) ** 2 + (x - left) ** 2 <= (height + width) ** 2 / 36
    elif pattern == "border":
        mask = (y == 0) | (y == height - 1) | (x == 0) | (x == width - 1)
    elif pattern == "stripes":
        mask = (x if choose.random() < 0.5 else y).expand(height, width) % 3 == 0
    elif pattern == "checkerboard":
        mask = (y + x) % 2 == 0
    else:
        mask = torch.full((height, width), pattern == "full")
    mask = mask.repeat(batch, 1, 1, 1)
    if pattern == "one":
        mask.view(-1)[choose.randrange(mask.numel())] = True
    return mask


def listed_pixels(mask: Tensor, device: torch.device) -> PixelList:
    """The mask's pixels. Behind them come those not in it: one that is written shows."""
    flat = mask.flatten()
    indices = torch.cat((flat.nonzero()[:, 0], (~flat).nonzero()[:, 0]))
    count = flat.sum(dtype=torch.int32).view(1)
    return PixelList(indices.int().to(device), count.to(device))


def dense_map(values: Tensor, device: torch.device) -> Tensor:
    """The values, dense in channels_last, between two images of NaN in one tensor."""
    batch, *image = values.shape
    padded = torch.full((batch + 2, *image), math.nan, dtype=values.dtype, device=device)
    view = padded.contiguous(memory_format=torch.channels_last).narrow(0, 1, batch)
    return view.copy_(values)


def dense_clone(tensor: Tensor) -> Tensor:
    """A copy of a `dense_map` with what lies around it."""
    base = tensor._base
    assert base is not None
    return base.clone().as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def bits(tensor: Tensor) -> Tensor:
    """As integers: NaN equals itself, and 0 is not -0."""
    return tensor.view(BITS[tensor.element_size()])


def check_the_rest(out: Tensor, before: Tensor, mask: Tensor) -> None:
    """Nothing was written but the mask's pixels of `out`, around it included."""
    assert out._base is not None and before._base is not None
    changed = bits(out) != bits(before)
    assert not (changed & ~mask.to(out.device)).any(), "an unlisted pixel was written"
    around = [0, -1]
    assert torch.equal(bits(out._base)[around], bits(before._base)[around]), "written outside"


def at(mask: Tensor, tensor: Tensor) -> Tensor:
    """The rows of the mask's pixels, [count, C]."""
    return tensor.permute(0, 2, 3, 1)[mask[:, 0].to(tensor.device)]


def unit_in_the_last_place(sums: Tensor, dtype: torch.dtype) -> float:
    """One of the largest sum of its terms' magnitudes, in the accumulation type of the dtype.

    So much is lost in adding the terms in any order. The composition's error can by luck be far
    smaller, above all where there are few results.
    """
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    largest = float(sums.max()) if sums.numel() else 0.0
    return math.ldexp(torch.finfo(wide).eps, math.frexp(largest)[1] - 1)


def check_error(result: Tensor, truth: Tensor, composition: Tensor, unit: float) -> None:
    """At most twice the error of PyTorch's own composition, counted as one unit more than it is."""
    assert (result.shape, result.dtype) == (composition.shape, composition.dtype)
    if result.numel() == 0:
        return
    bound = 2 * (float((composition.double() - truth).abs().max()) + unit)
    error = float((result.double() - truth).abs().max())
    assert error <= bound, f"error {error:.3g} exceeds {bound:.3g}"
