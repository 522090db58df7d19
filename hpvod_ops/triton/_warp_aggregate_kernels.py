"""The kernel behind `hpvod_ops.triton.warp_aggregate`."""

# Triton has no type hints, and a kernel's arguments are of Triton's types.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# mypy: disallow-untyped-calls=False, disallow-untyped-decorators=False

from __future__ import annotations

import triton
import triton.language as tl

from hpvod_ops.triton._listed import split_index
from hpvod_ops.triton._narrow import narrow
from hpvod_ops.triton._similarity import divide, guarded_norm
from hpvod_ops.triton._warp_kernels import corner_taps

UNSPECIALIZED = ("pixels", "height", "width")


@triton.jit
def _warped(map, image, x, y, live, height, width, channel, channels, ACCUMULATE: tl.constexpr):
    """The map at (x, y), [PIXELS, CHANNELS]; a corner of weight 0 is never read."""
    total = tl.zeros((x.shape[0], channel.shape[1]), ACCUMULATE)
    for corner in tl.static_range(4):
        inside, source, weight_x, weight_y = corner_taps(
            x, y, image, live, height, width, corner % 2, corner // 2
        )
        weight = weight_x * weight_y
        row = ((image * height * width + source) * channels)[:, None]
        mask = (inside & (weight != 0))[:, None] & (channel < channels)
        value = tl.load(map + (row + channel), mask=mask, other=0)
        total += weight[:, None] * value.to(ACCUMULATE)
    return total


@triton.jit(do_not_specialize=UNSPECIALIZED)
def warp_aggregate_kernel(
    key_feature,  # [N, H, W, C]
    key_embedding,  # [N, H, W, E]
    feature,  # [N, H, W, C]
    embedding,  # [N, H, W, E]
    flow,  # [N, 2, H, W]
    mask,  # bool [N, H, W] or None
    own_feature,  # [N, H, W, C] or None, as the mask
    own_embedding,  # [N, H, W, E] or None, likewise
    scale,  # [N, H, W, C] or None
    output,  # [N, H, W, C]
    pixels,  # N * H * W
    channels,
    embedding_channels,
    height,
    width,
    WIDE: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    dtype: tl.constexpr = output.dtype.element_ty
    ACCUMULATE: tl.constexpr = tl.float64 if dtype == tl.float64 else tl.float32
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    if WIDE:
        pixel = pixel.to(tl.int64)
    live = pixel < pixels
    image, row, column = split_index(pixel, height, width)
    # dx of image n comes after the 2 * n planes of the images before it.
    flow += pixel + image * height * width
    x = tl.load(flow, mask=live, other=0).to(ACCUMULATE) + column
    y = tl.load(flow + height * width, mask=live, other=0).to(ACCUMULATE) + row
    updated = live
    if mask is not None:
        updated = live & tl.load(mask + pixel, mask=live, other=0).to(tl.int1)
    replaced = live & (updated == 0)
    lane = tl.arange(0, CHANNELS)[None, :]

    dot = tl.zeros((PIXELS, CHANNELS), ACCUMULATE)
    key_square = tl.zeros((PIXELS, CHANNELS), ACCUMULATE)
    square = tl.zeros((PIXELS, CHANNELS), ACCUMULATE)
    for start in range(0, embedding_channels, CHANNELS):
        channel = start + lane
        wanted = updated[:, None] & (channel < embedding_channels)
        offset = pixel[:, None] * embedding_channels + channel
        key = _warped(
            key_embedding,
            image,
            x,
            y,
            live,
            height,
            width,
            channel,
            embedding_channels,
            ACCUMULATE,
        )
        current = tl.load(embedding + offset, mask=wanted, other=0).to(ACCUMULATE)
        if mask is not None:
            # Either is zero where the other one holds.
            current += _warped(
                own_embedding,
                image,
                x,
                y,
                replaced,
                height,
                width,
                channel,
                embedding_channels,
                ACCUMULATE,
            )
        dot += key * current
        key_square += key * key
        square += current * current

    current_square = tl.sum(square, axis=1)
    norm = guarded_norm(current_square)
    cosine = divide(tl.sum(dot, axis=1), guarded_norm(tl.sum(key_square, axis=1)) * norm)
    # The softmax of two needs one exponential, and the cosines lie within 1 of 0.
    ratio = tl.exp(divide(current_square, norm * norm) - cosine)
    key_weight = divide(tl.full((PIXELS,), 1, ACCUMULATE), 1 + ratio)[:, None]
    weight = ratio[:, None] * key_weight

    for start in range(0, channels, CHANNELS):
        channel = start + lane
        offset = pixel[:, None] * channels + channel
        key = _warped(key_feature, image, x, y, live, height, width, channel, channels, ACCUMULATE)
        wanted = updated[:, None] & (channel < channels)
        current = tl.load(feature + offset, mask=wanted, other=0).to(ACCUMULATE)
        if mask is not None:
            own = _warped(
                own_feature, image, x, y, replaced, height, width, channel, channels, ACCUMULATE
            )
            if scale is not None:
                unwanted = replaced[:, None] & (channel < channels)
                own *= tl.load(scale + offset, mask=unwanted, other=0).to(ACCUMULATE)
            current += own
        result = key_weight * key + weight * current
        tl.store(output + offset, narrow(result, dtype), mask=live[:, None] & (channel < channels))
