"""Drives CMake (CMakeLists.txt is the build) and tags the wheel abi3."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


def torch_dir() -> Path:
    import torch

    return Path(torch.__file__).parent


class CMakeBuild(build_ext):
    """Builds every binding in one CMake run."""

    def run(self) -> None:
        known = ("c++", "g++", "clang++")
        compiler = os.environ.get("CXX") or next(filter(shutil.which, known), "")
        if not compiler or not shutil.which(compiler.split()[0]):
            wanted = f"CXX={compiler} was not found" if compiler else "none was found"
            sys.exit(
                f"hpvod needs a C++17 compiler (GCC or Clang) to build, and {wanted}: install one, "
                "for example with `apt-get install g++`, or set CXX to it."
            )
        include = Path(sysconfig.get_paths()["include"])
        if not (include / "Python.h").is_file():
            sys.exit(
                f"hpvod needs Python's headers to build, and {include} has no Python.h: install "
                "them, for example with `apt-get install python3-dev`."
            )
        # Without build isolation, cmake and ninja may lie beside a Python that is not on PATH.
        search = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", "")))
        cmake = shutil.which("cmake", path=search)
        if cmake is None:
            sys.exit("hpvod needs CMake 3.24 or newer to build: `pip install cmake ninja`.")
        generator = ["-G", "Ninja"] if shutil.which("ninja", path=search) else []
        build = Path(self.build_temp).resolve() / "cmake"
        build.mkdir(parents=True, exist_ok=True)
        options = {
            "CMAKE_BUILD_TYPE": "Release",
            "HPVOD_TORCH_DIR": torch_dir(),
            "HPVOD_PYTHON_INCLUDE": include,
            "HPVOD_CUDA": os.environ.get("HPVOD_CUDA", "auto"),
            "HPVOD_CUDA_ARCHS": os.environ.get("HPVOD_CUDA_ARCHS", ""),
        }
        arguments = [f"-D{name}={value}" for name, value in options.items()]
        packages = {ROOT / "hpvod_ops", self.library_folder()}
        for folder in (build, *packages):  # an earlier build may have had CUDA, this one not
            for library in folder.glob("_C*.abi3.so"):
                library.unlink()
        for command in (
            # --fresh: the last build's ninja was deleted with its isolated environment.
            [cmake, "--fresh", "-S", str(ROOT), "-B", str(build), *generator, *arguments],
            [cmake, "--build", str(build), "--parallel"],
        ):
            environment = {**os.environ, "PATH": search}
            if subprocess.run(command, check=False, env=environment).returncode:
                sys.exit(f"hpvod: `{' '.join(command[:3])} ...` failed; its own words are above.")

        # Into the source folder as well: Python started there imports the package from it.
        for package in packages:
            package.mkdir(parents=True, exist_ok=True)
            for library in build.glob("_C*.abi3.so"):
                shutil.copy2(library, package)

    def library_folder(self) -> Path:
        return ROOT / "hpvod_ops" if self.inplace else Path(self.build_lib).resolve() / "hpvod_ops"

    def get_outputs(self) -> list[str]:
        return [str(path) for path in self.library_folder().glob("_C*.abi3.so")]


class Abi3Wheel(bdist_wheel):
    """One wheel for every Python from 3.10 on."""

    def finalize_options(self) -> None:
        self.py_limited_api = "cp310"
        super().finalize_options()


setup(
    ext_modules=[Extension("hpvod_ops._C", sources=[], py_limited_api=True)],
    cmdclass={"build_ext": CMakeBuild, "bdist_wheel": Abi3Wheel},
)
