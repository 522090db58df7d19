"""`warp` in Triton, forward and backward.

Block shapes are fixed functions of the tensors' shape, not autotuned: tuning times kernels at
the first call, which delays every start, cannot happen while a CUDA graph is captured, and may
choose differently each time.

The gradient of the feature map is gathered, not scattered. A first kernel links every output
pixel into the lists of the (at most four) source pixels it read; then each program owns some
source pixels, walks their lists, sums in registers and writes once. That takes four integer
atomics a pixel where scattering takes four floating-point ones for each pixel and channel, and
neither zero-filled memory nor a float32 copy of a half-precision gradient. The lists' order
varies from run to run and so does the rounding of grad_feature; all else is deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from hpvod_ops.ops.layout import memory_format_of
from hpvod_ops.triton import _launch
from hpvod_ops.triton._warp_kernels import (
    forward_kernel,
    grad_feature_kernel,
    grad_flow_scale_kernel,
    link_kernel,
)

# A few waves of 4-warp programs over an H100's 132 multiprocessors.
ENOUGH_PROGRAMS = 4096
LINK_PIXELS = 256


@dataclass(frozen=True)
class Tile:
    """What one program does at a time."""

    pixels: int
    channels: int
    warps: int


def stream_tile(channels: int, plane: int, itemsize: int, channels_last: bool) -> Tile:
    """The tile of kernels that read and write as much as they can: 16 bytes a thread.

    A warp takes one row of channels (channels_last) or 32 and more pixels of one plane.
    """
    vector = 16 // itemsize
    elements = 4 * 32 * vector
    if channels_last:
        row = min(triton.next_power_of_2(channels), 32 * vector)
        return Tile(pixels=elements // row, channels=row, warps=4)
    row = min(triton.next_power_of_2(plane), 128)
    return Tile(row, min(triton.next_power_of_2(channels), elements // row), warps=4)


def gather_tile(channels: int, plane: int, itemsize: int, channels_last: bool) -> Tile:
    """The tile of the kernel that walks lists.

    A program waits for the longest list of its pixels: so as few pixels as fill a warp, whose
    threads then agree without a barrier, and one pixel alone where its channels fill warps.
    """
    vector = 16 // itemsize
    if channels_last:
        row = min(triton.next_power_of_2(channels), 4 * 32 * vector)
        warp_row = 32 * vector
        return Tile(max(warp_row // row, 1), row, warps=max(row // warp_row, 1))
    pixels = min(triton.next_power_of_2(plane), 32)
    return Tile(pixels, min(triton.next_power_of_2(channels), 16), warps=1)


def _split_channels(channels: int, pixel_programs: int, tile: Tile) -> tuple[int, int]:
    """(chunks, channels a chunk): one chunk suffices where the pixels fill the GPU."""
    blocks = triton.cdiv(channels, tile.channels)
    chunk_blocks = triton.cdiv(blocks, triton.cdiv(ENOUGH_PROGRAMS, pixel_programs))
    return triton.cdiv(blocks, chunk_blocks), chunk_blocks * tile.channels


def _is_wide(batch: int, channels: int, plane: int, tile: Tile) -> bool:
    """Whether offsets, those of masked lanes and of list nodes included, outgrow int32."""
    return (batch * plane + tile.pixels) * max(
        channels + tile.channels, 4
    ) >= _launch.INT32_ELEMENTS


def warp_forward(feature: Tensor, flow: Tensor, scale: Tensor | None) -> Tensor:
    """`hpvod_ops.warp` for inputs that it has checked.

    Args:
        feature: [N or 1, C, H, W], of any strides; channels_last where its channels are adjacent.
        flow: [N, 2, H, W], (dx, dy) in pixels of the feature map.
        scale: [N, C, H, W] or None.

    Returns:
        [N, C, H, W], dense, in the feature's dtype and memory format.
    """
    layout = memory_format_of(feature)
    feature, flow = feature.contiguous(memory_format=layout), flow.contiguous()
    scale = None if scale is None else scale.contiguous(memory_format=layout)
    batch, _, height, width = flow.shape
    channels, plane = feature.shape[1], height * width
    output = torch.empty(
        (batch, channels, height, width),
        dtype=feature.dtype,
        device=feature.device,
        memory_format=layout,
    )
    if output.numel() == 0:
        return output

    channels_last = layout == torch.channels_last
    tile = stream_tile(channels, plane, feature.element_size(), channels_last)
    pixel_programs = batch * triton.cdiv(plane, tile.pixels)
    chunks, chunk_channels = _split_channels(channels, pixel_programs, tile)
    with _launch.active(feature.device):
        forward_kernel[(pixel_programs * chunks,)](
            feature,
            flow,
            scale,
            output,
            channels,
            height,
            width,
            plane,
            int(feature.shape[0] > 1),
            chunks,
            chunk_channels,
            CHANNELS_LAST=channels_last,
            WIDE=_is_wide(batch, channels, plane, tile),
            PIXELS=tile.pixels,
            CHANNELS=tile.channels,
            num_warps=tile.warps,
        )
    return output


def warp_backward(
    grad_output: Tensor,
    feature: Tensor,
    flow: Tensor,
    scale: Tensor | None,
    output_mask: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `warp_forward` for feature, flow and scale.

    Args:
        grad_output: [N, C, H, W].
        feature: [N or 1, C, H, W].
        flow: [N, 2, H, W].
        scale: [N, C, H, W] or None.
        output_mask: which of the three are wanted; the others come back with no elements.

    Returns:
        grad_feature and grad_scale in the feature's memory format, grad_flow contiguous; each in
        the dtype of what it is the gradient of.
    """
    want_feature, want_flow, want_scale = output_mask
    layout = memory_format_of(feature)
    feature, flow = feature.contiguous(memory_format=layout), flow.contiguous()
    scale = None if scale is None else scale.contiguous(memory_format=layout)
    grad_output = grad_output.contiguous(memory_format=layout)
    channels_last = layout == torch.channels_last
    unwanted = feature.new_empty(0)
    if grad_output.numel() == 0:
        return (
            torch.zeros_like(feature) if want_feature else unwanted,
            torch.zeros_like(flow) if want_flow else unwanted,
            torch.zeros_like(grad_output) if want_scale else unwanted,
        )
    grad_feature = grad_flow = grad_scale = unwanted
    with _launch.active(feature.device):
        if want_feature:
            grad_feature = _grad_feature(grad_output, feature, flow, scale, channels_last)
        if want_flow or want_scale:
            grad_flow, grad_scale = _grad_flow_scale(
                grad_output, feature, flow, scale, channels_last, want_flow, want_scale
            )
    return grad_feature, grad_flow, grad_scale


