"""The updating mask that the benchmarks use, since an untrained network has none."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_STRIDE = 16  # of U, in pixels of the network's input


class MostChanged:
    """Q for an untrained network: it sets U to the positions whose image changed most.

    Given as `consistency` to VideoDetector. Untrained, the Q head's output means nothing; this
    gives exactly round(density * positions) positions a Q of -1, so U = 1, and the others +1.
    """

    def __init__(self, density: float) -> None:
        self.density = density

    def __call__(self, key_image: Tensor, image: Tensor, flow_output: object) -> Tensor:
        """Q [1, 1, h / 16, w / 16] of two network inputs [1, 3, h, w]."""
        change = (image - key_image).abs().float().mean(dim=1, keepdim=True)
        change = F.avg_pool2d(change, _STRIDE, ceil_mode=True)
        consistency = torch.ones_like(change)
        count = round(self.density * change.numel())
        positions = change.flatten().topk(count).indices
        consistency.view(-1)[positions] = -1
        return consistency.to(image.dtype)
