"""Checks that the sparse ops share. They run at each of some 150 calls a frame: no tensor ops."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hpvod_ops.pixels import PixelList


def refuse_gradients(op: str, **tensors: Tensor | None) -> None:
    """The op is for inference only, and says so rather than cutting the graph.

    Raises:
        RuntimeError: grad mode is on, and a tensor requires grad.
    """
    if not torch.is_grad_enabled():
        return
    for name, tensor in tensors.items():
        if tensor is not None and tensor.requires_grad:
            raise RuntimeError(
                f"{op} is for inference only, but {name} requires grad; call it under "
                "torch.no_grad() or torch.inference_mode()"
            )


def check_devices(arguments: Sequence[object]) -> None:
    """What a fake kernel checks: with one tensor on the meta device it runs in place of others.

    Raises:
        RuntimeError: not all tensors are on one device.
    """
    devices = {str(each.device) for each in arguments if isinstance(each, Tensor)}
    if len(devices) > 1:
        raise RuntimeError(f"tensors are on {', '.join(sorted(devices))}")


def check_map(name: str, tensor: Tensor, like: Tensor, like_name: str) -> None:
    """A map of the same dtype, on the same device, dense in channels_last.

    Raises:
        TypeError: another dtype.
        ValueError: another device, shape or layout.
    """
    if tensor.dtype != like.dtype:
        raise TypeError(f"{name} must be {like.dtype}, as {like_name} is, not {tensor.dtype}")
    if tensor.device != like.device:
        raise ValueError(f"{name} is on {tensor.device}, but {like_name} is on {like.device}")
    if tensor.dim() != 4:
        raise ValueError(f"{name} must be [N, C, H, W], not {list(tensor.shape)}")
    if not tensor.is_contiguous(memory_format=torch.channels_last):
        raise ValueError(
            f"{name} must be dense in torch.channels_last; it is {list(tensor.shape)} with strides "
            f"{list(tensor.stride())}"
        )


def check_pixels(pixels: PixelList, like: Tensor, like_name: str) -> None:
    """A list as `update_plan` makes them. What it holds is on the device and not looked at.

    Raises:
        TypeError: another dtype.
        ValueError: another device or shape.
    """
    indices, count = pixels
    if indices.dtype != torch.int32 or count.dtype != torch.int32:
        raise TypeError(
            f"pixels must be torch.int32, not {indices.dtype} with a count of {count.dtype}"
        )
    if indices.device != like.device or count.device != like.device:
        raise ValueError(
            f"pixels are on {indices.device} with a count on {count.device}, but {like_name} is "
            f"on {like.device}"
        )
    if indices.dim() != 1 or count.shape != (1,) or not indices.is_contiguous():
        raise ValueError(
            "pixels must be indices [capacity], contiguous, and a count [1], not "
            f"{list(indices.shape)} and {list(count.shape)}"
        )
