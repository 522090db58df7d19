"""The flow network on packed convolutions, for the CPU.

There, the networks' own convolutions reorder their weights at every call: of the flow network's
150 MB, whose inner layers have few pixels, that takes a third of its time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpvod.networks.flow import (
    FLOW_SCALE,
    NEGATIVE_SLOPE,
    FlowNetwork,
    FlowOutput,
    Refinement,
    matches,
)
from hpvod.packed_network import Convolution
from hpvod_ops import PixelList, pack_conv2d


class PackedFlow:
    """A `FlowNetwork` with its weights packed, for inference.

    It computes the same function. Its memory is allocated at the first call and whenever the
    images' shape changes.

    Args:
        network: is copied: later changes to it are not seen.
    """

    @torch.no_grad()
    def __init__(self, network: FlowNetwork) -> None:
        self._encoder = {name: Convolution.of(conv) for name, conv in network.encoder.items()}
        self._shrink = network.shrink
        self._descriptor = None
        if network.descriptor is not None:
            self._descriptor = Convolution.of(network.descriptor)
            self._log_sharpness = network.log_sharpness.clone()
        self._decoder = {name: _Level.of(level) for name, level in network.decoder.items()}
        # Side by side in one convolution: the flow's two channels, then Q.
        weight = torch.cat((network.flow.weight, network.quality.weight))
        bias = torch.cat(
            (network.flow.get_parameter("bias"), network.quality.get_parameter("bias"))
        )
        self._head = Convolution(pack_conv2d(weight, bias), stride=1, padding=1, dilation=1)
        self._scale = None if network.scale is None else Convolution.of(network.scale)
        self._image_shape: torch.Size | None = None
        self._memory = _Memory()

    def __call__(self, current: Tensor, key: Tensor) -> FlowOutput:
        """As `FlowNetwork.forward`, contiguous but for the scale map; valid until the next call."""
        if current.shape != self._image_shape:
            self._image_shape, self._memory = current.shape, _Memory()
        memory = self._memory
        x = memory.images(current, key, self._shrink, dim=1 if self._descriptor is None else 0)
        skips: dict[str, Tensor] = {}
        for name, convolution in self._encoder.items():
            x = F.leaky_relu_(memory.convolved(name, convolution, x), NEGATIVE_SLOPE)
            if name == "conv2" and self._descriptor is not None:
                described = memory.convolved("descriptor", self._descriptor, x)
                x = matches(described, self._log_sharpness)
            skips[name] = x
        for name, level in self._decoder.items():
            x = level.refined(memory, name, x, skips[name])
        if self._shrink == 2:
            x = F.avg_pool2d(x, 2, ceil_mode=True)
        head = memory.convolved("head", self._head, x)
        scale = None if self._scale is None else memory.convolved("scale", self._scale, x)
        flow = (head[:, :2] * FLOW_SCALE).contiguous()
        return FlowOutput(flow, head[:, 2:].contiguous(), scale)


class _Memory:
    """The maps that are written, by name, for images of one shape."""

    def __init__(self) -> None:
        self._maps: dict[str, tuple[Tensor, PixelList]] = {}
        self._others: dict[str, Tensor] = {}

    def map(self, name: str, like: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
        """The map [N, C, h, w] of that name; of undefined values when it is asked for first."""
        if name not in self._others:
            count, channels, height, width = shape
            memory = like.new_empty((count, height, width, channels))
            self._others[name] = memory.permute(0, 3, 1, 2)
        return self._others[name]

    def images(self, current: Tensor, key: Tensor, shrink: int, dim: int) -> Tensor:
        """What the network makes of its images first: both with sides `shrink` times shorter.

        In 0 to 1, one behind the other along `dim`, 0 or 1.
        """
        count, channels, height, width = current.shape
        both = (2 * count, channels) if dim == 0 else (count, 2 * channels)
        out = self.map("images", current, (*both, -(-height // shrink), -(-width // shrink)))
        for image, small in zip((current, key), out.chunk(2, dim), strict=True):
            torch.div(F.avg_pool2d(image, shrink, ceil_mode=True), 255, out=small)
        return out

    def convolved(self, name: str, convolution: Convolution, x: Tensor) -> Tensor:
        """The convolution of x at every pixel, in the map of that name."""
        if name not in self._maps:
            self._maps[name] = convolution.output_for(x)
        out, everywhere = self._maps[name]
        return convolution(out, x, everywhere, relu=False)


@dataclass(frozen=True)
class _Upsampling:
    """A transposed convolution of 4x4, stride 2, padding 1.

    It is four convolutions of 2x2, one for each parity of the output's row and column. They are
    computed as one, with four times the channels, on a grid of one more row and column: output
    (2y + a, 2x + b) is parity (a, b) of the grid's (y + a, x + b).
    """

    grid: Convolution

    @classmethod
    def of(cls, layer: nn.Module) -> _Upsampling:
        """Packs the weights."""
        assert isinstance(layer, nn.ConvTranspose2d)
        weight = layer.weight  # [I, O, 4, 4]
        # Of parity a, tap t of the grid's convolution is tap 3 - a - 2t of the transposed one.
        parities = [
            weight[:, :, [3 - a, 1 - a]][:, :, :, [3 - b, 1 - b]].transpose(0, 1)
            for a in range(2)
            for b in range(2)
        ]
        bias = None if layer.bias is None else layer.bias.repeat(4)
        packed = pack_conv2d(torch.cat(parities), bias)
        return cls(Convolution(packed, stride=1, padding=1, dilation=1))

    @property
    def channels(self) -> int:
        """Of the output."""
        return self.grid.channels // 4

    def write(self, out: Tensor, grid: Tensor) -> None:
        """Writes the output, or its first rows and columns, from its grid."""
        grid = grid.unflatten(1, (2, 2, self.channels))
        for a in range(2):
            for b in range(2):
                target = out[:, :, a::2, b::2]
                rows, columns = target.shape[2:]
                target.copy_(grid[:, a, b, :, a : a + rows, b : b + columns])


@dataclass(frozen=True)
class _Level:
    """A `Refinement`."""

    flow: Convolution
    upsample_flow: _Upsampling
    deconv: _Upsampling

    @classmethod
    def of(cls, level: nn.Module) -> _Level:
        """Packs the weights."""
        assert isinstance(level, Refinement)
        return cls(
            flow=Convolution.of(level.flow),
            upsample_flow=_Upsampling.of(level.upsample_flow),
            deconv=_Upsampling.of(level.deconv),
        )

    def refined(self, memory: _Memory, name: str, x: Tensor, skip: Tensor) -> Tensor:
        """The level's output, [N, skip + deconv + 2 channels, h, w] of the skip's size."""
        channels = (skip.shape[1], self.deconv.channels, self.upsample_flow.channels)
        height, width = skip.shape[2:]
        out = memory.map(f"{name} out", skip, (len(skip), sum(channels), height, width))
        of_skip, of_deconv, of_flow = out.split(channels, dim=1)
        of_skip.copy_(skip)
        grid = memory.convolved(f"{name} deconv", self.deconv.grid, x)
        self.deconv.write(of_deconv, F.leaky_relu_(grid, NEGATIVE_SLOPE))
        flow = memory.convolved(f"{name} flow", self.flow, x)
        grid = memory.convolved(f"{name} upsampled flow", self.upsample_flow.grid, flow)
        self.upsample_flow.write(of_flow, grid)
        return out
