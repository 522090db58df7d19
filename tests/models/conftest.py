from __future__ import annotations

import pytest

from hpvod.config import ModelConfig
from hpvod.model import HPVODModel, build_model


@pytest.fixture(scope="session")
def tiny_model() -> HPVODModel:
    """Shared by all tests, so none may change it."""
    return build_model(ModelConfig.preset("tiny"))
