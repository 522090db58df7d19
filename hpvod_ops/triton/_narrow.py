"""Rounding to the type of a result, the same compiled and interpreted."""

# Triton has no type hints, and a kernel's arguments are of Triton's types.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# mypy: disallow-untyped-calls=False, disallow-untyped-decorators=False

from __future__ import annotations

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def narrow(value, dtype: tl.constexpr):
    """`value.to(dtype)`, to the nearest, ties to even."""
    if INTERPRETED and dtype == tl.bfloat16 and value.dtype == tl.float32:
        # The interpreter truncates to bfloat16, a GPU does not: round beforehand.
        bits = value.to(tl.int32, bitcast=True)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000
        value = tl.where(value == value, rounded.to(tl.float32, bitcast=True), value)
    return value.to(dtype)