def _grad_feature(
    grad_output: Tensor, feature: Tensor, flow: Tensor, scale: Tensor | None, channels_last: bool
) -> Tensor:
    batch, channels, height, width = grad_output.shape
    feature_batch, plane = feature.shape[0], height * width
    tile = gather_tile(channels, plane, feature.element_size(), channels_last)
    chunks = triton.cdiv(channels, tile.channels)
    wide = _is_wide(batch, channels, plane, tile)

    index = torch.int64 if wide else torch.int32
    head = torch.full((feature_batch, height, width), -1, dtype=index, device=flow.device)
    following = torch.empty((batch, height, width, 4), dtype=index, device=flow.device)
    link_kernel[(batch * triton.cdiv(plane, LINK_PIXELS),)](
        flow,
        head,
        following,
        height,
        width,
        plane,
        int(feature_batch > 1),
        DOUBLE=feature.dtype == torch.float64,
        WIDE=wide,
        PIXELS=LINK_PIXELS,
    )
    grad_feature = torch.empty_like(feature)
    grad_feature_kernel[(feature_batch * triton.cdiv(plane, tile.pixels) * chunks,)](
        flow,
        scale,
        grad_output,
        head,
        following,
        grad_feature,
        channels,
        width,
        plane,
        chunks,
        CHANNELS_LAST=channels_last,
        WIDE=wide,
        PIXELS=tile.pixels,
        CHANNELS=tile.channels,
        num_warps=tile.warps,
    )
    return grad_feature


def _grad_flow_scale(
    grad_output: Tensor,
    feature: Tensor,
    flow: Tensor,
    scale: Tensor | None,
    channels_last: bool,
    want_flow: bool,
    want_scale: bool,
) -> tuple[Tensor, Tensor]:
    batch, channels, height, width = grad_output.shape
    plane = height * width
    tile = stream_tile(channels, plane, feature.element_size(), channels_last)
    pixel_programs = batch * triton.cdiv(plane, tile.pixels)
    chunks, chunk_channels = _split_channels(channels, pixel_programs, tile)

    grad_scale = torch.empty_like(grad_output) if want_scale else None
    partial = None
    if want_flow:
        # Summed in two steps rather than with atomics, so that the result is the same every time.
        exact = torch.float64 if feature.dtype == torch.float64 else torch.float32
        partial = flow.new_empty((chunks, *flow.shape), dtype=flow.dtype if chunks == 1 else exact)
    grad_flow_scale_kernel[(pixel_programs * chunks,)](
        feature,
        flow,
        scale,
        grad_output,
        partial,
        grad_scale,
        batch,
        channels,
        height,
        width,
        plane,
        int(feature.shape[0] > 1),
        chunks,
        chunk_channels,
        CHANNELS_LAST=channels_last,
        WIDE=_is_wide(batch, channels, plane, tile),
        PIXELS=tile.pixels,
        CHANNELS=tile.channels,
        num_warps=tile.warps,
    )
    unwanted = feature.new_empty(0)
    if partial is None:
        grad_flow = unwanted
    else:
        grad_flow = partial[0] if chunks == 1 else partial.sum(0).to(flow.dtype)
    return grad_flow, unwanted if grad_scale is None else grad_scale
