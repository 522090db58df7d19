"""How many tensors a function allocates."""

from __future__ import annotations

from torch.profiler import ProfilerActivity, profile


def allocations(function):
    """The bytes of each allocation by PyTorch's allocator while the function ran."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    events = profiler.profiler.kineto_results.events()
    return [each.nbytes() for each in events if each.name() == "[memory]" and each.nbytes() > 0]
