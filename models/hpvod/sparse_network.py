"""Partial feature updating (Section 3.2, Eq. 6 and 10): line 18 of Algorithm 1, for any U.

Three kinds of a layer's pixels matter. Active ones, where U is 1, are computed. Inactive ones
beside them that the next 3x3 convolution reads, its halo, are warped from the key frame's layer.
No other is written or read. So what is kept of a key frame are the layers named to a `LayerUpdate`:
those read in a halo, here, and the results, in `KeyFrames`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hpvod.key_frames import copy_images_
from hpvod.networks.feature import STRIDE
from hpvod.packed_network import PackedBottleneck, PackedNetwork
from hpvod_ops import PixelSet, UpdatePlan, masked_max_pool2d_, update_plan, warp_pixels_


class SparseNetwork:
    """The feature and the embedding network on frames of one size, each an update of its last key.

    The frames of a batch belong to as many streams. A key frame is one with U = 1 everywhere whose
    layers are kept for the frames after it; that one frame of a batch is a key frame does not
    concern the others.

    All memory is allocated here. The maps that are returned lie in it and are valid until the next
    batch. They are right where U is 1, and undefined elsewhere.

    Args:
        network: the packed weights.
        batch: N, of frames that go through together.
        height: of the images, in pixels.
        width: likewise.
        partial: whether U is ever 1 in a part of an image; else no layers are kept.

    Attributes:
        plan: what to update; `update_plan` refills it.
    """

    def __init__(
        self, network: PackedNetwork, batch: int, height: int, width: int, *, partial: bool = True
    ) -> None:
        self.image_shape = torch.Size((batch, 3, height, width))
        self._network = network
        self._partial = partial
        self._scratch: dict[tuple[str, int, int], Tensor] = {}
        self._sets: dict[PixelSet, None] = {}

        stem = network.stem.channels
        # The max pool reads a ring around the active pixels, and the image is known everywhere.
        self._stem = self._layer("stem", stem, 2, pixels=self._set("reached", 2))
        self._pooled = self._layer("pooled", stem, 4)
        self._stages = [self._stage(blocks) for blocks in network.stages[:-1]]
        res5 = self._stage(network.stages[-1], kept_for=network.feat_conv.dilation)
        self._stages.append(res5)
        self._feature = self._layer("feature", network.feat_conv.channels, STRIDE)
        self._embedding: tuple[_Layer, _Layer, _Layer] | None = None
        if (embedding := network.embedding) is not None:
            hidden = embedding.conv1.channels
            self._embedding = (
                self._layer("inner", hidden, STRIDE, kept_for=embedding.conv2.dilation),
                self._layer("middle", hidden, STRIDE),
                self._layer("embedding", embedding.conv3.channels, STRIDE),
            )
        self._inactive = self._set("inactive", STRIDE)

        h, w = self._size(STRIDE)
        self.plan = UpdatePlan.empty(batch, h, w, tuple(self._sets), network.device)
        self._of_keys = UpdatePlan.empty(batch, h, w, (self._feature.pixels,), network.device)
        self._never = torch.full((batch, 1, h, w), math.inf, device=network.device)

    def feature(self, image: Tensor, flow: Tensor | None) -> Tensor:
        """F̂_i of I_i where `plan` says U = 1.

        Args:
            image: [N, 3, H, W], in channels_last (another layout costs a copy).
            flow: M_i->k, [N, 2, h, w], contiguous; None where all are key frames.

        Returns:
            [N, C, h, w] in channels_last.

        Raises:
            ValueError: `image` has another shape.
        """
        if image.shape != self.image_shape:
            raise ValueError(f"image must be {list(self.image_shape)}, not {list(image.shape)}")
        network, plan = self._network, self.plan
        x = network.stem(
            self._stem.map,
            image.contiguous(memory_format=torch.channels_last),
            plan.lists[self._stem.pixels],
            relu=True,
        )
        pixels = plan.lists[self._pooled.pixels]
        x = masked_max_pool2d_(self._pooled.map, x, pixels, kernel=3, stride=2, padding=1)
        for stage in self._stages:
            for block in stage.blocks:
                x = block.run(x, stage.out, plan, flow)
        self._stages[-1].out.complete(plan, flow)
        pixels = plan.lists[self._feature.pixels]
        return network.feat_conv(self._feature.map, x, pixels, relu=True)

    def embedding(self, feature: Tensor, flow: Tensor | None) -> Tensor:
        """E(F̂_i) where `plan` says U = 1, for a packed network that has the embedding.

        Args:
            feature: F̂_i from `feature`.
            flow: as for `feature`.

        Returns:
            [N, E, h, w] in channels_last.
        """
        assert self._network.embedding is not None and self._embedding is not None
        network, (inner, middle, out) = self._network.embedding, self._embedding
        pixels = self.plan.lists[out.pixels]
        x = network.conv1(inner.map, feature, pixels, relu=True)
        inner.complete(self.plan, flow)
        x = network.conv2(middle.map, x, pixels, relu=True)
        return network.conv3(out.map, x, pixels, relu=False)

    def embed_keys_(self, out: Tensor, feature: Tensor) -> Tensor:
        """E(F) of the frames that `plan` says are key frames, in place; the others stay.

        Args:
            out: [N, E, h, w] in channels_last.
            feature: F, [N, C, h, w] in channels_last.

        Returns:
            `out`.
        """
        assert self._network.embedding is not None and self._embedding is not None
        network, (inner, middle, _) = self._network.embedding, self._embedding
        lists = update_plan(self._never, 0.0, 1.0, key=self.plan.is_key, out=self._of_keys).lists
        pixels = lists[self._feature.pixels]
        x = network.conv1(inner.map, feature, pixels, relu=True)
        x = network.conv2(middle.map, x, pixels, relu=True)
        return network.conv3(out, x, pixels, relu=False)

    def propagate_(
        self, feature: Tensor, key_feature: Tensor, flow: Tensor, scale: Tensor | None
    ) -> Tensor:
        """F_k->i where `plan` says U = 0, in place: the rest of Eq. 10.

        Args:
            feature: F̂_i from `feature`.
            key_feature: F_k, [N, C, h, w] in channels_last.
            flow: as for `feature`.
            scale: of the flow network, like F_k; or None.

        Returns:
            `feature`.
        """
        pixels = self.plan.lists[self._inactive]
        return warp_pixels_(feature, key_feature, flow, pixels, scale=scale)

    def _stage(self, blocks: tuple[PackedBottleneck, ...], kept_for: int | None = None) -> _Stage:
        last = blocks[-1]
        return _Stage(
            [
                _Block(
                    packed=block,
                    inner=self._layer(
                        "inner",
                        block.conv1.channels,
                        block.inner_stride,
                        kept_for=block.conv2.dilation,
                    ),
                    middle=self._layer("middle", block.conv2.channels, block.stride),
                )
                for block in blocks
            ],
            self._layer("out", last.conv3.channels, last.stride, kept_for=kept_for),
        )

    def _layer(
        self,
        role: str,
        channels: int,
        stride: int,
        *,
        pixels: PixelSet | None = None,
        kept_for: int | None = None,
    ) -> _Layer:
        """A layer; `kept_for` is the dilation of the 3x3 convolution that reads it, if one does.

        Layers of one role and shape share memory, but where they are kept.
        """
        pixels = pixels or self._set("active", stride)
        key = (role, channels, stride)
        if key not in self._scratch:
            self._scratch[key] = self._map(channels, stride)
        if kept_for is None or not self._partial:
            return _Layer(self._scratch[key], pixels, None, None)
        halo = self._set("halo", stride, kept_for)
        # Finite from the start, for a stream that has not begun.
        return _Layer(self._scratch[key], pixels, halo, self._map(channels, stride).zero_())

    def _set(self, kind: str, stride: int, dilation: int = 1) -> PixelSet:
        pixels = PixelSet(kind, STRIDE // stride, *self._size(stride), dilation)
        self._sets[pixels] = None
        return pixels

    def _map(self, channels: int, stride: int) -> Tensor:
        return torch.empty(
            (self.image_shape[0], channels, *self._size(stride)),
            dtype=self._network.dtype,
            device=self._network.device,
            memory_format=torch.channels_last,
        )

    def _size(self, stride: int) -> tuple[int, int]:
        height, width = self.image_shape[2:]
        return -(-height // stride), -(-width // stride)


@dataclass(frozen=True)
class _Layer:
    """The output of an operation, after its ReLU."""

    map: Tensor
    pixels: PixelSet  # that are computed
    halo: PixelSet | None  # that are warped
    of_key: Tensor | None  # from where; both if the layer is kept

    def complete(self, plan: UpdatePlan, flow: Tensor | None) -> None:
        """Fills the halo, and keeps the layer of key frames."""
        if self.halo is None or self.of_key is None:
            return
        if flow is not None:
            warp_pixels_(self.map, self.of_key, flow, plan.lists[self.halo], ratio=self.halo.ratio)
        copy_images_(self.of_key, self.map, plan.is_key)


@dataclass(frozen=True)
class _Block:
    """A bottleneck block and its inner layers."""

    packed: PackedBottleneck
    inner: _Layer
    middle: _Layer

    def run(self, x: Tensor, out: _Layer, plan: UpdatePlan, flow: Tensor | None) -> Tensor:
        """Reads `x` and writes `out`, which are one map but in a stage's first block."""
        packed = self.packed
        y = packed.conv1(self.inner.map, x, plan.lists[self.inner.pixels], relu=True)
        self.inner.complete(plan, flow)
        pixels = plan.lists[out.pixels]
        y = packed.conv2(self.middle.map, y, pixels, relu=True)
        if packed.downsample is not None:
            x = packed.downsample(out.map, x, pixels, relu=False)
        return packed.conv3(out.map, y, pixels, relu=True, residual=x)


@dataclass(frozen=True)
class _Stage:
    """Blocks that update one map in place."""

    blocks: list[_Block]
    out: _Layer
