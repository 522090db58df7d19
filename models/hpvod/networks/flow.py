"""The flow network N_flow of Eq. 5: FlowNet with a head for the consistency Q."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hpvod.networks.matching import matched_motion

_ENCODER = (
    ("conv1", 64, 7, 2),
    ("conv2", 128, 5, 2),
    ("conv3", 256, 5, 2),
    ("conv3_1", 256, 3, 1),
    ("conv4", 512, 3, 2),
    ("conv4_1", 512, 3, 1),
    ("conv5", 512, 3, 2),
    ("conv5_1", 512, 3, 1),
    ("conv6", 1024, 3, 2),
    ("conv6_1", 1024, 3, 1),
)
_DECODER = (("conv5_1", 512), ("conv4_1", 256), ("conv3_1", 128), ("conv2", 64))
NEGATIVE_SLOPE = 0.1
# The pre-trained flow is in units of 40 image pixels, FlowNet's 20 of an image at half its size; a
# feature pixel is 16.
FLOW_SCALE = 2.5
INITIAL_SHARPNESS = 10.0  # a perfect match counts e^10 times what no match does
_MATCHES = 3  # channels of `matched_motion`


class FlowOutput(NamedTuple):
    """What the flow network says of frame i and key frame k, at the feature maps' resolution."""

    flow: Tensor
    """M_{i->k} [N, 2, h, w], (dx, dy): how far away i's content lies in k's map, in its pixels."""
    quality: Tensor
    """Q_{k->i} [N, 1, h, w]: propagation is bad where it is <= tau."""
    scale: Tensor | None
    """DFF's factor [N, C, h, w] on the propagated features, where the network has that head."""


def matches(both: Tensor, log_sharpness: Tensor) -> Tensor:
    """What a map of the current image shows, and where it is found in the key frame's.

    Args:
        both: [2N, C, h, w], the maps of the current images and then of the key frames, before the
            activation.
        log_sharpness: of `matched_motion`, its logarithm.

    Returns:
        [N, C + 3, h, w]; the last three are `matched_motion`'s.
    """
    current, key = both.chunk(2)
    shown = F.leaky_relu(current, NEGATIVE_SLOPE)
    return torch.cat((shown, matched_motion(current, key, log_sharpness.exp())), dim=1)


