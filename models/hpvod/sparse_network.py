"""Partial feature updating (Section 3.2), computed at the pixels that it changes and no other.

Three kinds of a layer's pixels matter. Active ones, where U is 1, are computed. Inactive ones
beside them that the next 3x3 convolution reads, its halo, are warped from the key frame's layer.
No other is written or read, but in the results, which are warped wherever U is 0. So what is kept
of a key frame are the layers named to a `LayerUpdate`: those read in a halo, and the results.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hpvod.networks.feature import STRIDE
from hpvod.networks.flow import FlowOutput
from hpvod.packed_network import PackedBottleneck, PackedNetwork
from hpvod_ops import PixelSet, UpdatePlan, masked_max_pool2d_, update_plan, warp_pixels_


class SparseNetwork:
    """The feature and the embedding network on frames of one size, each an update of the last key.

    A key frame is one with U = 1 everywhere whose layers are kept. It goes the same way as any
    other frame, and writes its layers where later frames read them.

    All memory is allocated here. The maps that are returned lie in it: a frame's are valid until
    the next frame, a key frame's until the first frame after the next key frame, so that it can
    be aggregated with that one.

    Args:
        network: the packed weights.
        batch: N, of frames that go through together; all are key frames, or none is.
        height: of the images, in pixels.
        width: likewise.

    Attributes:
        plan: what to update in a frame; `update_plan` refills it.
        key_plan: U = 1 everywhere.
    """

    def __init__(self, network: PackedNetwork, batch: int, height: int, width: int) -> None:
        self.image_shape = torch.Size((batch, 3, height, width))
        self._network = network
        self._scratch: dict[tuple[str, int, int], Tensor] = {}
        self._sets: dict[PixelSet, None] = {}

        stem = network.stem.channels
        # The max pool reads a ring around the active pixels, and the image is known everywhere.
        self._stem = self._layer("stem", stem, 2, pixels=self._set("reached", 2))
        self._pooled = self._layer("pooled", stem, 4)
        self._stages = [self._stage(blocks) for blocks in network.stages[:-1]]
        res5 = self._stage(network.stages[-1], kept_for=network.feat_conv.dilation)
        self._stages.append(res5)
        self._embedding: tuple[_Layer, _Layer] | None = None
        channels = [network.feat_conv.channels]
        if (embedding := network.embedding) is not None:
            hidden = embedding.conv1.channels
            self._embedding = (
                self._layer("inner", hidden, STRIDE, kept_for=embedding.conv2.dilation),
                self._layer("middle", hidden, STRIDE),
            )
            channels.append(embedding.conv3.channels)
        self._active, self._inactive = self._set("active", STRIDE), self._set("inactive", STRIDE)
        self._results = [[self._map(c, STRIDE) for c in channels] for _ in range(2)]
        self._current = 0  # the results of this frame; the other ones are the key frame's
        self._follows_key = False

        h, w = self._active.height, self._active.width
        sets = tuple(self._sets)
        self.plan = UpdatePlan.empty(batch, h, w, sets, network.device)
        everywhere = torch.ones(batch, dtype=torch.bool, device=network.device)
        q = torch.zeros(batch, 1, h, w, device=network.device)
        self.key_plan = update_plan(q, 0.0, 0.0, sets=sets, key=everywhere)

    def feature(self, image: Tensor, plan: UpdatePlan, flow: FlowOutput | None) -> Tensor:
        """F̂_i of I_i; begins a frame.

        Args:
            image: [N, 3, H, W], in channels_last (another layout costs a copy).
            plan: where to update.
            flow: from the last key frame, its flow contiguous and its scale map in channels_last;
                None for a key frame, whose plan must be 1 everywhere.

        Returns:
            [N, C, h, w] in channels_last.

        Raises:
            ValueError: `image` has another shape.
        """
        if image.shape != self.image_shape:
            raise ValueError(f"image must be {list(self.image_shape)}, not {list(image.shape)}")
        if self._follows_key:
            self._current = 1 - self._current
        self._follows_key = flow is None

        network, lists, is_key = self._network, plan.lists, flow is None
        x = network.stem(
            self._stem.map(is_key),
            image.contiguous(memory_format=torch.channels_last),
            lists[self._stem.pixels],
            relu=True,
        )
        pixels = lists[self._pooled.pixels]
        x = masked_max_pool2d_(self._pooled.map(is_key), x, pixels, kernel=3, stride=2, padding=1)
        for stage in self._stages:
            for block in stage.blocks:
                x = block.run(x, stage.out, plan, flow)
        self._stages[-1].out.fill_halo(plan, flow)
        result = self._results[self._current][0]
        network.feat_conv(result, x, lists[self._active], relu=True)
        return self._propagated(0, plan, flow, None if flow is None else flow.scale)

    def embedding(self, feature: Tensor, plan: UpdatePlan, flow: FlowOutput | None) -> Tensor:
        """E(F̂_i), where the packed network has the embedding.

        Args:
            feature: F̂_i from `feature`.
            plan: as for `feature`.
            flow: likewise.

        Returns:
            [N, E, h, w] in channels_last.
        """
        assert self._network.embedding is not None and self._embedding is not None
        network, (inner, middle) = self._network.embedding, self._embedding
        pixels, is_key = plan.lists[self._active], flow is None
        x = network.conv1(inner.map(is_key), feature, pixels, relu=True)
        inner.fill_halo(plan, flow)
        x = network.conv2(middle.map(is_key), x, pixels, relu=True)
        network.conv3(self._results[self._current][1], x, pixels, relu=False)
        return self._propagated(1, plan, flow, None)

    def _propagated(
        self, index: int, plan: UpdatePlan, flow: FlowOutput | None, scale: Tensor | None
    ) -> Tensor:
        """A result that is right at active pixels, with the others filled in."""
        result, key = self._results[self._current][index], self._results[1 - self._current][index]
        if flow is not None:
            warp_pixels_(result, key, flow.flow, plan.lists[self._inactive], scale=scale)
        return result

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
        scratch = self._scratch[key]
        if kept_for is None:
            return _Layer(pixels, None, scratch, scratch)
        halo = self._set("halo", stride, kept_for)
        return _Layer(pixels, halo, self._map(channels, stride), scratch)

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

    pixels: PixelSet  # that are computed
    halo: PixelSet | None  # that are warped, if the layer is kept
    of_key: Tensor
    of_others: Tensor  # the same where the layer is not kept

    def map(self, is_key: bool) -> Tensor:
        return self.of_key if is_key else self.of_others

    def fill_halo(self, plan: UpdatePlan, flow: FlowOutput | None) -> None:
        if flow is not None and self.halo is not None:
            ratio, pixels = self.halo.ratio, plan.lists[self.halo]
            warp_pixels_(self.of_others, self.of_key, flow.flow, pixels, ratio=ratio)


@dataclass(frozen=True)
class _Block:
    """A bottleneck block and its inner layers."""

    packed: PackedBottleneck
    inner: _Layer
    middle: _Layer

    def run(self, x: Tensor, out: _Layer, plan: UpdatePlan, flow: FlowOutput | None) -> Tensor:
        """Reads `x` and writes `out`, which are one map but in a stage's first block."""
        packed, is_key = self.packed, flow is None
        y = packed.conv1(self.inner.map(is_key), x, plan.lists[self.inner.pixels], relu=True)
        self.inner.fill_halo(plan, flow)
        pixels = plan.lists[out.pixels]
        y = packed.conv2(self.middle.map(is_key), y, pixels, relu=True)
        if packed.downsample is not None:
            x = packed.downsample(out.map(is_key), x, pixels, relu=False)
        return packed.conv3(out.map(is_key), y, pixels, relu=True, residual=x)


@dataclass(frozen=True)
class _Stage:
    """Blocks that update one map in place."""

    blocks: list[_Block]
    out: _Layer
