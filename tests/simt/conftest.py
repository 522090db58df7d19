from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

# So that these tests, and the processes they start, can import simt_build.
sys.path.insert(0, str(Path(__file__).parent))

import simt_build

BINDINGS = simt_build.HERE / "bindings"
PLANTED = [*sorted((simt_build.HERE / "kernels").glob("*.cu")), BINDINGS / "planted.cpp"]
WARP = [simt_build.KERNELS / "warp.cu", BINDINGS / "warp.cpp"]


@pytest.fixture(scope="session")
def cache(request: pytest.FixtureRequest) -> Path:
    """Where object files outlive the session, by the hash of what they were made of."""
    return request.config.cache.mkdir("simt")


@pytest.fixture(scope="session")
def planted(cache: Path) -> ModuleType:
    return simt_build.load(simt_build.build("planted", PLANTED, cache))


@pytest.fixture(scope="session")
def sanitized_planted(cache: Path) -> Path:
    return simt_build.build("planted", PLANTED, cache, sanitize=True)


@pytest.fixture(scope="session")
def warp(cache: Path) -> ModuleType:
    return simt_build.load(simt_build.build("warp", WARP, cache))


@pytest.fixture(scope="session")
def sanitized_warp(cache: Path) -> Path:
    return simt_build.build("warp", WARP, cache, sanitize=True)
