"""A small model, small frames in which something moves, and a Q that sees it."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F

from hpvod.config import ModelConfig

SIZES = [(80, 112), (75, 109)]  # height, width; 109 / 75 resizes to 80 x 116 pixels
CONFIG = dataclasses.replace(
    ModelConfig.preset("tiny"), short_side=80, long_side=116, max_detections=50
)


def moving_frames(count, height, width, cuts=(), seed=0):
    """A textured square crossing a texture that pans; a new texture at every cut."""
    generator = torch.Generator().manual_seed(seed)
    frames = []
    for i in range(count):
        if i == 0 or i in cuts:
            coarse = torch.rand(1, 3, 8, 10, generator=generator)
            scene = F.interpolate(coarse, (2 * height, 2 * width), mode="bicubic")
            square = torch.rand(1, 3, height // 3, height // 3, generator=generator)
        image = scene[..., i // 2 : i // 2 + height, i : i + width].clone()
        x = 3 * i % (width - height // 3)
        image[..., height // 3 : height // 3 * 2, x : x + height // 3] = square
        frames.append((image[0].clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy())
    return frames


def unchanged(threshold):
    """Q from the images: above 0 where a cell's mean change is under `threshold` grey levels."""

    def consistency(image_k, image_i, flow):
        change = (image_i - image_k).abs().mean(1, keepdim=True)
        return threshold - F.interpolate(change, flow.quality.shape[2:], mode="area")

    return consistency
