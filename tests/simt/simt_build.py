"""Builds CUDA sources for the CPU behind simt.h, as pybind11 modules.

A source is preprocessed first. The result is what a cached object file is looked up by, and
where two things are done that no macro can do: `__shared__` declarations are rewritten (see
simt/shared.h) and `<<<` is refused.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pybind11

HERE = Path(__file__).resolve().parent
COMPILER = os.environ.get("CXX", "g++")
KERNELS = HERE.parents[1] / "csrc" / "kernels"
INCLUDES = [HERE, HERE / "simt" / "unsupported", KERNELS]
PYTHON_INCLUDES = [pybind11.get_include(), sysconfig.get_paths()["include"]]
# -g1 keeps lines and function names, which reports need.
FLAGS = ["-std=c++17", "-g1", "-fPIC", "-fvisibility=hidden", "-DHPVOD_SIMT", "-Wno-attributes"]
SANITIZE = ["-fsanitize=address", "-fno-omit-frame-pointer"]
# What a GPU faults on (misaligned vectors) or what C++ leaves undefined.
SANITIZE_KERNELS = [
    "-fsanitize=alignment,float-cast-overflow,signed-integer-overflow,shift",
    "-fno-sanitize-recover=all",
]

ALIGNMENT = re.compile(r"(?:__attribute__\s*\(\(aligned\((.+?)\)\)\)|alignas\s*\((.+?)\))\s*")
SHARED = re.compile(rf"((?:\bextern\s+|{ALIGNMENT.pattern})*)\b__shared__\b([^;]*);")
DECLARATION = re.compile(r"\s*(.*?)\b(\w+)\s*((?:\[[^\[\]]*\]\s*)*)$", re.DOTALL)
LINE_MARKER = re.compile(r'^# (\d+) "([^"]*)"', re.MULTILINE)


class SimtError(Exception):
    """A source that cannot be built for the CPU, and why."""


def _place(text: str, position: int) -> str:
    """`file:line` of a position in preprocessed text."""
    markers = list(LINE_MARKER.finditer(text, 0, position))
    lines = text.count("\n", markers[-1].end(), position) - 1
    return f"{markers[-1][2]}:{int(markers[-1][1]) + lines}"


def translate(text: str) -> str:
    """Rewrites the shared variables of a preprocessed source; raises SimtError."""
    launch = text.find("<<<")
    if launch >= 0:
        raise SimtError(
            f"{_place(text, launch)}: simt cannot run <<<>>>: a launcher calls hpvod::launch,"
            " and kernels that launch kernels (dynamic parallelism) do not run here"
        )
    number = 0

    def rewrite(match: re.Match[str]) -> str:
        nonlocal number
        before, declaration = match[1], match[4]
        alignment = ALIGNMENT.search(before + declaration)
        parsed = DECLARATION.match(ALIGNMENT.sub("", declaration))
        if parsed is None or re.search(r"[,=](?![^<\[(]*[>\])])", declaration):
            raise SimtError(
                f"{_place(text, match.start())}: simt knows `[extern] __shared__ type name[...];`,"
                f" one variable each, not `{match[0]}`"
            )
        type_name, name, extents = (part.strip() for part in parsed.groups())
        newlines = "\n" * match[0].count("\n")
        if "extern" in before:
            return f"auto* {name} = simt::dynamic_shared<{type_name}>();{newlines}"
        number += 1
        align = (alignment[1] or alignment[2]) if alignment else ""
        return (
            f"struct simt_{number} {{}}; auto& {name} = "
            f"simt::shared_variable<simt_{number}, {type_name}{extents}>({align});{newlines}"
        )

    return SHARED.sub(rewrite, text)


def _run(command: Sequence[str], source: str, stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    if done.returncode != 0:
        raise SimtError(f"{source} does not build for the CPU:\n{done.stderr}")
    return done.stdout


def compile_source(source: Path, cache: Path, *, sanitize: bool = False) -> Path:
    """The object file of a .cu (behind simt.h) or .cpp (a binding) source."""
    flags = [*FLAGS, *(SANITIZE if sanitize else []), *(f"-I{folder}" for folder in INCLUDES)]
    if source.suffix == ".cu":
        flags += ["-O1", *(SANITIZE_KERNELS if sanitize else [])]
    else:
        flags += ["-O0", *(f"-I{folder}" for folder in PYTHON_INCLUDES)]
    text = _run([COMPILER, *flags, "-x", "c++", "-E", str(source)], source.name)
    if source.suffix == ".cu":
        text = translate(text)
    key = hashlib.sha256("\0".join([COMPILER, *flags, text]).encode()).hexdigest()[:16]
    target = cache / f"{source.stem}-{key}.o"
    if not target.exists():
        # Renamed when whole: another process may look for it at the same time.
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            unfinished = Path(folder, "unfinished.o")
            language = ["-x", "c++", "-fpreprocessed"]
            _run([COMPILER, *flags, *language, "-c", "-", "-o", str(unfinished)], source.name, text)
            unfinished.replace(target)
    return target


def build(name: str, sources: Sequence[Path], cache: Path, *, sanitize: bool = False) -> Path:
    """The pybind11 module `name` of these sources, built where no cached one fits."""
    objects = [compile_source(source, cache, sanitize=sanitize) for source in sources]
    key = hashlib.sha256("".join(map(str, objects)).encode()).hexdigest()[:16]
    target = cache / key / f"{name}.so"
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            unfinished = Path(folder, "unfinished.so")
            flags = [*([*SANITIZE, *SANITIZE_KERNELS] if sanitize else []), "-shared", "-ldl"]
            _run([COMPILER, *map(str, objects), *flags, "-o", str(unfinished)], name)
            unfinished.replace(target)
    return target


def load(path: Path) -> ModuleType:
    """Imports a module that `build` has made."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sanitizer_runtime() -> Path:
    """AddressSanitizer's library; no such file where the compiler came without it."""
    return Path(_run([COMPILER, "-print-file-name=libasan.so"], "libasan").strip()).resolve()


def run_sanitized(path: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Runs Python `code`, which finds the sanitized module at `path`, under AddressSanitizer."""
    environment = {
        **os.environ,
        "LD_PRELOAD": str(sanitizer_runtime()),
        # The interpreter's own leaks are not our concern.
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0:symbolize=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": os.pathsep.join([str(path.parent), str(HERE.parent)]),
    }
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
