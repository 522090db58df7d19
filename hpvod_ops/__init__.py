"""Kernels for video object detection as torch ops, on CPU and GPU.

    from hpvod_ops import warp

`python -m hpvod_ops` prints what was built and which backend runs where.
"""

from hpvod_ops.backends import explain, use_backend
from hpvod_ops.ops.aggregate import aggregate
from hpvod_ops.ops.batched_nms import batched_nms
from hpvod_ops.ops.masked_conv2d import PackedConv2d, masked_conv2d, masked_conv2d_, pack_conv2d
from hpvod_ops.ops.masked_max_pool2d import masked_max_pool2d_
from hpvod_ops.ops.ps_roi_pool import ps_roi_pool
from hpvod_ops.ops.update_mask import update_mask
from hpvod_ops.ops.update_plan import update_plan
from hpvod_ops.ops.warp import warp
from hpvod_ops.ops.warp_aggregate import warp_aggregate
from hpvod_ops.ops.warp_pixels import warp_pixels_
from hpvod_ops.pixels import PixelList, PixelSet, UpdatePlan

__all__ = [
    "PackedConv2d",
    "PixelList",
    "PixelSet",
    "UpdatePlan",
    "aggregate",
    "batched_nms",
    "explain",
    "masked_conv2d",
    "masked_conv2d_",
    "masked_max_pool2d_",
    "pack_conv2d",
    "ps_roi_pool",
    "update_mask",
    "update_plan",
    "use_backend",
    "warp",
    "warp_aggregate",
    "warp_pixels_",
]
