"""The backends of this machine, for the tests that run in each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from hpvod_ops import use_backend
from hpvod_ops.backends import can_run

GPU = torch.cuda.is_available()
# Without a GPU, tests of their own run Triton in its interpreter and the CUDA kernels in simt.
WITH_KERNELS = ("cpu", "cuda", "triton") if GPU else ("cpu",)


@pytest.fixture(params=(*WITH_KERNELS, "reference"))
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every op of the test runs on it."""
    with use_backend(request.param):
        yield request.param


@pytest.fixture(params=WITH_KERNELS)
def kernel_backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """As `backend`, where a torch.ops.hpvod is called."""
    with use_backend(request.param):
        yield request.param


@pytest.fixture
def backend_device(backend: str) -> torch.device:
    """Where the tensors of a test with `backend` are."""
    return _device_of(backend)


@pytest.fixture
def kernel_device(kernel_backend: str) -> torch.device:
    """Where the tensors of a test with `kernel_backend` are."""
    return _device_of(kernel_backend)


def _device_of(backend: str) -> torch.device:
    device = torch.device("cuda" if GPU and backend != "cpu" else "cpu")
    if reason := can_run(backend, device, torch.float32):
        pytest.skip(reason) if backend == "triton" else pytest.fail(reason)
    return device


@pytest.fixture
def overload(kernel_backend: str) -> str:
    """The registered op that the public function calls."""
    return "triton" if kernel_backend == "triton" else "default"
