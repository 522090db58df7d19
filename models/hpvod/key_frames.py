"""What is kept of the last key frame of every stream: line 26 of Algorithm 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hpvod.config import ModelConfig
from hpvod.networks.feature import STRIDE


def copy_images_(target: Tensor, source: Tensor, which: Tensor) -> Tensor:
    """Some images of a batch, in place; nothing waits for a GPU.

    Args:
        target: [N, ...].
        source: likewise, of the same layout.
        which: bool, [N]: the images to copy.

    Returns:
        `target`.
    """
    if which.device.type == "cpu":
        for image, wanted in enumerate(which.tolist()):
            if wanted:
                target[image].copy_(source[image])
        return target
    which = which.view(-1, *[1] * (target.dim() - 1))
    return torch.where(which, source, target, out=target)


@dataclass(frozen=True)
class KeyFrames:
    """The key frames k of as many streams.

    Attributes:
        image: I_k, [N, 3, H, W].
        feature: F_k, [N, C, h, w] in channels_last.
        embedding: E(F_k), [N, E, h, w] in channels_last, where a method aggregates.
        aggregated: F̄_k, like F_k; likewise.
        aggregated_embedding: E(F̄_k), like E(F_k); likewise.
    """

    image: Tensor
    feature: Tensor
    embedding: Tensor | None
    aggregated: Tensor | None
    aggregated_embedding: Tensor | None

    @classmethod
    def none_yet(cls, image: Tensor, config: ModelConfig, embed: bool) -> KeyFrames:
        """Of streams that have not begun: zeros, which keep what is computed of them finite.

        Args:
            image: any batch of the streams' images, [N, 3, H, W].
            config: of the model.
            embed: whether the method aggregates.
        """
        batch, _, height, width = image.shape

        def map_of(channels: int) -> Tensor:
            size = (batch, channels, -(-height // STRIDE), -(-width // STRIDE))
            zeros = torch.zeros(size, dtype=image.dtype, device=image.device)
            return zeros.contiguous(memory_format=torch.channels_last)

        channels, embedding = config.feature_channels, config.embedding_channels[-1]
        return cls(
            image=torch.zeros_like(image, memory_format=torch.channels_last),
            feature=map_of(channels),
            embedding=map_of(embedding) if embed else None,
            aggregated=map_of(channels) if embed else None,
            aggregated_embedding=map_of(embedding) if embed else None,
        )

    def replace_(
        self,
        which: Tensor,
        image: Tensor,
        feature: Tensor,
        embedding: Tensor | None,
        aggregated: Tensor,
    ) -> None:
        """Replaces some streams' key frames by their current frames.

        Args:
            which: bool, [N]: the streams whose current frame is a key frame.
            image: I_i, as the attributes; likewise the next.
            feature: F̂_i.
            embedding: E(F̂_i), or None.
            aggregated: F̄_i; not read without an embedding. E(F̄_i) is the network's to write.
        """
        copy_images_(self.image, image, which)
        copy_images_(self.feature, feature, which)
        if embedding is not None:
            assert self.embedding is not None and self.aggregated is not None
            copy_images_(self.embedding, embedding, which)
            copy_images_(self.aggregated, aggregated, which)
