"""Choices that depend on the machine: device, arithmetic, threads, batch size, a folder to write to."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import UserError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # names of glibc's malloc.h
LONGEST = 255  # bytes of a file's name, on the usual file systems
FILLING = 200_000_000  # parameters from which on a model fills a GPU: it is stacked only where that is asked for
LARGE = 20_000_000  # parameters from which on a model gets all cores and diagnoses look at fewer examples


def check_writable(folder: Path) -> None:
    """Find out whether a folder could be made and written to, without making it.

    Raises:
        UserError: when it could not.
    """
    try:
        nearest = next(p for p in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(p))
        longest = max(len(os.fsencode(part)) for part in folder.parts)
        if nearest.is_symlink() and not nearest.exists():
            raise NotADirectoryError(0, f"{nearest} is a link to nothing, or to itself")
        if not nearest.is_dir():
            raise NotADirectoryError(0, f"{nearest} is not a folder")
        if longest > LONGEST:
            raise OSError(errno.ENAMETOOLONG, f"a name in it has {longest} bytes, and {LONGEST} are the most")
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except (OSError, RuntimeError, ValueError) as error:  # older Pythons call a loop of links a RuntimeError
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"cannot be written: {reason}", where=str(folder), hint="choose another -o") from None


def choose_device(wanted: str) -> str:
    """``auto`` is a GPU when there is one.

    Raises:
        UserError: when the named device is not there.
    """
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=wanted)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"no device {wanted!r} here: {reason}", where="--device", hint="auto or cpu") from None
    return wanted


def choose_precision(wanted: str, device: str) -> str:
    """``auto`` is bfloat16 where the hardware multiplies it fast."""
    import torch

    if wanted != "auto":
        return wanted
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    fast = (
        getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
        or getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    )
    return "bfloat16" if fast else "float32"


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_at_hand(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that this process and new ones can use; None where the system does not say.

    What the system has available, caches that it would give up included, within the limit of every control group that
    holds this process, as a container sets one (both versions of Linux's cgroups).
    """
    try:
        lines = (proc / "meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    return max(0, min([free, *_left_in_groups(proc, groups)]))


def _left_in_groups(proc: Path, groups: Path) -> Iterator[int]:
    """Bytes left to each control group with a limit that holds this process."""
    try:
        own = [line.split(":", 2) for line in (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()]
    except OSError:
        own = []
    first = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    second = ("memory.max", "memory.current", "inactive_file")
    for _, controllers, path in (entry for entry in own if len(entry) == 3):
        names, root = (second, groups) if not controllers else (first, groups / "memory")
        if controllers and "memory" not in controllers.split(","):
            continue
        # inside a container the path may be the one outside, of which only the root is to be seen
        place = PurePosixPath(path.lstrip("/"))
        for folder in (root / place, *(root / parent for parent in place.parents)):
            limit, used = (_number(folder / name) for name in names[:2])
            if limit is not None and used is not None:
                yield limit - used + (_number(folder / "memory.stat", names[2]) or 0)


def _number(file: Path, key: str = "") -> int | None:
    """What a file of a control group says, or the line of it that begins with a key; None when it does not."""
    try:
        lines = [line.split() for line in file.read_text(encoding="ascii").splitlines()]
        return next(int(words[-1]) for words in lines if not key or words[0] == key)
    except (OSError, ValueError, StopIteration, IndexError):  # no such group, or one without a limit
        return None


def choose_cores(wanted: int | None) -> int:
    """How many cores a cell may keep busy: as many as it was given threads, else all of the process."""
    named = os.environ.get("OMP_NUM_THREADS")
    return wanted or (max(1, int(named)) if named and named.isdecimal() else count_cores())


def choose_threads(wanted: int | None, model: Any) -> int:
    """One thread for a small model, which more only slow down beside other work; all cores for a large one."""
    import torch

    parameters = sum(p.numel() for p in model.parameters())
    named = os.environ.get("OMP_NUM_THREADS")
    count = wanted or (int(named) if named and named.isdecimal() else 1 if parameters < LARGE else count_cores())
    torch.set_num_threads(max(1, count))
    return torch.get_num_threads()


def cpu_seconds() -> float:
    """Processor time of this process so far, and of those of its children that have ended."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return time.process_time()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def resident_bytes(proc: Path = Path("/proc")) -> int:
    """The resident size of this process; 0 where the system does not say."""
    try:
        return int((proc / "self" / "statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def keep_memory() -> None:
    """Let the allocator keep what a step frees for the next one, where it is glibc's.

    By default it hands large blocks back at once and asks for them again, and the system then clears them page by
    page: half the time of a Mamba's training step. No number depends on it. It lasts as long as the process and cannot
    be undone, so that only processes that are rote-bench's own should ask for it: the command line's and a sweep's.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def hand_back() -> None:
    """Give back what a cell has used and the next one may not need: to the system, and a GPU's to its other users."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def forget_peak() -> None:
    """Let the largest resident size of this process, which reports hold, begin anew; only Linux can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def choose_cap(model: Any) -> int:
    """Largest number of examples in a view: a fifth for a large model, so that diagnoses stay shorter than training."""
    return 1024 if sum(p.numel() for p in model.parameters()) < LARGE else 192


def choose_batch_size(model: Any) -> int:
    """Examples per forward pass that keep all captured activations and the logits of a model well under a GiB."""
    config = model.config.get_text_config()
    per_example = getattr(config, "num_hidden_layers", 12) * getattr(config, "hidden_size", 768)
    per_example += getattr(config, "vocab_size", None) or 0
    return max(16, min(512, 2_000_000 // per_example // 16 * 16))
