"""One op against what a user would write otherwise: checked first, then timed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bench.machine import copy_bandwidth, describe, matrix_rate
from bench.rows import Row, dtype_name
from bench.timing import Contestant, graph_times, median_times
from hpvod_ops.backends import BACKENDS, can_run, choose_backend, use_backend

Tensors = tuple[Tensor, ...]
MEMORY_FORMATS = {
    "channels_last": torch.channels_last,
    "contiguous": torch.contiguous_format,
}

NETWORK_TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Relative, in Euclidean norms: what a network's features may differ by from the reference's."""

_SECONDS, _GPU_SECONDS = 0.8, 0.15  # of measuring, the slowest contestant
_PEER_ERROR = 1e-3  # relative, in float32: a peer that errs more computes something else


class WrongResultError(Exception):
    """A result that is not the op's; nothing was timed."""


def kernels_here(device: torch.device, dtype: torch.dtype) -> list[str]:
    """The backends that can run here, but for `reference`."""
    backends = [name for name in BACKENDS if name != "reference"]
    return [name for name in backends if can_run(name, device, dtype) is None]


def on_backend(
    run: Callable[[int], Any], backend: str, device: torch.device, dtype: torch.dtype
) -> Callable[[int], Any]:
    """A contestant on one backend, which is asked for only where another would be chosen."""
    if choose_backend(device, dtype) == backend:
        return run

    def asked_for(index: int) -> Any:
        with use_backend(backend):
            return run(index)

    return asked_for


def compiled_here(
    contestant_of: Callable[[Any, str], Contestant], function: Any, layout: str
) -> tuple[dict[str, dict[str, Contestant]], dict[str, str]]:
    """The peer "torch.compile", or why there is none.

    Args:
        contestant_of: runs a function on the input sets in a layout.
        function: what is to be compiled.
        layout: of the inputs.
    """
    # Compiled functions are cached by code object, up to a few kinds of input.
    torch.compiler.reset()
    run = contestant_of(torch.compile(function, dynamic=False), layout)
    try:
        run(0)
    except Exception as error:  # a missing compiler, a dtype without a kernel
        return {}, {"torch.compile": f"{type(error).__name__}: {error}".partition("\n")[0]}
    return {"torch.compile": {layout: run}}, {}


def tensors(results: Any) -> Tensors:
    """What a contestant that gives a tensor or a tuple of them has computed."""
    return results if isinstance(results, tuple) else (results,)


