"""Choices that depend on the machine."""

from __future__ import annotations

import subprocess
import sys

import pytest

ALLOCATE = """
import ctypes, resource, sys
import torch
from rote_bench.machine import keep_memory
if not hasattr(ctypes.CDLL(None), "mallopt"):
    sys.exit("not glibc")
if sys.argv[1] == "keep":
    keep_memory()
[torch.ones(1 << 24) for _ in range(4)]  # freed together, so that there is room for one of them wherever it is put
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(16):
    torch.ones(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator of Linux")
def test_memory_that_was_freed_is_used_again() -> None:
    """Sixteen blocks of 64 MiB, one after the other: fresh ones cost a page fault for each 4 KiB, kept ones few."""
    faults = {}
    for way in ("keep", "leave"):
        done = subprocess.run([sys.executable, "-c", ALLOCATE, way], capture_output=True, text=True, check=False)
        if "not glibc" in done.stderr:
            pytest.skip("the C library has no mallopt")
        faults[way] = int(done.stdout)
    assert 2 * faults["keep"] < faults["leave"]
