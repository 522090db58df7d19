"""The flow network on packed convolutions, for the CPU.

There, the networks' own convolutions reorder their weights at every call: of the flow network's
150 MB, whose inner layers have few pixels, that takes a third of its time.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpvod.networks.flow import FLOW_SCALE, NEGATIVE_SLOPE, FlowNetwork, FlowOutput, Refinement
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
        self._decoder = {name: _Level.of(level) for name, level in network.decoder.items()}
        # Side by side in one convolution: the flow's two channels, then Q.
        weight = torch.cat((network.flow.weight, network.quality.weight))
        bias = torch.cat(
            (network.flow.get_parameter("bias"), network.quality.get_parameter("bias"))
        )
        self._head = Convolution(pack_conv2d(weight, bias), stride=1, padding=1, dilation=1)
        self._scale = None if network.scale is None else Convolution.of(network.scale)
        self._image_shape: torch.Size | None = None
        self._memory: _Memory = _Memory(weight)

    def __call__(self, current: Tensor, key: Tensor) -> FlowOutput:
        """As `FlowNetwork.forward`; the result is valid until the next call."""
        if current.shape != self._image_shape:
            self._image_shape, self._memory = current.shape, _Memory(current)
        memory = self._memory
        x = memory.images(current, key)
        skips: dict[str, Tensor] = {}
        for name, convolution in self._encoder.items():
            x = F.leaky_relu_(memory.convolved(name, convolution, x), NEGATIVE_SLOPE)
            skips[name] = x
        for name, level in self._decoder.items():
            x = level.refined(memory, name, x, skips[name])
        x = F.avg_pool2d(x, 2, ceil_mode=True)
        head = memory.convolved("head", self._head, x)
        scale = None if self._scale is None else memory.convolved("scale", self._scale, x)
        return FlowOutput(head[:, :2] * FLOW_SCALE, head[:, 2:].contiguous(), scale)


class _Memory:
    """The maps that convolutions write, by name, for images of one shape."""

    def __init__(self, like: Tensor) -> None:
        self._like = like.new_empty(0)
        self._maps: dict[str, tuple[Tensor, PixelList]] = {}

    def map(self, name: str, batch: int, channels: int, height: int, width: int) -> Tensor:
        """The map of that name; of undefined values when it is asked for first."""
        return self._listed(name, batch, channels, height, width)[0]

    def images(self, current: Tensor, key: Tensor) -> Tensor:
        """What the network makes of its images first: both at half their size, in 0 to 1."""
        batch, channels, height, width = current.shape
        both = self.map("images", batch, 2 * channels, -(-height // 2), -(-width // 2))
        for image, half in zip((current, key), both.split(channels, dim=1), strict=True):
            torch.div(F.avg_pool2d(image, 2, ceil_mode=True), 255, out=half)
        return both

    def convolved(self, name: str, convolution: Convolution, x: Tensor) -> Tensor:
        """The convolution of x at every pixel, in the map of that name."""
        kernel, padding = convolution.packed.kernel, convolution.padding
        height, width = (
            (size + 2 * padding - taps) // convolution.stride + 1
            for size, taps in zip(x.shape[2:], kernel, strict=True)
        )
        out, everywhere = self._listed(name, x.shape[0], convolution.channels, height, width)
        return convolution(out, x, everywhere, relu=False)

    def _listed(
        self, name: str, batch: int, channels: int, height: int, width: int
    ) -> tuple[Tensor, PixelList]:
        if name not in self._maps:
            map = self._like.new_empty((batch, height, width, channels)).permute(0, 3, 1, 2)
            pixels = torch.arange(batch * height * width, dtype=torch.int32, device=map.device)
            count = torch.tensor([len(pixels)], dtype=torch.int32, device=map.device)
            self._maps[name] = map, PixelList(pixels, count)
        return self._maps[name]


@dataclass(frozen=True)
class _Level:
    """A `Refinement`.

    Its transposed convolution (4x4, stride 2, padding 1) is four convolutions of 2x2, one for each
    parity of the output's row and column. They are computed as one, with four times the channels,
    on a grid of one more row and column: output (2y + a, 2x + b) is parity (a, b) of the grid's
    (y + a, x + b).
    """

    flow: Convolution
    upsample_flow: nn.ConvTranspose2d
    deconv: Convolution

    @classmethod
    def of(cls, level: nn.Module) -> _Level:
        """Packs the weights."""
        assert isinstance(level, Refinement)
        weight = level.deconv.weight  # [I, O, 4, 4]
        # Of parity a, tap t of the grid's convolution is tap 3 - a - 2t of the transposed one.
        parities = [
            weight[:, :, [3 - a, 1 - a]][:, :, :, [3 - b, 1 - b]].transpose(0, 1)
            for a in range(2)
            for b in range(2)
        ]
        packed = pack_conv2d(torch.cat(parities), level.deconv.get_parameter("bias").repeat(4))
        return cls(
            flow=Convolution.of(level.flow),
            upsample_flow=copy.deepcopy(level.upsample_flow),
            deconv=Convolution(packed, stride=1, padding=1, dilation=1),
        )

    def refined(self, memory: _Memory, name: str, x: Tensor, skip: Tensor) -> Tensor:
        """The level's output, [N, skip + deconv + 2 channels, h, w] of the skip's size."""
        batch, channels, height, width = skip.shape
        outputs = self.deconv.channels // 4
        out = memory.map(f"{name} out", batch, channels + outputs + 2, height, width)
        out[:, :channels] = skip
        grid = memory.convolved(f"{name} deconv", self.deconv, x)
        grid = F.leaky_relu_(grid, NEGATIVE_SLOPE).unflatten(1, (2, 2, outputs))
        deconv = out[:, channels : channels + outputs]
        for a in range(2):
            for b in range(2):
                target = deconv[:, :, a::2, b::2]
                rows, columns = target.shape[2:]
                target.copy_(grid[:, a, b, :, a : a + rows, b : b + columns])
        flow = self.upsample_flow(memory.convolved(f"{name} flow", self.flow, x))
        out[:, channels + outputs :] = flow[..., :height, :width]
        return out
