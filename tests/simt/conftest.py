from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import pytest
from simt import simt_build

BINDINGS = simt_build.HERE / "bindings"
KERNELS = simt_build.HERE / "kernels"
PLANTED = [*sorted(KERNELS.glob("*.cu")), BINDINGS / "planted.cpp"]
# Those that the tests run under a sanitizer: compiling for one takes three times as long.
SANITIZED = [KERNELS / "faults.cu", KERNELS / "shared.cu", KERNELS / "warps.cu"]
WARP = [simt_build.KERNELS / "warp.cu", BINDINGS / "warp.cpp"]


@pytest.fixture(scope="session")
def cache(request: pytest.FixtureRequest) -> Path:
    """Where object files outlive the session, by the hash of what they were made of."""
    if shutil.which(simt_build.COMPILER) is None:
        pytest.skip(f"there is no C++ compiler {simt_build.COMPILER}")
    return request.config.cache.mkdir("simt")


@pytest.fixture(scope="session")
def _sanitizer(cache: Path) -> None:
    if not simt_build.sanitizer_runtime().is_file():
        pytest.skip("the C++ compiler came without AddressSanitizer")


@pytest.fixture(scope="session")
def planted(cache: Path) -> ModuleType:
    return simt_build.load(simt_build.build("planted", PLANTED, cache))


@pytest.fixture(scope="session")
def sanitized_planted(cache: Path, _sanitizer: None) -> Path:
    return simt_build.build("planted", [*SANITIZED, PLANTED[-1]], cache, sanitize=True)


@pytest.fixture(scope="session")
def warp(cache: Path) -> ModuleType:
    return simt_build.load(simt_build.build("warp", WARP, cache))


@pytest.fixture(scope="session")
def sanitized_warp(cache: Path, _sanitizer: None) -> Path:
    return simt_build.build("warp", WARP, cache, sanitize=True)