class Refinement(nn.Module):
    """One level up in the decoder."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.flow = nn.Conv2d(inputs, 2, 3, padding=1)
        self.upsample_flow = nn.ConvTranspose2d(2, 2, 4, 2, padding=1)
        self.deconv = nn.ConvTranspose2d(inputs, outputs, 4, 2, padding=1)

    def forward(self, x: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        """[N, inputs, h, w] and a skip of twice the size to skip + outputs + 2 channels.

        The second result is the flow that was found, [N, 2, h, w].
        """
        # Padding 1 is the references' crop at offset (1, 1); the far edge is cropped to the skip.
        height, width = skip.shape[-2:]
        flow = self.flow(x)
        upsampled = self.upsample_flow(flow)[..., :height, :width]
        deconv = F.leaky_relu(self.deconv(x)[..., :height, :width], NEGATIVE_SLOPE)
        return torch.cat((skip, deconv, upsampled), dim=1), flow


class FlowNetwork(nn.Module):
    """FlowNet on images of half the side or a quarter, at the feature maps' resolution.

    Without matching it is FlowNetS, the paper's, on half the side: its first convolution takes both
    images. With it, what is looked at has a quarter of the side; the first two convolutions take
    each image by itself, a third describes what they found, at stride 16, and the others take what
    the current image shows with where it is found in the key frame. Large motions are then learnt
    from little data.
    """

    def __init__(self, width: float, scale_channels: int | None, *, matching: bool = False) -> None:
        """Build the network.

        Args:
            width: Multiplier of all channel counts but the flow's.
            scale_channels: Channels of DFF's scale map, or None for a network without it.
            matching: Whether the images are matched; their own layers are twice as wide.
        """
        super().__init__()
        self.shrink = 4 if matching else 2
        channels = {name: round(width * count) for name, count, _, _ in _ENCODER}
        self.encoder = nn.ModuleDict()
        self.descriptor: nn.Conv2d | None = None
        inputs = 3 if matching else 6
        for name, _, kernel, stride in _ENCODER:
            if matching and name in ("conv1", "conv2"):
                channels[name] *= 2
            self.encoder[name] = nn.Conv2d(inputs, channels[name], kernel, stride, kernel // 2)
            inputs = channels[name]
            if matching and name == "conv2":
                self.descriptor = nn.Conv2d(inputs, inputs, 3, padding=1)
                self.log_sharpness = nn.Parameter(torch.tensor(math.log(INITIAL_SHARPNESS)))
                inputs = channels[name] = inputs + _MATCHES
        self.decoder = nn.ModuleDict()
        for skip, count in _DECODER:
            outputs = round(width * count)
            self.decoder[skip] = Refinement(inputs, outputs)
            inputs = channels[skip] + outputs + 2
        self.flow = nn.Conv2d(inputs, 2, 3, padding=1)
        self.quality = nn.Conv2d(inputs, 1, 3, padding=1)
        self.scale = None if scale_channels is None else nn.Conv2d(inputs, scale_channels, 1)

    def forward(self, current: Tensor, key: Tensor) -> FlowOutput:
        """Motion and consistency from the key frame to the current one.

        Args:
            current: [N, 3, h, w], the frame I_i as the feature network takes it.
            key: [N, 3, h, w], the key frame I_k.

        Returns:
            Maps of ceil(h / 16) x ceil(w / 16), the feature maps' size.

        Raises:
            ValueError: The images are not of the same shape [N, 3, h, w].
        """
        x, _, _ = self._decoded(current, key)
        scale = None if self.scale is None else self.scale(x)
        return FlowOutput(self.flow(x) * FLOW_SCALE, self.quality(x), scale)

    def pretrained_parameters(self) -> list[nn.Parameter]:
        """All but those of the heads for Q and the scale, which only the detector teaches."""
        heads = [self.quality] + ([] if self.scale is None else [self.scale])
        untaught = {parameter for head in heads for parameter in head.parameters()}
        return [parameter for parameter in self.parameters() if parameter not in untaught]

    @property
    def level_strides(self) -> tuple[int, ...]:
        """Image pixels between two positions of each of the `levels`' flows."""
        return (*(self.shrink * stride for stride in (64, 32, 16, 8)), 16)

    def levels(self, current: Tensor, key: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """The flow at every level of the decoder, what supervised training looks at.

        Args:
            current: as `forward` takes it.
            key: likewise.

        Returns:
            Flows [N, 2, ceil(h / s), ceil(w / s)] for s of `level_strides`, the last of which is
            the one that `forward` returns; with matching also the matches' motion, of stride 16.
            All are in units of 40 pixels of the image.
        """
        x, flows, motion = self._decoded(current, key)
        return [*flows, self.flow(x)], motion if motion is None else motion * (16 / 40)

    def _decoded(self, current: Tensor, key: Tensor) -> tuple[Tensor, list[Tensor], Tensor | None]:
        """What the heads read, the flows of the decoder's levels, and the matches' motion."""
        if current.ndim != 4 or current.shape[1] != 3 or current.shape != key.shape:
            raise ValueError(
                "current and key must both be [N, 3, h, w], "
                f"not {list(current.shape)} and {list(key.shape)}"
            )
        # Like the feature network's, every layer that strides rounds its size up: equal sizes.
        images = torch.cat((current, key), dim=1 if self.descriptor is None else 0)
        x = F.avg_pool2d(images, self.shrink, ceil_mode=True) / 255
        motion = None
        skips: dict[str, Tensor] = {}
        for name, convolution in self.encoder.items():
            x = F.leaky_relu(convolution(x), NEGATIVE_SLOPE)
            if name == "conv2" and self.descriptor is not None:
                x = matches(self.descriptor(x), self.log_sharpness)
                motion = x[:, -3:-1]
            skips[name] = x
        flows = []
        for name, refinement in self.decoder.items():
            x, flow = refinement(x, skips[name])
            flows.append(flow)
        return F.avg_pool2d(x, 4 // self.shrink, ceil_mode=True), flows, motion
