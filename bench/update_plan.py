"""`update_plan` for a frame of ResNet-101: U, the key decision and every layer's lists."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from bench.contest import Contest, Tensors, kernels_here, on_backend
from bench.updates import SIZE, updates
from hpvod.config import ModelConfig
from hpvod.model import build_model
from hpvod.packed_network import PackedNetwork
from hpvod.sparse_network import SparseNetwork
from hpvod_ops import PixelSet, UpdatePlan, update_plan, use_backend


@dataclass(frozen=True)
class Case:
    """What one contest is about."""

    density: float  # of U = 1
    batch: int
    dtype: torch.dtype  # of Q

    def __str__(self) -> str:
        """For the progress display."""
        return f"update_plan, {self.batch} x {100 * self.density:g} %"


def cases(device: torch.device) -> list[Case]:
    """A frame at 10 %; on a GPU also eight."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    return [Case(0.1, batch, dtype) for batch in ((1, 8) if device.type == "cuda" else (1,))]


runnable_backends = kernels_here


def contest(case: Case, device: torch.device, backends: Sequence[str]) -> Contest:
    """Inputs, contestants and truth of one case."""
    q = updates(case.batch).quality(case.density).to(device, case.dtype)
    sets = network_sets()

    def contestant(backend: str) -> Callable[[int], UpdatePlan]:
        with use_backend(backend):
            plan = update_plan(q, 0.0, 1.0, sets=sets)

        def run(_: int) -> UpdatePlan:
            with torch.inference_mode():
                return update_plan(q, 0.0, 1.0, out=plan)

        return on_backend(run, backend, device, case.dtype)

    eager = contestant("reference")
    truth = _results(eager(0))
    # A graph cannot hold what waits for the device to know how long a list is.
    waits = device.type == "cuda"
    return Contest(
        op="update_plan",
        shape=tuple(q.shape),
        dtype=case.dtype,
        layout="contiguous",
        device=device,
        backends={name: contestant(name) for name in backends},
        peers={} if waits else {"eager": {"": eager}},
        left_out={"eager": "waits for the device"} if waits else {},
        truth=truth,
        composed=truth,
        sets=1,
        moved=sum(tensor.nbytes for tensor in (q, *truth)),
        results=_results,
        peer_results=_results,
        density=float((q <= 0).double().mean()),
    )


@functools.cache
def network_sets() -> tuple[PixelSet, ...]:
    """The lists that the feature and embedding network need, whatever their number of channels."""
    model = build_model(ModelConfig.preset("tiny"))
    with use_backend("reference"):
        return SparseNetwork(PackedNetwork.of(model, embed=True), 1, *SIZE).plan.sets


def _results(plan: UpdatePlan) -> Tensors:
    """All of a plan that is defined."""
    lists = (pixels.indices[: int(pixels.count)] for pixels in plan.lists.values())
    return (plan.mask, plan.is_key, plan.changed, plan.counts, *(list.clone() for list in lists))
