from __future__ import annotations

import pytest
import torch
from torch.profiler import record_function

from bench.host_waits import host_waits


def test_waits_are_counted_by_name() -> None:
    def step() -> None:
        for _ in range(2):
            with record_function("cudaEventSynchronize"):
                torch.ones(2).add_(1)

    assert host_waits(step, 3) == {"cudaEventSynchronize": 2}
    assert host_waits(lambda: torch.ones(2).sum().item(), 3) == {}


@pytest.mark.gpu
def test_a_read_of_one_value_is_a_wait() -> None:
    value = torch.ones(2, device="cuda")
    assert host_waits(lambda: value.sum().item(), 3) == {"cudaStreamSynchronize": 1}
