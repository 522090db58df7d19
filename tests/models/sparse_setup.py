"""What the tests of the sparse network share: models, drawn images, motions, masks."""

from __future__ import annotations

import dataclasses
import gc

import torch

from hpvod.config import ModelConfig
from hpvod.folding import fold_batch_norm
from hpvod.key_frames import KeyFrames
from hpvod.model import build_model
from hpvod.networks.flow import FlowOutput
from hpvod.packed_network import PackedNetwork
from hpvod.preprocess import Preprocess
from hpvod.sparse_network import SparseNetwork
from hpvod_ops import update_plan

from .moving import moving_frames
from .random_data import randomise_batch_norm

HEIGHT, WIDTH = 75, 109
H, W = 5, 7  # of the features

TINY = dataclasses.replace(
    ModelConfig.preset("tiny"), short_side=HEIGHT, long_side=WIDTH, flow_scale_head=True
)
CONFIGS = {
    "tiny": TINY,
    "3x3": dataclasses.replace(TINY, stride_in="3x3"),
    "deeper": dataclasses.replace(
        TINY, depths=(3, 4, 5, 3), width=8, feature_channels=24, embedding_channels=(12, 20)
    ),
    "deeper 3x3": dataclasses.replace(TINY, depths=(2, 3, 2, 2), width=4, stride_in="3x3"),
}


def some_model(name="tiny", dtype=torch.float32, *, folded=False):
    model = build_model(CONFIGS[name], seed=3)
    randomise_batch_norm(model.features)
    return (fold_batch_norm(model) if folded else model).to(dtype)


class Follower:
    """A `SparseNetwork` and its key frames, as `VideoDetector` uses them without aggregation."""

    def __init__(self, model, *, batch=1, height=HEIGHT, width=WIDTH, embed=True, packed=None):
        packed = packed or PackedNetwork.of(model, embed=embed)
        self.network = SparseNetwork(packed, batch, height, width)
        image = torch.zeros(batch, 3, height, width, dtype=packed.dtype)
        self.keys = KeyFrames.none_yet(image, model.config, embed)
        self.embed = embed

    @torch.no_grad()
    def follow(self, image, motion, mask, key):
        """F̂_i and E(F̂_i), valid until the next call. mask: [N, 1, h, w]; key: [N]."""
        network, keys = self.network, self.keys
        update_plan(0.5 - mask.float(), 0.0, 1.0, key=key, out=network.plan)
        flow = None if motion is None else motion.flow
        feature = network.feature(image, flow)
        embedding = network.embedding(feature, flow) if self.embed else None
        if flow is not None:
            scale = motion.scale
            if scale is not None:
                scale = scale.contiguous(memory_format=torch.channels_last)
            network.propagate_(feature, keys.feature, flow, scale)
            if self.embed:
                network.propagate_(embedding, keys.embedding, flow, None)
        keys.replace_(network.plan.is_key, image, feature, embedding, feature)
        return feature, embedding


def drawn_images(count, dtype=torch.float32, seed=0):
    preprocess = Preprocess(TINY)
    return [
        preprocess(frame, torch.device("cpu"), dtype)
        for frame in moving_frames(count, HEIGHT, WIDTH, seed=seed)
    ]


def some_motion(channels=None, dtype=torch.float32, seed=0, batch=1):
    """Flow that at places leads out of the map, and with `channels` a scale map."""
    generator = torch.Generator().manual_seed(seed)
    flow = 1.5 * torch.randn(batch, 2, H, W, generator=generator, dtype=dtype)
    scale = None
    if channels is not None:
        scale = 0.5 + torch.rand(batch, channels, H, W, generator=generator, dtype=dtype)
    return FlowOutput(flow, torch.empty(0), scale)


def masks():
    """30 different U, bool [1, 1, H, W]."""
    y, x = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    shapes = [
        y < 0,  # nowhere
        y >= 0,  # everywhere
        (y + x) % 2 == 0,
        (y + x) % 2 == 1,
        y % 2 == 0,
        x % 2 == 1,
        x % 3 == 0,
        (y == 0) | (x == 0) | (y == H - 1) | (x == W - 1),
        (y > 0) & (x > 0) & (y < H - 1) & (x < W - 1),
        y == H - 1,
        x == W - 1,
        x >= y,
        *((y == b) & (x == a) for b in (0, 2, H - 1) for a in (0, 3, W - 1)),  # single pixels
    ]
    generator = torch.Generator().manual_seed(1)
    shapes += [
        torch.rand(H, W, generator=generator) < density
        for density in (0.1, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.8, 0.9)
    ]
    assert len({tuple(shape.flatten().tolist()) for shape in shapes}) == len(shapes) == 30
    return [shape[None, None] for shape in shapes]


def key_frame(follower, image):
    everywhere = torch.ones_like(follower.network.plan.mask)
    return follower.follow(image, None, everywhere, torch.ones(len(image), dtype=torch.bool))


def other_frame(follower, image, motion, mask):
    """A frame that is none for any share of U."""
    return follower.follow(image, motion, mask, torch.zeros(len(image), dtype=torch.bool))


def layers(network):
    yield from (network._stem, network._pooled, network._feature)
    yield from network._embedding or ()
    for stage in network._stages:
        yield stage.out
        for block in stage.blocks:
            yield from (block.inner, block.middle)


def kept_maps(follower):
    """What is kept of the last key frame."""
    kept = [layer.of_key for layer in layers(follower.network) if layer.of_key is not None]
    return [*kept, follower.keys.feature, follower.keys.embedding]


def scratch_maps(follower):
    """What any frame may write."""
    return list(follower.network._scratch.values())


def tensor_bytes():
    """Of all tensors that are alive."""
    gc.collect()
    storages = {}
    for item in gc.get_objects():
        if type(item) is torch.Tensor:
            storage = item.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())
