"""Contestants take turns in one process, A B A B, and the median of each is its time."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

Contestant = Callable[[int], object]
"""What is timed. Its argument chooses among the input sets, 0 to `sets` - 1."""


CPU_CACHE = 32 << 20
"""Bytes, fewer than what passes through the caches between two runs of a network's layer."""

_WARM_UP = 2
_FEWEST_TURNS = 5
_TURN = 10.0  # milliseconds at least, but for what would take more than _MOST_CALLS
_MOST_CALLS = 100


def number_of_sets(device: torch.device, bytes_a_call: int, cpu_cache: int = 0) -> int:
    """So many input sets that none is still in a GPU's L2 cache when its turn comes again.

    Args:
        device: where they lie.
        bytes_a_call: of one set.
        cpu_cache: bytes of the cache to outgrow on a CPU; 0 for one set, however large.
    """
    cache = cpu_cache
    if device.type == "cuda":
        cache = torch.cuda.get_device_properties(device).L2_cache_size
    return 1 + 2 * cache // bytes_a_call


def median_times(
    contestants: Mapping[str, Contestant],
    device: torch.device,
    *,
    seconds: float,
    sets: int = 1,
) -> dict[str, float]:
    """Median milliseconds a call of each contestant.

    A fast contestant makes several calls in its turn, one after the other, each on the next input
    set; their mean is a sample. It is taken under a host clock on a CPU and between two device
    events on a GPU. With sets that together exceed a cache, no call finds its input there. All have
    equally many turns, so that whatever else goes on in the machine meets all of them alike.

    Args:
        contestants: by name, in the order of their turns.
        device: where they run.
        seconds: measuring time of the slowest contestant, at least; it has at least five turns.
        sets: number of input sets.
    """
    sample = _sample_cuda if device.type == "cuda" else _sample_cpu
    calls: dict[str, int] = {}
    for name, contestant in contestants.items():
        for turn in range(_WARM_UP * sets):
            contestant(turn % sets)
        estimate = sample(contestant, range(sets))
        calls[name] = min(math.ceil(_TURN / estimate), _MOST_CALLS)
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    turns = 0

    def longest() -> float:
        return max(calls[name] * sum(done) for name, done in samples.items())

    while turns < _FEWEST_TURNS or longest() < seconds * 1e3:
        for name, contestant in contestants.items():
            first = turns * calls[name]
            indices = [index % sets for index in range(first, first + calls[name])]
            samples[name].append(sample(contestant, indices))
        turns += 1
    return {name: statistics.median(done) for name, done in samples.items()}


def _sample_cpu(contestant: Contestant, indices: Sequence[int]) -> float:
    start = time.perf_counter()
    for index in indices:
        contestant(index)
    return (time.perf_counter() - start) * 1e3 / len(indices)


def _sample_cuda(contestant: Contestant, indices: Sequence[int]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for index in indices:
        contestant(index)
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / len(indices)


def graph_times(
    contestants: Mapping[str, Contestant],
    device: torch.device,
    *,
    seconds: float,
    sets: int,
) -> dict[str, float]:
    """`median_times` with each contestant's calls replayed as one CUDA graph.

    That leaves out what launching a kernel costs the host, which is most of the time of small
    ones. Must run on the stream on which the contestants were prepared, and not the default one.

    Raises:
        RuntimeError: CUDA cannot capture a contestant.
    """
    stream = torch.cuda.current_stream(device)
    replays: dict[str, Contestant] = {}
    for name, contestant in contestants.items():
        for index in range(sets):
            contestant(index)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for index in range(sets):
                contestant(index)
        replays[name] = _replay(graph)
    times = median_times(replays, device, seconds=seconds)
    return {name: value / sets for name, value in times.items()}


def _replay(graph: torch.cuda.CUDAGraph) -> Contestant:
    return lambda _: graph.replay()
