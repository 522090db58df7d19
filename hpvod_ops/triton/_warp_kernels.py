"""The kernels behind `hpvod_ops.triton.warp`, for both memory layouts.

Each works on blocks of PIXELS x CHANNELS; the layout only decides which of the two is adjacent
in memory, and that one is the block's last axis: where gathered addresses do not tell, Triton
3.9 puts neighbouring threads along it (3.6 along the first axis, which is slower but right).
"""

# Triton has no type hints, and a kernel's arguments are of Triton's types.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# mypy: disallow-untyped-calls=False, disallow-untyped-decorators=False

from __future__ import annotations

import triton
import triton.language as tl

from hpvod_ops.triton._narrow import narrow

# Triton compiles variants for arguments that are 1 or multiples of 16. Those of the number of
# channels give channels_last its 16-byte accesses. Those of H * W are not wanted: a thread that
# stored 16 bytes of neighbouring pixels would read their corners one by one, a stride apart
# from the next thread's.
UNSPECIALIZED = ("batch", "height", "width", "plane", "feature_step", "chunks")


@triton.jit
def _program(plane, chunks, CHANNELS_LAST: tl.constexpr, WIDE: tl.constexpr, PIXELS: tl.constexpr):
    """This program's image, positions [PIXELS] in its plane, and chunk of channels.

    Neighbouring programs are neighbours in memory: along channels in channels_last, along
    pixels otherwise.
    """
    program = tl.program_id(0)
    if WIDE:
        program = program.to(tl.int64)
    pixel_blocks = tl.cdiv(plane, PIXELS)
    if CHANNELS_LAST:
        chunk = program % chunks
        pixel_block = program // chunks % pixel_blocks
    else:
        pixel_block = program % pixel_blocks
        chunk = program // pixel_blocks % chunks
    image = program // pixel_blocks // chunks
    return image, pixel_block * PIXELS + tl.arange(0, PIXELS), chunk


@triton.jit
def _by_pixel(values, CHANNELS_LAST: tl.constexpr):
    """[PIXELS] as the block's pixel axis: the first in channels_last, the last otherwise."""
    return tl.expand_dims(values, 1 if CHANNELS_LAST else 0)


@triton.jit
def _by_channel(values, CHANNELS_LAST: tl.constexpr):
    """[CHANNELS] as the block's channel axis."""
    return tl.expand_dims(values, 0 if CHANNELS_LAST else 1)


@triton.jit
def _zeros(
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr, CHANNELS_LAST: tl.constexpr, DTYPE: tl.constexpr
):
    if CHANNELS_LAST:
        return tl.zeros((PIXELS, CHANNELS), DTYPE)
    else:
        return tl.zeros((CHANNELS, PIXELS), DTYPE)


@triton.jit
def _offsets(image, position, channel, channels, plane, CHANNELS_LAST: tl.constexpr):
    """A block's element offsets into an [N, C, H, W] map."""
    channel = _by_channel(channel, CHANNELS_LAST)
    if CHANNELS_LAST:
        return _by_pixel((image * plane + position) * channels, CHANNELS_LAST) + channel
    else:
        first = _by_pixel(image * channels * plane + position, CHANNELS_LAST)
        return first + channel * plane


@triton.jit
def _target(flow, image, position, live, plane, width, ACCUMULATE: tl.constexpr):
    """The point (x, y) of the feature map that the output pixels at `position` read."""
    row = position // width
    flow += image * 2 * plane + position
    x = tl.load(flow, mask=live, other=0).to(ACCUMULATE) + (position - row * width)
    y = tl.load(flow + plane, mask=live, other=0).to(ACCUMULATE) + row
    return x, y


@triton.jit
def corner_taps(x, y, position, live, height, width, RIGHT: tl.constexpr, BELOW: tl.constexpr):
    """One of the four pixels around (x, y): whether it is inside, its position, its weights."""
    left = tl.floor(x)
    top = tl.floor(y)
    # Compared as floating point: NaN, infinity and 1e30 must not become integers.
    inside = live & (left >= -RIGHT) & (left < width - RIGHT)
    inside = inside & (top >= -BELOW) & (top < height - BELOW)
    index_x = tl.where(inside, left + RIGHT, 0).to(position.dtype)
    index_y = tl.where(inside, top + BELOW, 0).to(position.dtype)
    weight_x = x - left if RIGHT else left + 1 - x
    weight_y = y - top if BELOW else top + 1 - y
    # Outside, a weight may be NaN, which a value of zero would not silence.
    weight_x = tl.where(inside, weight_x, 0)
    weight_y = tl.where(inside, weight_y, 0)
    return inside, index_y * width + index_x, weight_x, weight_y


