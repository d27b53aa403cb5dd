"""Where numbers come from: versions and machine."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .record import Environment

DISTRIBUTION = "reason-to-rote-bench"


def installed(name: str) -> str:
    """The version of an installed distribution, or ``unknown``."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def _git(*arguments: str) -> str | None:
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):  # no git on this machine: the commit is simply not known
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _commit() -> tuple[str | None, bool | None]:
    """Commit and dirtiness of the checkout that holds this very file; nothing for an installed wheel."""
    top = _git("rev-parse", "--show-toplevel")
    if top is None or not (Path(top) / "rote_bench" / "report" / "provenance.py").is_file():
        return None, None
    status = _git("status", "--porcelain", "--", ":/rote_bench", ":/tasks", ":/pyproject.toml")
    return _git("rev-parse", "HEAD"), None if status is None else bool(status)


def _cpu() -> str:
    """Name of the processor and the instructions that torch uses on it; generations that round apart share a name."""
    import torch

    return f"{_cpu_name()}, {torch.backends.cpu.get_cpu_capability()}"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def environment(
    *,
    device: str,
    threads: int,
    dtype: str,
    precision: str,
    remote_code: bool = False,
    processes: int = 1,
    compiled: bool = False,
) -> Environment:
    """The report's ``environment``; the batch size is known once the model's parts are."""
    commit, dirty = _commit()
    return Environment(
        rote_bench=installed(DISTRIBUTION),
        git_commit=commit,
        git_dirty=dirty,
        python=platform.python_version(),
        torch=installed("torch"),
        transformers=installed("transformers"),
        platform=platform.platform(),
        cpu=_cpu(),
        device=device,
        threads=threads,
        dtype=dtype,
        processes=processes,
        precision=precision,
        compiled=compiled,
        deterministic=device == "cpu",
        remote_code=remote_code,
        batch_size=None,
    )


def peak_memory_bytes(status: Path = Path("/proc/self/status")) -> int:
    """The largest resident size of this process, since ``machine.forget_peak``; 0 where the system does not say."""
    try:
        # what getrusage says on Linux is never below the size of the process that started this one
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):  # another system
        pass
    try:
        import resource
    except ImportError:  # not a POSIX system
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
