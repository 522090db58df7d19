"""One op against what a user would write otherwise: checked first, then timed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bench.machine import copy_bandwidth, describe
from bench.rows import Row, dtype_name
from bench.timing import Contestant, graph_times, median_times

_SECONDS = 0.4  # of measuring, a contestant
_PEER_ERROR = 1e-3  # relative, in float32: a peer that errs more computes something else


class WrongResultError(Exception):
    """A result that is not the op's; nothing was timed."""


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
            the peer's time.
        left_out: peers that cannot run here, and why not.
        truth: the results for input set 0 in float64.
        composed: the same by PyTorch's own composition in `dtype`.
        maps: the feature map of every input set; a copy of it is a peer too.
        moved: bytes that the op must read and write.
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
    maps: Sequence[Tensor]
    moved: int
    left_out: Mapping[str, str] = field(default_factory=dict)


def measure(contest: Contest) -> list[Row]:
    """A row for each backend.

    Raises:
        WrongResultError: a backend's result is off by more than twice what PyTorch's composition
            is and one unit in the last place, or a peer computes something else.
    """
    errors = {name: _check_backend(name, run, contest) for name, run in contest.backends.items()}
    left_out = dict(contest.left_out)
    target = torch.empty_like(contest.maps[0])
    contestants: dict[str, Contestant] = {
        **contest.backends,
        "copy": lambda index: target.copy_(contest.maps[index]),
    }
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
    return [
        Row(
            name=contest.op,
            kind="op",
            backend=backend,
            device=contest.device.type,
            dtype=dtype_name(contest.dtype),
            shape=contest.shape,
            ms=times[backend],
            floor_ms=contest.moved / copy_bandwidth(contest.device),
            peers={"copy": times["copy"], **{name: ms for name, (ms, _) in fastest.items()}},
            more={
                "layout": contest.layout,
                "clock": clock,
                "error": errors[backend],
                "peer_variants": {name: variant for name, (_, variant) in fastest.items()},
                "peer_errors": {name: peer_errors[name][v] for name, (_, v) in fastest.items()},
                "peers_left_out": left_out,
                **describe(contest.device),
            },
        )
        for backend in contest.backends
    ]


def _times(contestants: Mapping[str, Contestant], contest: Contest) -> tuple[dict[str, float], str]:
    sets = len(contest.maps)
    if contest.device.type == "cuda":
        try:
            times = graph_times(contestants, contest.device, seconds=_SECONDS, sets=sets)
        except RuntimeError:  # some contestant cannot be captured: all are timed without graphs
            torch.cuda.synchronize(contest.device)
        else:
            return times, "graph"
    times = median_times(contestants, contest.device, seconds=_SECONDS, sets=sets)
    return times, "events" if contest.device.type == "cuda" else "host"


def _results(run: Contestant) -> tuple[Tensor, ...]:
    results = run(0)
    return results if isinstance(results, tuple) else (results,)


def _relative_error(results: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """The largest |result - truth| / |truth| among the results, in Euclidean norms."""
    return max(
        float((result.double() - true).norm() / true.norm())
        for result, true in zip(results, truth, strict=True)
    )


def _check_backend(name: str, run: Contestant, contest: Contest) -> float:
    results = _results(run)
    for result, true, composed in zip(results, contest.truth, contest.composed, strict=True):
        if result.shape != true.shape or result.dtype != contest.dtype:
            raise WrongResultError(
                f"{contest.op} by {name}: gives {dtype_name(result.dtype)} {list(result.shape)}, "
                f"not {dtype_name(contest.dtype)} {list(true.shape)}"
            )
        error = float((result.double() - true).abs().max())
        of_composition = float((composed.double() - true).abs().max())
        # One unit in the last place on top, for where the composition happens to be exact.
        limit = 2 * of_composition + torch.finfo(contest.dtype).eps * float(true.abs().max())
        if not error <= limit:  # NaN too
            raise WrongResultError(
                f"{contest.op} by {name}, {dtype_name(contest.dtype)} {contest.layout} "
                f"{list(contest.shape)}: off by {error:.3g}, allowed {limit:.3g}; not timed"
            )
    return _relative_error(results, contest.truth)


def _check_peer(name: str, run: Contestant, contest: Contest) -> float:
    error = _relative_error(_results(run), contest.truth)
    # In lower precision grid_sample is inexact by design: its coordinates are rounded as well.
    if contest.dtype == torch.float32 and not error <= _PEER_ERROR:
        raise WrongResultError(
            f"{contest.op}: the peer {name} is off by {error:.3g}, so computes something else"
        )
    return error
