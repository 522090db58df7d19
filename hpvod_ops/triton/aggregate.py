"""`aggregate` in Triton."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from hpvod_ops.ops.layout import memory_format_of
from hpvod_ops.triton import _launch
from hpvod_ops.triton._aggregate_kernels import aggregate_kernel
from hpvod_ops.triton._similarity import channel_tile


def aggregate(features: Sequence[Tensor], embeddings: Sequence[Tensor]) -> Tensor:
    """`hpvod_ops.aggregate` for inputs that it has checked.

    A program has a few pixels, in all frames. The kernel is compiled for each number of frames.

    Args:
        features: T maps of [N, C, H, W], of any strides; those that are not dense in channels_last
            are copied. The current frame's come last.
        embeddings: T maps of [N, E, H, W], likewise.

    Returns:
        [N, C, H, W], dense, in features[-1]'s dtype and memory format.
    """
    layout = memory_format_of(features[-1])
    batch, channels, height, width = features[-1].shape
    output = torch.empty(
        features[-1].shape,
        dtype=features[-1].dtype,
        device=features[-1].device,
        memory_format=torch.channels_last,
    )
    if output.numel() == 0:
        return output.contiguous(memory_format=layout)
    features, embeddings = (
        tuple(each.contiguous(memory_format=torch.channels_last) for each in maps)
        for maps in (features, embeddings)
    )
    embedding_channels = embeddings[-1].shape[1]
    pixels = batch * height * width
    most = max(channels, embedding_channels)
    tile = channel_tile(most, output.element_size())
    with _launch.active(output.device):
        aggregate_kernel[(triton.cdiv(pixels, tile.pixels),)](
            features,
            embeddings,
            output,
            pixels,
            channels,
            embedding_channels,
            FRAMES=len(features),
            WIDE=(pixels + tile.pixels) * (most + tile.channels) >= _launch.INT32_ELEMENTS,
            PIXELS=tile.pixels,
            CHANNELS=tile.channels,
            num_warps=tile.warps,
        )
    return output.contiguous(memory_format=layout)
