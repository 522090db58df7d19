"""What the references of the sparse ops share: a dense result, written at listed pixels."""

from __future__ import annotations

from torch import Tensor

from hpvod_ops.pixels import PixelList


def write_at(out: Tensor, result: Tensor, pixels: PixelList) -> None:
    """Copies the listed pixels of `result` to `out`, a map dense in channels_last."""
    batch, channels, height, width = out.shape
    listed = pixels.indices[: int(pixels.count)].long()
    rows = out.permute(0, 2, 3, 1).view(batch * height * width, channels)
    rows[listed] = result.permute(0, 2, 3, 1).reshape(rows.shape)[listed].to(out.dtype)
