"""The kernel behind `hpvod_ops.triton.aggregate`."""

# Triton has no type hints, and a kernel's arguments are of Triton's types.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# mypy: disallow-untyped-calls=False, disallow-untyped-decorators=False

from __future__ import annotations

import triton
import triton.language as tl

from hpvod_ops.triton._narrow import narrow
from hpvod_ops.triton._similarity import divide, guarded_norm


@triton.jit(do_not_specialize=("pixels",))
def aggregate_kernel(
    features,  # T times [N, H, W, C]
    embeddings,  # T times [N, H, W, E]
    output,  # [N, H, W, C]
    pixels,  # N * H * W
    channels,
    embedding_channels,
    FRAMES: tl.constexpr,
    WIDE: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    dtype: tl.constexpr = output.dtype.element_ty
    ACCUMULATE: tl.constexpr = tl.float64 if dtype == tl.float64 else tl.float32
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    if WIDE:
        pixel = pixel.to(tl.int64)
    live = (pixel < pixels)[:, None]
    column = tl.arange(0, CHANNELS)[None, :]

    row = pixel[:, None] * embedding_channels
    current = embeddings[FRAMES - 1]
    square = tl.zeros((PIXELS, CHANNELS), ACCUMULATE)
    for start in range(0, embedding_channels, CHANNELS):
        channel = start + column
        mask = live & (channel < embedding_channels)
        mine = tl.load(current + (row + channel), mask=mask, other=0).to(ACCUMULATE)
        square += mine * mine
    current_square = tl.sum(square, axis=1)
    current_norm = guarded_norm(current_square)

    # Unrolled over the frames: a tuple cannot be indexed by what only the GPU knows. The current
    # embedding is loaded again with each of the others, from L1.
    weights = ()
    total = tl.zeros((PIXELS,), ACCUMULATE)
    for frame in tl.static_range(FRAMES):
        if frame == FRAMES - 1:
            cosine = divide(current_square, current_norm * current_norm)
        else:
            dot = tl.zeros((PIXELS, CHANNELS), ACCUMULATE)
            square = tl.zeros((PIXELS, CHANNELS), ACCUMULATE)
            for start in range(0, embedding_channels, CHANNELS):
                channel = start + column
                mask = live & (channel < embedding_channels)
                mine = tl.load(current + (row + channel), mask=mask, other=0).to(ACCUMULATE)
                other = tl.load(embeddings[frame] + (row + channel), mask=mask, other=0)
                other = other.to(ACCUMULATE)
                dot += mine * other
                square += other * other
            norm = guarded_norm(tl.sum(square, axis=1))
            cosine = divide(tl.sum(dot, axis=1), norm * current_norm)
        # Within 1 of 0, so that its exponential needs no maximum taken off.
        weight = tl.exp(cosine)
        total += weight
        weights = weights + (weight,)  # type: ignore[assignment]  # noqa: RUF005

    row = pixel[:, None] * channels
    for start in range(0, channels, CHANNELS):
        channel = start + column
        mask = live & (channel < channels)
        result = tl.zeros((PIXELS, CHANNELS), ACCUMULATE)
        for frame in tl.static_range(FRAMES):
            value = tl.load(features[frame] + (row + channel), mask=mask, other=0).to(ACCUMULATE)
            result += divide(weights[frame], total)[:, None] * value
        tl.store(output + (row + channel), narrow(result, dtype), mask=mask)
