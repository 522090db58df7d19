from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from hpvod.config import ModelConfig
from hpvod.model import HPVODModel, build_model


@pytest.fixture(scope="session")
def tiny_model() -> HPVODModel:
    """Shared by all tests, so none may change it."""
    return build_model(ModelConfig.preset("tiny"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    # On maps this small a second thread does nothing but wait, and on a busy machine for long.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
