"""A few lines of plain PyTorch for every op: slow, obvious, and what the backends are held to."""

from hpvod_ops.reference.aggregate import aggregate
from hpvod_ops.reference.batched_nms import batched_nms
from hpvod_ops.reference.masked_conv2d import masked_conv2d_
from hpvod_ops.reference.masked_max_pool2d import masked_max_pool2d_
from hpvod_ops.reference.ps_roi_pool import ps_roi_pool
from hpvod_ops.reference.update_mask import update_mask
from hpvod_ops.reference.update_plan import update_plan
from hpvod_ops.reference.warp import warp
from hpvod_ops.reference.warp_aggregate import warp_aggregate
from hpvod_ops.reference.warp_pixels import warp_pixels_

__all__ = [
    "aggregate",
    "batched_nms",
    "masked_conv2d_",
    "masked_max_pool2d_",
    "ps_roi_pool",
    "update_mask",
    "update_plan",
    "warp",
    "warp_aggregate",
    "warp_pixels_",
]