@triton.jit(do_not_specialize=UNSPECIALIZED)
def forward_kernel(
    feature,  # [N or 1, C, H, W]
    flow,  # [N, 2, H, W]
    scale,  # [N, C, H, W] or None
    output,  # [N, C, H, W]
    channels,
    height,
    width,
    plane,  # H * W
    feature_step,  # 0 where the one feature serves every image, else 1
    chunks,  # programs that share a block of pixels
    chunk_channels,  # channels each of them does
    CHANNELS_LAST: tl.constexpr,
    WIDE: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    ACCUMULATE: tl.constexpr = tl.float64 if feature.dtype.element_ty == tl.float64 else tl.float32
    image, position, chunk = _program(plane, chunks, CHANNELS_LAST, WIDE, PIXELS)
    images = tl.full((PIXELS,), 0, position.dtype) + image
    live = position < plane
    x, y = _target(flow, image, position, live, plane, width, ACCUMULATE)

    first = chunk * chunk_channels
    for start in range(first, tl.minimum(first + chunk_channels, channels), CHANNELS):
        channel = start + tl.arange(0, CHANNELS)
        wanted = _by_channel(channel < channels, CHANNELS_LAST)
        total = _zeros(PIXELS, CHANNELS, CHANNELS_LAST, ACCUMULATE)
        for corner in tl.static_range(4):
            inside, source, weight_x, weight_y = corner_taps(
                x, y, position, live, height, width, corner % 2, corner // 2
            )
            offset = _offsets(
                images * feature_step, source, channel, channels, plane, CHANNELS_LAST
            )
            value = tl.load(
                feature + offset, mask=_by_pixel(inside, CHANNELS_LAST) & wanted, other=0
            )
            total += _by_pixel(weight_x * weight_y, CHANNELS_LAST) * value.to(ACCUMULATE)
        offset = _offsets(images, position, channel, channels, plane, CHANNELS_LAST)
        mask = _by_pixel(live, CHANNELS_LAST) & wanted
        if scale is not None:
            total *= tl.load(scale + offset, mask=mask, other=0).to(ACCUMULATE)
        tl.store(output + offset, narrow(total, output.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=UNSPECIALIZED)
def link_kernel(
    flow,  # [N, 2, H, W]
    head,  # [N or 1, H, W]: the first node of a source pixel's list, -1 where it is empty
    following,  # [N, H, W, 4]: the node after each; node = 4 * output pixel + corner
    height,
    width,
    plane,
    feature_step,
    DOUBLE: tl.constexpr,  # whether the other kernels compute in float64
    WIDE: tl.constexpr,
    PIXELS: tl.constexpr,
):
    ACCUMULATE: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    image, position, _ = _program(plane, 1, False, WIDE, PIXELS)
    live = position < plane
    x, y = _target(flow, image, position, live, plane, width, ACCUMULATE)
    for corner in tl.static_range(4):
        inside, source, weight_x, weight_y = corner_taps(
            x, y, position, live, height, width, corner % 2, corner // 2
        )
        # Leaving out corners of no weight makes the lists of whole-pixel flow, still scenes
        # above all, four times shorter.
        linked = inside & (weight_x * weight_y > 0)
        node = 4 * (image * plane + position) + corner
        head_of_source = head + image * feature_step * plane + source
        earlier = tl.atomic_xchg(head_of_source, node, mask=linked, sem="relaxed")
        tl.store(following + node, earlier, mask=linked)


@triton.jit
def _weight(target, source):
    """Bilinear weight, along one axis, that a target point gives to a pixel it reads."""
    low = tl.floor(target)
    return tl.where(source == low, low + 1 - target, target - low)


@triton.jit(do_not_specialize=UNSPECIALIZED)
def grad_feature_kernel(
    flow,  # [N, 2, H, W]
    scale,  # [N, C, H, W] or None
    grad_output,  # [N, C, H, W]
    head,  # as link_kernel left them
    following,
    grad_feature,  # [N or 1, C, H, W]
    channels,
    width,
    plane,
    chunks,
    CHANNELS_LAST: tl.constexpr,
    WIDE: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    dtype: tl.constexpr = grad_feature.dtype.element_ty
    ACCUMULATE: tl.constexpr = tl.float64 if dtype == tl.float64 else tl.float32
    image, position, chunk = _program(plane, chunks, CHANNELS_LAST, WIDE, PIXELS)
    images = tl.full((PIXELS,), 0, position.dtype) + image
    live = position < plane
    row = position // width
    source_x = (position - row * width).to(ACCUMULATE)
    source_y = row.to(ACCUMULATE)
    channel = chunk * CHANNELS + tl.arange(0, CHANNELS)
    wanted = _by_channel(channel < channels, CHANNELS_LAST)

    total = _zeros(PIXELS, CHANNELS, CHANNELS_LAST, ACCUMULATE)
    node = tl.load(head + image * plane + position, mask=live, other=-1)
    while tl.max(node, axis=0) >= 0:
        linked = node >= 0
        pixel = node // 4
        from_image = pixel // plane
        from_position = pixel - from_image * plane
        x, y = _target(flow, from_image, from_position, linked, plane, width, ACCUMULATE)
        weight = _weight(x, source_x) * _weight(y, source_y)
        offset = _offsets(from_image, from_position, channel, channels, plane, CHANNELS_LAST)
        mask = _by_pixel(linked, CHANNELS_LAST) & wanted
        grad = tl.load(grad_output + offset, mask=mask, other=0).to(ACCUMULATE)
        if scale is not None:
            grad *= tl.load(scale + offset, mask=mask, other=0).to(ACCUMULATE)
        total += _by_pixel(weight, CHANNELS_LAST) * grad
        node = tl.load(following + node, mask=linked, other=-1)
    offset = _offsets(images, position, channel, channels, plane, CHANNELS_LAST)
    tl.store(
        grad_feature + offset, narrow(total, dtype), mask=_by_pixel(live, CHANNELS_LAST) & wanted
    )


@triton.jit(do_not_specialize=UNSPECIALIZED)
def grad_flow_scale_kernel(
    feature,  # [N or 1, C, H, W]
    flow,  # [N, 2, H, W]
    scale,  # [N, C, H, W] or None
    grad_output,  # [N, C, H, W]
    grad_flow,  # [chunks, N, 2, H, W] or None: each chunk's sum over its channels
    grad_scale,  # [N, C, H, W] or None
    batch,
    channels,
    height,
    width,
    plane,
    feature_step,
    chunks,
    chunk_channels,
    CHANNELS_LAST: tl.constexpr,
    WIDE: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    ACCUMULATE: tl.constexpr = tl.float64 if feature.dtype.element_ty == tl.float64 else tl.float32
    image, position, chunk = _program(plane, chunks, CHANNELS_LAST, WIDE, PIXELS)
    images = tl.full((PIXELS,), 0, position.dtype) + image
    live = position < plane
    x, y = _target(flow, image, position, live, plane, width, ACCUMULATE)

    total_x = _zeros(PIXELS, CHANNELS, CHANNELS_LAST, ACCUMULATE)
    total_y = _zeros(PIXELS, CHANNELS, CHANNELS_LAST, ACCUMULATE)
    first = chunk * chunk_channels
    for start in range(first, tl.minimum(first + chunk_channels, channels), CHANNELS):
        channel = start + tl.arange(0, CHANNELS)
        wanted = _by_channel(channel < channels, CHANNELS_LAST)
        warped = _zeros(PIXELS, CHANNELS, CHANNELS_LAST, ACCUMULATE)
        slope_x = _zeros(PIXELS, CHANNELS, CHANNELS_LAST, ACCUMULATE)
        slope_y = _zeros(PIXELS, CHANNELS, CHANNELS_LAST, ACCUMULATE)
        for corner in tl.static_range(4):
            inside, source, weight_x, weight_y = corner_taps(
                x, y, position, live, height, width, corner % 2, corner // 2
            )
            offset = _offsets(
                images * feature_step, source, channel, channels, plane, CHANNELS_LAST
            )
            value = tl.load(
                feature + offset, mask=_by_pixel(inside, CHANNELS_LAST) & wanted, other=0
            )
            value = value.to(ACCUMULATE)
            warped += _by_pixel(weight_x * weight_y, CHANNELS_LAST) * value
            # A weight rises towards its corner with slope 1 and falls from the other's.
            slope_x += _by_pixel((corner % 2 * 2 - 1) * weight_y, CHANNELS_LAST) * value
            slope_y += _by_pixel((corner // 2 * 2 - 1) * weight_x, CHANNELS_LAST) * value
        offset = _offsets(images, position, channel, channels, plane, CHANNELS_LAST)
        mask = _by_pixel(live, CHANNELS_LAST) & wanted
        grad = tl.load(grad_output + offset, mask=mask, other=0).to(ACCUMULATE)
        if grad_scale is not None:
            grad_scale_value = narrow(grad * warped, grad_scale.dtype.element_ty)
            tl.store(grad_scale + offset, grad_scale_value, mask=mask)
        if scale is not None:
            grad *= tl.load(scale + offset, mask=mask, other=0).to(ACCUMULATE)
        total_x += grad * slope_x
        total_y += grad * slope_y
    if grad_flow is not None:
        grad_flow += (chunk * batch + image) * 2 * plane + position
        dtype: tl.constexpr = grad_flow.dtype.element_ty
        CHANNEL_AXIS: tl.constexpr = 1 if CHANNELS_LAST else 0
        tl.store(grad_flow, narrow(tl.sum(total_x, axis=CHANNEL_AXIS), dtype), mask=live)
        tl.store(grad_flow + plane, narrow(tl.sum(total_y, axis=CHANNEL_AXIS), dtype), mask=live)