def copied_for(moved: int, sets: int, device: torch.device) -> Sequence[Tensor]:
    """A tensor for each input set whose copy reads and writes `moved` bytes."""
    return torch.ones(sets, moved // 2, dtype=torch.uint8, device=device).unbind()


@dataclass(frozen=True)
class Contest:
    """What is needed to measure one op at one shape, dtype and layout.

    Attributes:
        op: its name in the rows.
        shape: of the feature map.
        dtype: of the feature map.
        layout: "channels_last" or "contiguous", of our op's maps.
        device: of everything.
        backends: our op by every backend that can run here; each gives the op's results.
        peers: other ways to the same results: by name, then by variant, of which the fastest is
            the peer's time. One called "dense" computes every pixel.
        truth: the results for input set 0 in float64, or integers, which must be met exactly.
        composed: the same by PyTorch's own composition in `dtype`.
        tolerance: relative error that is allowed instead, in Euclidean norms.
        peer_truth: what peers give, where that is something else.
        sets: number of input sets.
        moved: bytes that the op must read and write.
        operations: that it must execute, 2 a multiply-add.
        terms: the largest sum of a result's terms' magnitudes, where the terms are many.
        copied: for every input set a tensor, the feature map or that of `copied_for`; a copy of it
            is a peer too.
        results: of what a backend returns, the tensors that `truth` is of.
        peer_results: the same of a peer.
        density: share of the pixels that are computed, for an op on listed pixels.
        columns: further ones of the rows.
        left_out: peers that cannot run here, and why not.
    """

    op: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    layout: str
    device: torch.device
    backends: Mapping[str, Contestant]
    peers: Mapping[str, Mapping[str, Contestant]]
    truth: Sequence[Tensor]
    composed: Sequence[Tensor]
    sets: int
    moved: int
    operations: int = 0
    tolerance: float | None = None
    peer_truth: Sequence[Tensor] | None = None
    terms: float = 0.0
    copied: Sequence[Tensor] = ()
    results: Callable[[Any], Tensors] = tensors
    peer_results: Callable[[Any], Tensors] = tensors
    density: float | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


def measure(contest: Contest) -> list[Row]:
    """A row for each backend.

    Raises:
        WrongResultError: a backend's result is off by more than twice what PyTorch's composition
            is and one unit in the last place, or a peer computes something else.
    """
    errors = {name: _check_backend(name, run, contest) for name, run in contest.backends.items()}
    left_out = dict(contest.left_out)
    contestants = dict(contest.backends)
    if contest.copied:
        targets = [torch.empty_like(source) for source in contest.copied]
        contestants["copy"] = lambda index: targets[index].copy_(contest.copied[index])
    peer_errors: dict[str, dict[str, float]] = {}
    for name, variants in contest.peers.items():
        for variant, run in variants.items():
            error = _check_peer(name, run, contest)
            if math.isfinite(error):
                peer_errors.setdefault(name, {})[variant] = error
                contestants[f"{name} {variant}"] = run
            else:
                left_out[f"{name} ({variant})"] = "gives values that are not finite"

    times, clock = _times(contestants, contest)
    fastest = {
        name: min((times[f"{name} {variant}"], variant) for variant in variants)
        for name, variants in peer_errors.items()
    }
    peers = {name: ms for name, (ms, _) in fastest.items()}
    if contest.copied:
        peers = {"copy": times["copy"], **peers}
    return [
        Row(
            name=contest.op,
            kind="op",
            backend=backend,
            device=contest.device.type,
            dtype=dtype_name(contest.dtype),
            shape=contest.shape,
            ms=times[backend],
            floor_ms=_floor(contest),
            peers=peers,
            more={
                "layout": contest.layout,
                "clock": clock,
                **contest.columns,
                **_sparsity(contest.density, times[backend], peers),
                "error": errors[backend],
                "peer_variants": {name: variant for name, (_, variant) in fastest.items()},
                "peer_errors": {name: peer_errors[name][v] for name, (_, v) in fastest.items()},
                "peers_left_out": left_out,
                **describe(contest.device),
            },
        )
        for backend in contest.backends
    ]


def _floor(contest: Contest) -> float:
    """Milliseconds: the bytes over the bandwidth, or the operations over their rate."""
    moving = contest.moved / copy_bandwidth(contest.device, contest.moved, contest.sets)
    if not contest.operations:
        return moving
    return max(moving, contest.operations / matrix_rate(contest.device, contest.dtype))


def _sparsity(density: float | None, ms: float, peers: Mapping[str, float]) -> dict[str, float]:
    """The columns of an op on listed pixels."""
    if density is None:
        return {}
    efficiency = {"efficiency": peers["dense"] / ms * density} if "dense" in peers else {}
    return {"density": density, **efficiency}


def _times(contestants: Mapping[str, Contestant], contest: Contest) -> tuple[dict[str, float], str]:
    if contest.device.type == "cuda":
        try:
            times = graph_times(
                contestants, contest.device, seconds=_GPU_SECONDS, sets=contest.sets
            )
        except RuntimeError:  # some contestant cannot be captured: all are timed without graphs
            torch.cuda.synchronize(contest.device)
        else:
            return times, "graph"
    times = median_times(contestants, contest.device, seconds=_SECONDS, sets=contest.sets)
    return times, "events" if contest.device.type == "cuda" else "host"


def _relative_error(results: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """The largest |result - truth| / |truth| among the results, in Euclidean norms."""
    return max(_error(result, true) for result, true in zip(results, truth, strict=True))


def _error(result: Tensor, true: Tensor) -> float:
    if not true.is_floating_point():
        return 0.0 if torch.equal(result, true) else math.inf
    return float((result.double() - true).norm() / true.norm())


def _check_backend(name: str, run: Contestant, contest: Contest) -> float:
    results = contest.results(run(0))
    for result, true, composed in zip(results, contest.truth, contest.composed, strict=True):
        if result.shape != true.shape or result.dtype != composed.dtype:
            raise WrongResultError(
                f"{contest.op} by {name}: gives {dtype_name(result.dtype)} {list(result.shape)}, "
                f"not {dtype_name(composed.dtype)} {list(true.shape)}"
            )
        error, limit = _error_and_limit(result, true, composed, contest)
        if not error <= limit:  # NaN too
            raise WrongResultError(
                f"{contest.op} by {name}, {dtype_name(contest.dtype)} {contest.layout} "
                f"{list(contest.shape)}: off by {error:.3g}, allowed {limit:.3g}; not timed"
            )
    return _relative_error(results, contest.truth)


def _error_and_limit(
    result: Tensor, true: Tensor, composed: Tensor, contest: Contest
) -> tuple[float, float]:
    if contest.tolerance is not None:
        return _error(result, true), contest.tolerance
    if not true.is_floating_point():
        return _error(result, true), 0.0
    of_composition = float((composed.double() - true).abs().max())
    # One unit in the last place on top, for where the composition happens to be exact, and one of
    # the sum's, for where the order of its terms happens to suit them.
    limit = (
        2 * of_composition
        + torch.finfo(composed.dtype).eps * float(true.abs().max())
        + torch.finfo(torch.float32).eps * contest.terms
    )
    return float((result.double() - true).abs().max()), limit


def _check_peer(name: str, run: Contestant, contest: Contest) -> float:
    truth = contest.truth if contest.peer_truth is None else contest.peer_truth
    error = _relative_error(contest.peer_results(run(0)), truth)
    # In lower precision grid_sample is inexact by design: its coordinates are rounded as well.
    if contest.dtype == torch.float32 and not error <= _PEER_ERROR:
        raise WrongResultError(
            f"{contest.op}: the peer {name} is off by {error:.3g}, so computes something else"
        )
    return error
