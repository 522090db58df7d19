"""Which pixels of a list a program does, in every op that computes at listed pixels.

How many are listed is known on the device alone, so the grid cannot depend on it: a launch has as
many programs as the GPU runs at once, or fewer where even a full list would not keep them busy,
and a program takes one tile after another until the list ends.
"""

# Triton has no type hints, and a kernel's arguments are of Triton's types.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# mypy: disallow-untyped-calls=False, disallow-untyped-decorators=False

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def listed_pixels(pixels, position, listed, WIDE: tl.constexpr):
    """The listed pixels at `position`, and whether there is one."""
    live = position < listed
    pixel = tl.load(pixels + position, mask=live, other=0)
    if WIDE:
        pixel = pixel.to(tl.int64)
    return pixel, live


@triton.jit
def split_index(pixel, height, width):
    """(image, y, x) of a flat index into [N, height, width]."""
    row = pixel // width
    image = row // height
    return image, row - image * height, pixel - row * width
