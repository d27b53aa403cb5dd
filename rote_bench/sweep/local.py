"""Cells in processes of this machine, as many at a time as its cores, memory and GPUs hold."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..machine import count_cores, memory_at_hand
from .cells import Job
from .work import LOG, Outcome

# every library that starts threads of its own has its own name for how many
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass
class _Worker:
    job: Job
    process: subprocess.Popen[bytes]
    devices: Mapping[str, float]


class Local:
    """Worker processes of this machine.

    Args:
        workers: how many at a time; None as many as fit.
    """

    def __init__(self, *, workers: int | None, device: str) -> None:
        self.workers = workers
        self.cores = count_cores()
        self.memory = memory_at_hand()
        self.free = dict.fromkeys(visible_devices(device), 1.0)
        self.running: dict[Path, _Worker] = {}

    def share(self, job: Job) -> float:
        """The part of the machine that a cell takes."""
        return 1 / self.workers if self.workers else min(1.0, job.threads / self.cores)

    def room(self, job: Job) -> bool:
        """Whether the cell can start now; one that is alone always can."""
        if not self.running:
            return True
        if self.free and self._devices(job) is None:
            return False
        if self.workers is not None:
            return len(self.running) < self.workers
        others = [worker.job for worker in self.running.values()]
        memory = sum(each.memory for each in (*others, job))
        threads = sum(each.threads for each in (*others, job))
        return threads <= self.cores and (self.memory is None or memory <= 0.9 * self.memory)

    def _devices(self, job: Job) -> dict[str, float] | None:
        """The GPUs that the cell would get, with the share of each; None when they are not free.

        As many cells as ``workers`` says share them in turn, where the sweep does not say what a cell gets.
        """
        if job.gpus is None and self.workers and self.free:
            freest = max(self.free, key=lambda name: self.free[name])
            return {freest: 1 / -(-self.workers // len(self.free))}
        wanted = 1.0 if job.gpus is None else job.gpus
        if wanted <= 0 or not self.free:
            return {}
        share = min(wanted, 1.0)
        fit = [name for name, left in self.free.items() if left >= share - 1e-9]
        count = min(max(1, int(wanted)), len(self.free))
        return dict.fromkeys(fit[:count], share) if len(fit) >= count else None

    def start(self, job: Job) -> None:
        """Start a worker for a cell; what it writes to standard error goes to the cell's log."""
        devices = self._devices(job) or {}
        environment = {**os.environ, **dict.fromkeys(THREADS, str(job.threads))}
        if self.free:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
        # the very same modules that this process would import, wherever they come from
        code = f"import sys; sys.path[:] = {sys.path!r}; from rote_bench.sweep.work import main; main()"
        job.folder.mkdir(parents=True, exist_ok=True)
        with (job.folder / LOG).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment
            )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once, which its exit code will say
            pickle.dump(job, process.stdin)
            process.stdin.flush()  # and stays open: it closes when this process ends, whatever way
        for name, share in devices.items():
            self.free[name] -= share
        self.running[job.folder] = _Worker(job, process, devices)

    def ended(self, seconds: float) -> list[tuple[Job, Outcome]]:
        """Cells whose worker has ended, after waiting so long at most."""
        until = time.monotonic() + seconds
        while not (over := [w for w in self.running.values() if w.process.poll() is not None]):
            if time.monotonic() >= until:
                return []
            time.sleep(0.05)
        return [(worker.job, self._close(worker)) for worker in over]

    def _close(self, worker: _Worker) -> Outcome:
        del self.running[worker.job.folder]
        for name, share in worker.devices.items():
            self.free[name] += share
        process = worker.process
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        with process.stdout:
            said = process.stdout.read()
        try:
            return Outcome(**{**json.loads(said), "exit_code": process.returncode})
        except ValueError:
            return Outcome("failed", _death(process.returncode), process.returncode, lost=True)

    def stop(self) -> None:
        """Ask all workers to save their state and end."""
        for worker in self.running.values():
            worker.process.terminate()

    def kill(self) -> None:
        """End all workers at once."""
        for worker in self.running.values():
            worker.process.kill()

    def close(self) -> None:
        """Leave nothing behind."""
        self.kill()
        for worker in list(self.running.values()):
            worker.process.wait()
            self._close(worker)


def _death(code: int) -> str:
    """How a process ended that did not say so itself."""
    if code >= 0:
        return f"its process ended with exit code {code} before it had a report"
    name = signal.Signals(-code).name if -code in signal.Signals._value2member_map_ else f"signal {-code}"
    memory = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
    return f"its process was ended by {name}{memory}"


def visible_devices(device: str) -> Sequence[str]:
    """The names of the GPUs that workers can be given, as CUDA_VISIBLE_DEVICES holds them."""
    if device not in ("auto", "cuda"):
        return ()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]
