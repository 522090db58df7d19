"""The feature and the embedding network as convolutions at listed pixels, their weights packed.

This is what does not depend on the size of a frame; `SparseNetwork` adds what does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hpvod.folding import folded_parameters
from hpvod.model import HPVODModel
from hpvod.networks.embedding import EmbedNetwork
from hpvod.networks.feature import Bottleneck, ConvBN
from hpvod_ops import PackedConv2d, PixelList, masked_conv2d_, pack_conv2d


@dataclass(frozen=True)
class Convolution:
    """A convolution, its batch normalisation folded; strides and the like as nn.Conv2d's."""

    packed: PackedConv2d
    stride: int
    padding: int
    dilation: int

    @classmethod
    def of(cls, layer: nn.Module) -> Convolution:
        """Packs a `ConvBN`, or an nn.Conv2d such as `fold_batch_norm` makes of it."""
        if isinstance(layer, ConvBN):
            conv, (weight, bias) = layer.conv, folded_parameters(layer)
            packed = pack_conv2d(weight.to(conv.weight.dtype), bias)
        else:
            assert isinstance(layer, nn.Conv2d)
            conv, packed = layer, pack_conv2d(layer.weight, layer.bias)
        assert not isinstance(conv.padding, str)
        return cls(packed, conv.stride[0], conv.padding[0], conv.dilation[0])

    @property
    def channels(self) -> int:
        """Of the output."""
        return self.packed.out_channels

    def output_for(self, x: Tensor) -> tuple[Tensor, PixelList]:
        """Memory for the convolution of `x`, in channels_last, and the list of all its pixels."""
        height, width = (
            (size + 2 * self.padding - self.dilation * (taps - 1) - 1) // self.stride + 1
            for size, taps in zip(x.shape[2:], self.packed.kernel, strict=True)
        )
        out = x.new_empty((len(x), height, width, self.channels)).permute(0, 3, 1, 2)
        pixels = torch.arange(len(x) * height * width, dtype=torch.int32, device=x.device)
        count = torch.full((1,), len(pixels), dtype=torch.int32, device=x.device)
        return out, PixelList(pixels, count)

    def __call__(
        self,
        out: Tensor,
        x: Tensor,
        pixels: PixelList,
        *,
        relu: bool,
        residual: Tensor | None = None,
    ) -> Tensor:
        """Writes the convolution of `x` at `pixels` of `out`; both are in channels_last."""
        return masked_conv2d_(
            out,
            x,
            self.packed,
            pixels,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            relu=relu,
            residual=residual,
        )


@dataclass(frozen=True)
class PackedBottleneck:
    """A `Bottleneck`."""

    name: str
    """Of its first convolution's output, as a `LayerUpdate` sees it."""
    inner_stride: int
    """Pixels of the image a pixel of that output."""
    stride: int
    """The same of the block's output."""
    conv1: Convolution
    conv2: Convolution
    conv3: Convolution
    downsample: Convolution | None

    @classmethod
    def of(cls, block: nn.Module) -> PackedBottleneck:
        """Packs the weights of a `Bottleneck`."""
        assert isinstance(block, Bottleneck)
        conv2 = Convolution.of(block.conv2)
        return cls(
            name=block.update_name,
            inner_stride=block.update_stride,
            stride=block.update_stride * conv2.stride,
            conv1=Convolution.of(block.conv1),
            conv2=conv2,
            conv3=Convolution.of(block.conv3),
            downsample=None if block.downsample is None else Convolution.of(block.downsample),
        )


@dataclass(frozen=True)
class PackedEmbedding:
    """An `EmbedNetwork`."""

    conv1: Convolution
    conv2: Convolution
    conv3: Convolution

    @classmethod
    def of(cls, network: EmbedNetwork) -> PackedEmbedding:
        """Packs the network's weights."""
        return cls(*map(Convolution.of, (network.conv1, network.conv2, network.conv3)))


@dataclass(frozen=True)
class PackedNetwork:
    """A model's feature network, and its embedding network where features are compared."""

    stem: Convolution
    stages: tuple[tuple[PackedBottleneck, ...], ...]
    """res2 to res5."""
    feat_conv: Convolution
    embedding: PackedEmbedding | None
    device: torch.device

    @classmethod
    @torch.no_grad()
    def of(cls, model: HPVODModel, *, embed: bool) -> PackedNetwork:
        """Packs the model's weights for the backend that runs now.

        They are copies: later changes to the model are not seen.

        Args:
            model: of any device and dtype; folded or not, in either mode of training.
            embed: whether the embedding network is run as well.
        """
        features = model.features
        stages = (features.res2, features.res3, features.res4, features.res5)
        return cls(
            stem=Convolution.of(features.conv1),
            stages=tuple(tuple(map(PackedBottleneck.of, stage)) for stage in stages),
            feat_conv=Convolution.of(features.feat_conv),
            embedding=PackedEmbedding.of(model.embedding) if embed else None,
            device=features.feat_conv.weight.device,
        )

    @property
    def backend(self) -> str:
        """That reads the weights."""
        return self.stem.packed.backend

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights and the maps."""
        return self.stem.packed.dtype
