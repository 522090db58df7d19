"""The feature network N_feat: ResNet at stride 16 with a dilated last stage (Section 3.5)."""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

STRIDE = 16
"""Pixels of the network's input a pixel of the feature map, in both directions."""


class LayerUpdate(Protocol):
    """What partial feature updating (Section 3.2) does to the layers that it names.

    This is its definition, dense and differentiable; `SparseNetwork` runs it.

    Between two calls every operation is pointwise or a strided 1x1 convolution: an active pixel is
    computed from active pixels alone. So these are all the layers whose inactive pixels are read.
    """

    def __call__(self, name: str, feature: Tensor, stride: int) -> Tensor:
        """The partially updated layer.

        Args:
            name: The layer's module path, such as "res3.0.conv1".
            feature: [N, C, ceil(h / stride), ceil(w / stride)], the layer's output after its
                normalisation and ReLU, right at active pixels.
            stride: Pixels of the image a pixel of this layer.

        Returns:
            A tensor like `feature`, right at every pixel. `feature` must not be changed in place.
        """


class ConvBN(nn.Module):
    """A convolution and the frozen batch normalisation of its output.

    Running statistics are used in training as well, and nothing of the normalisation is trained.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
    ) -> None:
        """Take nn.Conv2d's numbers."""
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)
        self.bn = FrozenBatchNorm2d(outputs, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, h, w] to [N, outputs, h', w']."""
        normalised: Tensor = self.bn(self.conv(x))
        return normalised


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut."""

    def __init__(
        self,
        name: str,
        inputs: int,
        width: int,
        input_stride: int,
        stride: int,
        dilation: int,
        stride_in: Literal["1x1", "3x3"],
    ) -> None:
        """Build the block.

        Args:
            name: Its module path in the feature network.
            inputs: Channels of the input; the output has 4 * `width`.
            width: Channels of the 3x3 convolution.
            input_stride: Pixels of the image a pixel of the input.
            stride: Of the block.
            dilation: Of the 3x3 convolution.
            stride_in: The convolution that strides.
        """
        super().__init__()
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        self.conv1 = ConvBN(inputs, width, 1, first)
        self.conv2 = ConvBN(width, width, 3, second, dilation, dilation)
        self.conv3 = ConvBN(width, 4 * width, 1)
        projects = stride != 1 or inputs != 4 * width
        self.downsample = ConvBN(inputs, 4 * width, 1, stride) if projects else None
        self.update_name = f"{name}.conv1"
        self.update_stride = input_stride * first

    def forward(self, x: Tensor, update: LayerUpdate | None = None) -> Tensor:
        """[N, inputs, h, w] to [N, 4 * width, ceil(h / stride), ceil(w / stride)]."""
        out = F.relu(self.conv1(x), inplace=True)
        if update is not None:
            out = update(self.update_name, out, self.update_stride)
        out = F.relu(self.conv2(out), inplace=True)
        out = self.conv3(out)
        out += x if self.downsample is None else self.downsample(x)
        return F.relu(out, inplace=True)


class FeatureNetwork(nn.Module):
    """ResNet without its classifier, res5 at stride 1 and dilation 2, and a 3x3 convolution on top.

    The stem is computed at every pixel, since the image is known everywhere.
    """

    def __init__(
        self,
        depths: tuple[int, int, int, int],
        width: int,
        channels: int,
        stride_in: Literal["1x1", "3x3"],
    ) -> None:
        """Build the network; see `ModelConfig` for the arguments."""
        super().__init__()
        self.stride_in = stride_in
        self.conv1 = ConvBN(3, width, 7, 2, 3)
        self.res2 = self._stage("res2", depths[0], width, width, 4, 1)
        self.res3 = self._stage("res3", depths[1], 4 * width, 2 * width, 4, 2)
        self.res4 = self._stage("res4", depths[2], 8 * width, 4 * width, 8, 2)
        self.res5 = self._stage("res5", depths[3], 16 * width, 8 * width, STRIDE, 1, dilation=2)
        self.feat_conv = nn.Conv2d(32 * width, channels, 3, padding=6, dilation=6)

    def _stage(
        self,
        name: str,
        depth: int,
        inputs: int,
        width: int,
        input_stride: int,
        stride: int,
        dilation: int = 1,
    ) -> nn.ModuleList:
        blocks = []
        for index in range(depth):
            path = f"{name}.{index}"
            blocks.append(
                Bottleneck(path, inputs, width, input_stride, stride, dilation, self.stride_in)
            )
            inputs, input_stride, stride = 4 * width, input_stride * stride, 1
        return nn.ModuleList(blocks)

    def forward(self, image: Tensor, update: LayerUpdate | None = None) -> Tensor:
        """The feature maps F = N_feat(I).

        Args:
            image: [N, 3, h, w], RGB in 0..255 with the mean subtracted.
            update: Called once on each layer whose inactive pixels are read, and on the result.

        Returns:
            [N, channels, ceil(h / 16), ceil(w / 16)].

        Raises:
            ValueError: `image` has another shape.
        """
        if image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(f"image must be [N, 3, h, w], not {list(image.shape)}")
        x = F.relu(self.conv1(image), inplace=True)
        x = F.max_pool2d(x, 3, 2, 1)
        for stage in (self.res2, self.res3, self.res4, self.res5):
            for block in stage:
                x = block(x, update)
        if update is not None:
            x = update("res5", x, STRIDE)
        x = F.relu(self.feat_conv(x), inplace=True)
        return x if update is None else update("feat_conv", x, STRIDE)
