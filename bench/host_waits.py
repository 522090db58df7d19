"""How often the host waits for a GPU: each wait is time in which the GPU may run dry."""

from __future__ import annotations

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile, supported_activities

# Of CUDA's runtime. A copy to or from pageable memory waits as well, on a stream, which counts as
# cudaStreamSynchronize.
_WAITS = (
    "cudaDeviceSynchronize",
    "cudaEventSynchronize",
    "cudaMemcpy",
    "cudaStreamSynchronize",
)


def host_waits(step: Callable[[], object], steps: int) -> dict[str, float]:
    """Waits a step, by the name of CUDA's function; none are left out, and none on a CPU.

    Args:
        step: what a frame does, warmed up.
        steps: how often it is done.
    """
    activities = {ProfilerActivity.CPU, ProfilerActivity.CUDA} & supported_activities()
    with profile(activities=activities) as profiler:
        for _ in range(steps):
            step()
    counts = {event.key: event.count / steps for event in profiler.key_averages()}
    return {name: counts[name] for name in _WAITS if name in counts}
