"""The layout that CONTRIBUTING describes holds: an op is found by its name in every folder."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest

import hpvod_ops

ROOT = Path(__file__).parents[1]
OPS = sorted(path.stem for path in (ROOT / "hpvod_ops" / "reference").glob("[!_]*.py"))
# One elementwise expression with a gradient of its own: PyTorch's kernels run it everywhere.
WITHOUT_KERNELS = {"update_mask"}

FILES = [
    "hpvod_ops/ops/{op}.py",
    "hpvod_ops/reference/{op}.py",
    "tests/ops/test_{op}.py",
]
KERNEL_FILES = [
    "csrc/kernels/{op}.h",
    "csrc/kernels/{op}.cuh",
    "csrc/kernels/{op}.cu",
    "csrc/cpu/{op}.h",
    "csrc/cpu/{op}.cpp",
    "csrc/bindings/{op}.cpp",
    "csrc/bindings/{op}_cuda.cpp",
    "hpvod_ops/triton/{op}.py",
    "tests/ops/test_{op}_triton.py",
    "tests/simt/test_{op}_simt.py",
]


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_its_files(op: str) -> None:
    patterns = FILES if op in WITHOUT_KERNELS else FILES + KERNEL_FILES
    files = [pattern.format(op=op) for pattern in patterns]
    assert not [file for file in files if not (ROOT / file).is_file()]


@pytest.mark.parametrize("op", sorted(set(OPS) - WITHOUT_KERNELS))
def test_every_op_is_measured(op: str) -> None:
    name = re.compile(rf"\b{op}_?\b")  # a trailing _: in place
    sources = (ROOT / "bench").glob("*.py")
    assert any(name.search(path.read_text(encoding="utf-8")) for path in sources)


def test_every_op_is_exported() -> None:
    """One export is the only list of ops; what else is public is named here."""
    public = {name.removesuffix("_") for name in hpvod_ops.__all__}
    assert set(OPS) <= public
    others = {"explain", "use_backend", "pack_conv2d"}
    types = {"PackedConv2d", "PixelList", "PixelSet", "UpdatePlan"}
    assert public == set(OPS) | others | types


@pytest.mark.parametrize("folder", ["csrc/kernels", "csrc/cpu"])
def test_kernels_know_no_torch(folder: str) -> None:
    sources = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    assert sources
    assert not [path for path in sources if "#include <torch" in path.read_text(encoding="utf-8")]


def test_the_networks_use_public_names_of_the_ops_only() -> None:
    private = ("hpvod_ops.ops", "hpvod_ops.reference", "hpvod_ops.triton", "torch.ops.hpvod")
    sources = (ROOT / "models").rglob("*.py")
    assert not [
        path
        for path in sources
        if any(name in path.read_text(encoding="utf-8") for name in private)
    ]


def test_every_package_is_installed() -> None:
    listed = re.search(
        r"^packages = \[(.*?)\]", (ROOT / "pyproject.toml").read_text("utf-8"), re.M | re.S
    )
    assert listed
    folders = [*(ROOT / "hpvod_ops").rglob("__init__.py"), *ROOT.glob("models/**/__init__.py")]
    packages = {
        ".".join(path.parent.relative_to(ROOT).parts).removeprefix("models.") for path in folders
    }
    assert set(re.findall(r'"(\S+?)"', listed[1])) == packages


def test_cmake_and_python_agree_on_the_version() -> None:
    project = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert re.findall(r"project\(hpvod VERSION (\S+)", project) == [version("hpvod")]


def test_nothing_names_this_machine() -> None:
    """Paths and registries of the machine that it was written on have no place in the project."""
    folders = ("csrc", "hpvod_ops", "models", "bench", "tests")
    sources = [*ROOT.glob("*.*"), *(path for f in folders for path in (ROOT / f).rglob("*.*"))]
    suffixes = {".py", ".md", ".toml", ".cpp", ".h", ".cu", ".cuh", ".sh", ".txt", ".json", ".yaml"}
    private = re.compile(r"/work/|/root/|pypi\.org|pythonhosted\.org")
    named = [
        path
        for path in sources
        if path.suffix in suffixes and path != Path(__file__)
        if private.search(path.read_text(encoding="utf-8"))
    ]
    assert not named
