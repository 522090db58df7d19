from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, torch
from hpvod.memory import keep_freed_memory

keep_freed_memory()

def frame():
    "Frees more at the heap's end than the 64 MiB that glibc keeps at most, unasked."
    tensors = [torch.ones(7 << 20) for _ in range(4)]
    while tensors:
        tensors.pop()

for _ in range(5):
    frame()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    frame()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone is told so")
def test_what_is_freed_is_not_mapped_again():
    """Unasked, glibc has these 5 x 112 MiB mapped anew in most runs: 143,200 faults."""
    faults = int(subprocess.check_output([sys.executable, "-c", SCRIPT], text=True))
    assert faults < 100
