"""The embedding network of Eq. 3, in which features are compared."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from hpvod.networks.feature import STRIDE, LayerUpdate


class EmbedNetwork(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with ReLU between them."""

    def __init__(self, channels: int, hidden: int, outputs: int) -> None:
        """Take the channels of the feature maps, of the inner layers and of the embedding."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, hidden, 1)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.conv3 = nn.Conv2d(hidden, outputs, 1)

    def forward(self, feature: Tensor, update: LayerUpdate | None = None) -> Tensor:
        """The embedding F^e, whose cosine with another one weighs the aggregation.

        Args:
            feature: [N, channels, h, w].
            update: Called on "embed.conv1", the 3x3 convolution's input, and on "embed", the
                result; they are part of what Section 3.2 updates.

        Returns:
            [N, outputs, h, w].
        """
        x = F.relu(self.conv1(feature), inplace=True)
        if update is not None:
            x = update("embed.conv1", x, STRIDE)
        x = F.relu(self.conv2(x), inplace=True)
        x = self.conv3(x)
        return x if update is None else update("embed", x, STRIDE)
