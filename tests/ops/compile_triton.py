"""Compiles Triton kernels for GPUs that need not be here.

Run as a program of its own, since a process in Triton's interpreter cannot compile: takes jobs as
JSON, prints what became of each.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Job:
    """A kernel, "module:name", for a GPU of one compute capability, 90 for 9.0.

    `arguments` has a type for each pointer and number, a list of types for a tuple, a value for
    each constant; those not named are of type i32. Pointers and specialized integers are multiples
    of 16, as Triton itself finds them for fresh tensors of the networks' sizes.
    """

    name: str
    kernel: str
    capability: int
    arguments: dict[str, Any]
    warps: int = 4
    stages: int = 3
    fp_fusion: bool = True


@dataclass(frozen=True)
class Compiled:
    ptx: str
    registers: int  # a thread
    stack: int  # bytes a thread: what did not fit into registers
    shared: int  # bytes a program


def compile_kernels(jobs: list[Job], cache: Path) -> dict[str, Compiled]:
    """What became of each job, by name; skips the test where Triton has no assembler."""
    environment = dict(os.environ, TRITON_CACHE_DIR=str(cache))
    environment.pop("TRITON_INTERPRET", None)
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    text = json.dumps([dataclasses.asdict(job) for job in jobs])
    command = [sys.executable, __file__, text]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if "Cannot find ptxas" in done.stderr:
        pytest.skip("Triton came without ptxas")
    assert done.returncode == 0, done.stderr
    return {name: Compiled(**compiled) for name, compiled in json.loads(done.stdout).items()}


def _compile(job: Job) -> Compiled:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    module, name = job.kernel.split(":")
    kernel = getattr(importlib.import_module(module), name)
    signature: dict[str, Any] = {}
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], Any] = {}
    for index, parameter in enumerate(kernel.params):
        value = job.arguments.get(parameter.name, "i32")
        if isinstance(value, list):
            signature[parameter.name] = tuple(value)
            for place, each in enumerate(value):
                if each.startswith("*"):
                    attributes[(index, place)] = [["tt.divisibility", 16]]
        elif isinstance(value, str):
            signature[parameter.name] = value
            if not parameter.do_not_specialize and value[:2] != "fp":
                attributes[(index,)] = [["tt.divisibility", 16]]
        else:
            signature[parameter.name] = "constexpr"
            constants[(index,)] = value
    compiled = triton.compile(
        ASTSource(kernel, signature, constants, attributes),
        target=GPUTarget("cuda", job.capability, 32),
        options={
            "num_warps": job.warps,
            "num_stages": job.stages,
            "enable_fp_fusion": job.fp_fusion,
        },
    )
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(compiled.asm["cubin"])
        cubin.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", cubin.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = (int(re.findall(rf"{what}:(\d+)", usage)[0]) for what in ("REG", "STACK"))
    return Compiled(compiled.asm["ptx"], registers, stack, compiled.metadata.shared)


if __name__ == "__main__":
    jobs = [Job(**job) for job in json.loads(sys.argv[1])]
    json.dump({job.name: dataclasses.asdict(_compile(job)) for job in jobs}, sys.stdout)
