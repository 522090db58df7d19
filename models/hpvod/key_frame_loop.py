"""The loop of Algorithm 1, lines 9 to 26, on a batch of streams: nothing waits for a GPU."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hpvod.key_frames import KeyFrames, copy_images_
from hpvod.method import Method
from hpvod.model import HPVODModel
from hpvod.motion import Consistency, Motion, Stages
from hpvod.networks.flow import FlowNetwork, FlowOutput
from hpvod.packed_flow import PackedFlow
from hpvod.packed_network import PackedNetwork
from hpvod.replay import replayed
from hpvod.sparse_network import SparseNetwork
from hpvod_ops import UpdatePlan, update_plan, warp_aggregate


class KeyFrameLoop:
    """Follows streams from key frame to key frame; each has key frames of its own.

    Args:
        network: the packed feature and embedding network.
        flow_network: the flow network as it runs fastest on the model's device.
        model: for its configuration.
        method: the row of Table 1.
        batch: N, how many streams.
        image: one stream's image, [1, 3, H, W]; what it holds is not read.
        consistency: computes Q in place of the flow network's Q head.
        stages: entered around each stage of a frame.

    Attributes:
        plan: what was decided of the last frames.
        image: I_i, [N, 3, H, W] in channels_last: to be filled before each turn.
    """

    def __init__(
        self,
        network: PackedNetwork,
        flow_network: FlowNetwork | PackedFlow,
        model: HPVODModel,
        method: Method,
        batch: int,
        image: Tensor,
        *,
        consistency: Consistency | None,
        stages: Stages,
    ) -> None:
        height, width = image.shape[2:]
        self.image = torch.zeros(
            (batch, 3, height, width),
            dtype=image.dtype,
            device=image.device,
        ).contiguous(memory_format=torch.channels_last)
        self._method = method
        self._flow_network = replayed(flow_network, network)
        self._consistency = consistency
        self._stages = stages
        self._network = SparseNetwork(network, batch, height, width, partial=method.do_spatial)
        self._keys = KeyFrames.none_yet(self.image, model.config, method.do_aggr)
        self._aggregate = replayed(_aggregated, network)
        self.plan: UpdatePlan = self._network.plan
        self._never = torch.full_like(self.plan.mask, math.inf, dtype=torch.float32)
        self._key = torch.empty_like(self.plan.is_key)

    def step(
        self,
        key: Tensor | None,
        begins: Tensor | None,
        rests: Tensor | None,
        *,
        propagates: bool,
    ) -> Tensor:
        """One turn, on `image`: what the detection network reads of every stream.

        Args:
            key: bool, [N]: the key frames of a fixed schedule; None where Eq. 9 decides.
            begins: bool, [N]: frames that are the first of their streams; None for none.
            rests: bool, [N]: streams without a frame, whose images and results mean nothing and
                that stay as they are; None for none.
            propagates: whether any frame reads its key frame.

        Returns:
            F̄_i, or F̂_i without aggregation, [N, C, h, w] in channels_last, valid until the next
            turn.
        """
        method, network, keys, plan = self._method, self._network, self._keys, self.plan
        image = self.image
        motion = Motion(
            self._flow_network,
            keys.image,
            image,
            consistency=self._consistency,
            stages=self._stages,
        )  # line 9
        self._decide(motion, key, begins, rests, propagates)  # lines 10 to 17
        flow, scale = _in_layout(motion.flow) if propagates else (None, None)
        with self._stages("features"):
            own = network.feature(image, flow)  # line 18
            if flow is not None and not method.do_aggr:
                network.propagate_(own, keys.feature, flow, scale)
        result, embedding = own, None
        if method.do_aggr:  # line 19
            assert keys.aggregated is not None and keys.aggregated_embedding is not None
            with self._stages("embedding"):
                embedding = network.embedding(own, flow)
            with self._stages("aggregation"):
                if flow is not None:
                    of_keys = (keys.aggregated, keys.aggregated_embedding)
                    selected = (plan.mask, keys.feature, keys.embedding)
                    scales = () if scale is None else (scale,)
                    result = self._aggregate(*of_keys, own, embedding, flow, *selected, *scales)
                    if begins is not None:
                        copy_images_(result, own, begins)  # line 6
            with self._stages("embedding"):  # of F̄_k, where line 20 reads it again
                network.embed_keys_(keys.aggregated_embedding, result)
        with self._stages("features"):  # lines 25 and 26
            keys.replace_(plan.is_key, image, own, embedding, result)
        return result

    def _decide(
        self,
        motion: Motion,
        key: Tensor | None,
        begins: Tensor | None,
        rests: Tensor | None,
        propagates: bool,
    ) -> None:
        """Lines 10 to 17: the key frames by Eq. 8, and U."""
        method, plan = self._method, self.plan
        quality = self._never
        if propagates and (method.do_spatial or key is None):
            quality = motion.quality
            if rests is not None:
                # A map of its own: the flow network's memory is not ours to write.
                quality = quality.masked_fill(rests.view(-1, 1, 1, 1), math.inf)
        with self._stages("plan"):
            if key is None:
                update_plan(quality, method.tau, method.gamma, out=plan)  # Eq. 9
                if method.do_spatial and begins is None:
                    return
                key = self._key.copy_(plan.is_key)
                if begins is not None:
                    key |= begins
            # Line 16: where only key frames are computed, Q is not asked for more.
            quality = quality if method.do_spatial else self._never
            update_plan(quality, method.tau, method.gamma, key=key, out=plan)


def _aggregated(
    key_feature: Tensor,
    key_embedding: Tensor,
    feature: Tensor,
    embedding: Tensor,
    flow: Tensor,
    mask: Tensor,
    own_feature: Tensor,
    own_embedding: Tensor,
    scale: Tensor | None = None,
) -> Tensor:
    """Line 20, of tensors alone, as a replay takes them."""
    return warp_aggregate(
        key_feature,
        key_embedding,
        feature,
        embedding,
        flow,
        mask=mask,
        own_feature=own_feature,
        own_embedding=own_embedding,
        scale=scale,
    )


def _in_layout(output: FlowOutput) -> tuple[Tensor, Tensor | None]:
    """Flow and scale map as the ops on listed pixels take them, whatever network they are of."""
    scale = output.scale
    if scale is not None:
        scale = scale.contiguous(memory_format=torch.channels_last)
    return output.flow.contiguous(), scale
