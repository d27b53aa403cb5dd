"""Choices that depend on the machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import rote_bench
from rote_bench.machine import memory_at_hand

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


FORGET = """
import torch
from rote_bench.machine import forget_peak, hand_back, keep_memory
from rote_bench.report.provenance import peak_memory_bytes
keep_memory()
before = peak_memory_bytes()
del [torch.ones(1 << 20) for _ in range(64)][:]
assert peak_memory_bytes() > before + (200 << 20)
hand_back()
forget_peak()
assert peak_memory_bytes() < before + (100 << 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a peak begin anew")
def test_a_peak_begins_anew_without_what_was_handed_back() -> None:
    done = subprocess.run([sys.executable, "-c", FORGET], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


GIB = 1 << 30


def system(folder: Path, available: int, own: str, files: dict[str, int | str]) -> int | None:
    """What a system with these control groups has at hand."""
    proc, groups = folder / "proc", folder / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: 1 kB\nMemFree: 2 kB\nMemAvailable: {available >> 10} kB\n")
    (proc / "self" / "cgroup").write_text(own)
    for name, content in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(f"{content}\n")
    return memory_at_hand(proc, groups)


FIRST, SECOND = (
    ("memory/{}memory.limit_in_bytes", "memory/{}memory.usage_in_bytes"),
    ("{}memory.max", "{}memory.current"),
)
OWN = "9:name=systemd:/x\n4:cpu,memory:/a/b\n", "0::/a/b\n"


@pytest.mark.parametrize(
    ("names", "own", "stat"), [(FIRST, OWN[0], "total_inactive_file"), (SECOND, OWN[1], "inactive_file")]
)
def test_memory_at_hand_is_what_every_control_group_leaves(
    tmp_path: Path, names: tuple[str, str], own: str, stat: str
) -> None:
    """The least of the system's and of each group's from this process's own to the root."""

    def files(groups: dict[str, tuple[int | str, int]]) -> dict[str, int | str]:
        return {name.format(g): n for g, numbers in groups.items() for name, n in zip(names, numbers, strict=True)}

    nothing: int | str = "max" if names is SECOND else 9223372036854771712
    free: dict[str, tuple[int | str, int]] = {"a/b/": (nothing, GIB), "a/": (nothing, GIB)}
    cases: dict[str, tuple[dict[str, tuple[int | str, int]], int]] = {
        "unlimited": (free, 8 * GIB),
        "own": ({**free, "a/b/": (4 * GIB, GIB)}, 3 * GIB),
        "above": ({**free, "a/b/": (6 * GIB, GIB), "a/": (5 * GIB, 3 * GIB)}, 2 * GIB),
        "root": ({"": (7 * GIB, GIB)}, 6 * GIB),  # a container that sees nothing but itself
        "full": ({**free, "a/": (GIB, 2 * GIB)}, 0),
        "none": ({}, 8 * GIB),
    }
    for name, (groups, expected) in cases.items():
        assert system(tmp_path / name, 8 * GIB, own, files(groups)) == expected, name
    folder = names[0].format("a/").rpartition("/")[0]
    cached = files({"a/": (4 * GIB, 3 * GIB)}) | {f"{folder}/memory.stat": f"anon 5\n{stat} {GIB}\nfile 7"}
    assert system(tmp_path / "cached", 8 * GIB, own, cached) == 2 * GIB


def test_memory_at_hand_is_unknown_where_the_system_does_not_say(tmp_path: Path) -> None:
    assert memory_at_hand(tmp_path, tmp_path) is None


def test_everyone_asks_the_same_for_memory() -> None:
    asking = [path for path in Path(rote_bench.__file__).parent.rglob("*.py") if "memory_at_hand" in path.read_text()]
    assert {path.name for path in asking} >= {"splits.py", "load.py", "local.py", "machine.py"}
    assert not [path for path in Path(rote_bench.__file__).parent.rglob("*.py") if "AVPHYS" in path.read_text()]
