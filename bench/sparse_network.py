"""The feature and embedding network where U is 1, against the dense network: Section 3.2 whole."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.contest import NETWORK_TOLERANCE, Contest, Tensors, kernels_here, on_backend
from bench.operations import operation_counter
from bench.rows import dtype_name
from bench.updates import SIZE, updates
from hpvod.config import ModelConfig
from hpvod.folding import fold_batch_norm
from hpvod.key_frames import KeyFrames
from hpvod.model import HPVODModel, build_model
from hpvod.packed_network import PackedNetwork
from hpvod.sparse_network import SparseNetwork
from hpvod_ops import update_plan, use_backend

_MODEL = "resnet101"
NETWORK = "network"  # the layer of its rows


@dataclass(frozen=True)
class Case:
    """What one contest is about."""

    density: float  # of U = 1
    batch: int
    dtype: torch.dtype

    def __str__(self) -> str:
        """For the progress display."""
        kind = f"{self.batch} x {dtype_name(self.dtype)}"
        return f"network, {kind}, {100 * self.density:g} %"


runnable_backends = kernels_here


def contest(case: Case, device: torch.device, backends: Sequence[str]) -> Contest:
    """Inputs, contestants and truth of one case. A frame's plan is part of what is timed."""
    model = _model(case.dtype, device)
    of_frames = updates(case.batch)
    image = of_frames.images.to(device, case.dtype, memory_format=torch.channels_last)
    q = of_frames.quality(case.density).to(device, case.dtype)
    flow = of_frames.flow.to(device, case.dtype)

    def sparse(backend: str, q: Tensor = q) -> Callable[[int], Tensors]:
        network, keys = _network(backend, case.batch, case.dtype, device)
        own_embedding = keys.embedding
        assert own_embedding is not None

        def run(_: int) -> Tensors:
            with torch.inference_mode():
                update_plan(q, 0.0, 1.0, out=network.plan)
                own = network.feature(image, flow)
                embedding = network.embedding(own, flow)
                network.propagate_(own, keys.feature, flow, None)
                return own, network.propagate_(embedding, own_embedding, flow, None)

        return on_backend(run, backend, device, case.dtype)

    def dense(_: int) -> Tensors:
        with torch.inference_mode():
            feature = model.features(image)
            return feature, model.embedding(feature)

    def reference(q: Tensor) -> Tensors:
        # Results lie in memory that the next frame overwrites.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return tuple(result.clone() for result in sparse("reference", q)(0))

    truth = reference(q)
    runs = {name: sparse(name) for name in backends}
    with operation_counter() as counter:
        next(iter(runs.values()))(0)
    parameters = (*model.features.parameters(), *model.embedding.parameters())
    return Contest(
        op="sparse_network",
        shape=tuple(image.shape),
        dtype=case.dtype,
        layout="channels_last",
        device=device,
        backends=runs,
        peers={"dense": {"channels_last": dense}},
        truth=tuple(result.double() for result in truth),
        composed=truth,
        tolerance=NETWORK_TOLERANCE[case.dtype],
        peer_truth=reference(-torch.ones_like(q)),
        sets=1,
        moved=sum(tensor.nbytes for tensor in (*parameters, image, *truth)),
        operations=counter.get_total_flops(),
        density=float((q <= 0).double().mean()),
        columns={"layer": NETWORK, "model": _MODEL, "updated": float((q <= 0).double().mean())},
    )


@functools.lru_cache(maxsize=1)
def _model(dtype: torch.dtype, device: torch.device) -> HPVODModel:
    """Untrained, batch normalisation folded, channels_last."""
    model = fold_batch_norm(build_model(ModelConfig.preset(_MODEL))).to(device, dtype)
    return model.to(memory_format=torch.channels_last)


@functools.lru_cache(maxsize=3)
def _network(
    backend: str, batch: int, dtype: torch.dtype, device: torch.device
) -> tuple[SparseNetwork, KeyFrames]:
    """A sparse network after the key frame, and that."""
    key = updates(batch).key.to(device, dtype).expand(batch, -1, -1, -1)
    with torch.inference_mode(), use_backend(backend):
        model = _model(dtype, device)
        network = SparseNetwork(PackedNetwork.of(model, embed=True), batch, *SIZE)
        keys = KeyFrames.none_yet(key, model.config, embed=True)
        q = torch.full_like(network.plan.mask, -1, dtype=dtype)
        everywhere = torch.ones(batch, dtype=torch.bool, device=device)
        update_plan(q, 0.0, 1.0, key=everywhere, out=network.plan)
        feature = network.feature(key, None)
        embedding = network.embedding(feature, None)
        keys.replace_(everywhere, key, feature, embedding, feature)
    return network, keys
