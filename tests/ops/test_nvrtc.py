"""The device code compiles for the paper's own GPUs.

No current nvcc knows the K40 (sm_35) and the Titan X (sm_52); NVRTC 11.8 does. It has no CUDA
headers at all, so this also shows that the device code needs none.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = "nvidia-cuda-nvrtc-cu11==11.8.89"
KERNELS = Path(__file__).parents[2] / "csrc" / "kernels"
HEADERS = sorted(KERNELS.glob("*.cuh"))
TYPES = ("float", "hpvod::Half", "hpvod::BFloat16", "double")
KERNEL = re.compile(
    r"(?:template <([^>]*)>\s*)?__global__ void\s+(?:__launch_bounds__\([^;{]*?\)\s+)?(\w+)\("
)


def kernel_instantiations(header: Path) -> list[str]:
    """Every kernel of the header, for every element type and vector width."""
    names = []
    for parameters, name in KERNEL.findall(header.read_text(encoding="utf-8")):
        if parameters == "":
            names.append(f"hpvod::{name}")
        elif parameters == "typename T":
            names += [f"hpvod::{name}<{element}>" for element in TYPES]
        else:
            assert parameters == "typename T, int kWidth", (name, parameters)
            for element in TYPES:
                for width in (f"hpvod::kVectorWidth<{element}>", "1"):
                    names.append(f"hpvod::{name}<{element}, {width}>")
    return names


@pytest.fixture(scope="module")
def nvrtc(request: pytest.FixtureRequest) -> ctypes.CDLL:
    folder = request.config.cache.mkdir("nvrtc-11.8")
    if not list(folder.glob("nvidia/cuda_nvrtc/lib/libnvrtc.so*")):
        command = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", folder, PACKAGE]
        installed = subprocess.run(command, capture_output=True, text=True)
        if installed.returncode != 0:
            pytest.skip(f"pip cannot fetch {PACKAGE}: {installed.stderr.strip()[-300:]}")
    # NVRTC looks for its own builtins by name, and finds them once they are loaded.
    libraries = folder / "nvidia" / "cuda_nvrtc" / "lib"
    for builtins in libraries.glob("libnvrtc-builtins.so*"):
        ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(next(libraries.glob("libnvrtc.so*"))))


def compile_with_nvrtc(nvrtc: ctypes.CDLL, source: str, names: list[str], *options: str) -> bytes:
    """The machine code for these kernels; fails with NVRTC's log."""
    program = ctypes.c_void_p()
    assert (
        nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), None, 0, None, None) == 0
    )
    for name in names:
        assert nvrtc.nvrtcAddNameExpression(program, name.encode()) == 0
    encoded = [option.encode() for option in options]
    array = (ctypes.c_char_p * len(encoded))(*encoded)
    status = nvrtc.nvrtcCompileProgram(program, len(encoded), array)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert status == 0, log.value.decode()
    assert nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size)) == 0
    machine_code = ctypes.create_string_buffer(size.value)
    assert nvrtc.nvrtcGetCUBIN(program, machine_code) == 0
    lowered = ctypes.c_char_p()
    for name in names:
        assert nvrtc.nvrtcGetLoweredName(program, name.encode(), ctypes.byref(lowered)) == 0
        assert lowered.value is not None
        assert lowered.value in machine_code.raw, name
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return machine_code.raw


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header.stem)
def test_every_kernel_is_found(header: Path) -> None:
    names = {name.partition("<")[0] for name in kernel_instantiations(header)}
    assert len(names) == header.read_text(encoding="utf-8").count("__global__")


@pytest.mark.parametrize("architecture", ["sm_35", "sm_52"])
@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header.stem)
def test_compiles_for_the_papers_gpus(nvrtc: ctypes.CDLL, header: Path, architecture: str) -> None:
    version = ctypes.c_int(), ctypes.c_int()
    nvrtc.nvrtcVersion(*map(ctypes.byref, version))
    assert (version[0].value, version[1].value) == (11, 8)
    options = (f"--gpu-architecture={architecture}", "--std=c++17", f"-I{KERNELS}")
    names = kernel_instantiations(header)
    machine_code = compile_with_nvrtc(nvrtc, f'#include "{header.name}"\n', names, *options)
    assert machine_code.startswith(b"\x7fELF")
