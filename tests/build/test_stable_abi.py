"""The compiled libraries ask torch for its stable C functions alone, and Python for its own.

That is what lets one build run on every later torch and Python.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import hpvod_ops

LIBRARIES = sorted(Path(hpvod_ops.__file__).parent.glob("_C*.abi3.so"))
# Those of libc and of the C++ library come with a version.
STABLE = re.compile(r"(aoti_torch_|torch_|Py)\w+$")
TORCH_NAMESPACE = re.compile(r"\b(at|c10|caffe2|torch)::")


def undefined(library: Path, *options: str) -> list[str]:
    """The symbols that the library must find elsewhere, weak ones aside."""
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("nm is not installed")
    command = [nm, "-D", "--undefined-only", "--with-symbol-versions", *options, library]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    symbols = (line.strip().partition(" ") for line in listed.splitlines())
    return [name for kind, _, name in symbols if kind == "U"]


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
def test_only_stable_symbols(library: Path) -> None:
    symbols = undefined(library)
    assert any(name.startswith("aoti_torch_") for name in symbols)
    assert not [name for name in symbols if "@" not in name and not STABLE.match(name)]


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
def test_nothing_of_torchs_cpp(library: Path) -> None:
    assert not [name for name in undefined(library, "-C") if TORCH_NAMESPACE.search(name)]
