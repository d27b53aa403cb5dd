"""Cells in processes of this machine, as many at a time as its cores, memory and GPUs hold.

A process that has done a cell takes the next one where it is what a new one would be: started with the same
environment, plugins and code. One in which a cell failed takes no more.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from ..machine import count_cores, memory_at_hand
from ..pipeline.forks import death
from .cells import Job
from .stacks import even
from .work import LOG, Outcome, send

# every library that starts threads of its own has its own name for how many
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


LAST_WORDS = 5.0  # seconds that a worker has to end once it is told, and that its pipe has once it has ended


@dataclass
class _Worker:
    """A process that runs one cell after the other.

    Attributes:
        fits: what it was started with, which a cell that it can take needs too.
        answers: what it says of each cell, a line that a thread of this process reads.
    """

    process: subprocess.Popen[bytes]
    fits: tuple[Any, ...]
    answers: SimpleQueue[bytes] = field(default_factory=SimpleQueue)

    def __post_init__(self) -> None:
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as said:
            for line in said:
                self.answers.put(line)

    @property
    def over(self) -> bool:
        """Whether its cell has ended, with an answer or with the process."""
        return not self.answers.empty() or self.process.poll() is not None

    def take(self, job: Job) -> None:
        """Begin with a cell.

        Raises:
            BrokenPipeError: when the process is gone.
        """
        assert self.process.stdin is not None
        send(job, self.process.stdin)

    def outcome(self) -> Outcome:
        """What became of its cell."""
        if self.answers.empty():
            self.process.wait()
            self.listener.join(LAST_WORDS)  # what was said last may still be on its way
        try:
            return Outcome.read(json.loads(self.answers.get_nowait()))
        except (Empty, ValueError):
            self.end()
            code = self.process.returncode
            return Outcome("failed", f"{death(code)} before it had a report", code, lost=True)

    def end(self) -> None:
        """Close its standard input, upon which it ends."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(LAST_WORDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass(frozen=True)
class _Running:
    job: Job
    worker: _Worker
    devices: Mapping[str, float]


class Local:
    """Worker processes of this machine.

    Args:
        workers: how many at a time; None as many as fit.
        code: files whose change calls for new processes, as each cell is run by the code that is there when it starts.

    Attributes:
        started: processes so far.
    """

    def __init__(self, *, workers: int | None, device: str, code: Iterable[Path] = ()) -> None:
        self.workers = workers
        self.code = tuple(code)
        self.started = 0
        self.cores = count_cores()
        self.memory = memory_at_hand()
        self.free = dict.fromkeys(visible_devices(device), 1.0)
        self.running: dict[Path, _Running] = {}
        self.idle: list[_Worker] = []

    def stacks(self, count: int) -> int:
        """How many of so many cells one process trains as one at most: a processor gains nothing by it."""
        return even(count, self.workers or len(self.free)) if self.free else 1

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
        others = [each.job for each in self.running.values()]
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
        """Hand a cell to a worker; what is written to standard error on the way goes to the cell's log."""
        devices = self._devices(job) or {}
        environment = {**os.environ, **dict.fromkeys(THREADS, str(job.threads))}
        if self.free:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
        job.folder.mkdir(parents=True, exist_ok=True)
        fits = (environment, job.plugins, _stamps((*self.code, *map(Path, job.plugins))))
        sent = replace(job, gpus=min(devices.values())) if devices else job
        worker = self._hand(sent, environment, fits)
        for name, share in devices.items():
            self.free[name] -= share
        self.running[job.folder] = _Running(job, worker, devices)

    def _hand(self, job: Job, environment: Mapping[str, str], fits: tuple[Any, ...]) -> _Worker:
        """The worker that has the job now: an idle one, or a new one in place of those idle ones that do not fit."""
        while worker := next((each for each in self.idle if each.fits == fits), None):
            self.idle.remove(worker)
            try:
                worker.take(job)
            except BrokenPipeError:  # it died while it had nothing to do
                worker.end()
            else:
                return worker
        self._end_idle()
        worker = self._new(job, environment, fits)
        with contextlib.suppress(BrokenPipeError):  # it died at once, which its exit code will say
            worker.take(job)
        return worker

    def _new(self, job: Job, environment: Mapping[str, str], fits: tuple[Any, ...]) -> _Worker:
        # the very same modules that this process would import, wherever they come from
        code = f"import sys; sys.path[:] = {sys.path!r}; from rote_bench.sweep.work import main; main()"
        with (job.folder / LOG).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment
            )
        self.started += 1
        return _Worker(process, fits)

    def ended(self, seconds: float) -> list[tuple[Job, Outcome]]:
        """Cells that have ended, after waiting so long at most."""
        until = time.monotonic() + seconds
        while not (over := [each for each in self.running.values() if each.worker.over]):
            if time.monotonic() >= until:
                return []
            time.sleep(0.05)
        return [(each.job, self._close(each)) for each in over]

    def _close(self, each: _Running) -> Outcome:
        """What became of a cell, once its worker is ready for another or has ended."""
        del self.running[each.job.folder]
        for name, share in each.devices.items():
            self.free[name] += share
        outcome = each.worker.outcome()
        fine = all(one.state == "done" for one in (outcome, *outcome.others))
        if fine and not each.job.settings.compile:  # compiled steps of many models crowd each other
            self.idle.append(each.worker)
        else:
            each.worker.end()
        return outcome

    def _end_idle(self) -> None:
        while self.idle:
            self.idle.pop().end()

    def stop(self) -> None:
        """Ask all workers to save their state and end."""
        for each in self.running.values():
            each.worker.process.terminate()

    def kill(self) -> None:
        """End all workers at once."""
        for each in self.running.values():
            each.worker.process.kill()

    def close(self) -> None:
        """Leave nothing behind."""
        self.kill()
        for each in list(self.running.values()):
            each.worker.process.wait()
            self._close(each)
        self._end_idle()


def _stamps(files: Iterable[Path]) -> tuple[Any, ...]:
    """What tells whether files have changed: their times and sizes."""
    found = []
    for file in files:
        with contextlib.suppress(OSError):  # one that is gone differs by missing
            known = file.stat()
            found.append((file, known.st_mtime_ns, known.st_size))
    return tuple(found)


def visible_devices(device: str) -> Sequence[str]:
    """The names of the GPUs that workers can be given, as CUDA_VISIBLE_DEVICES holds them."""
    if device not in ("auto", "cuda"):
        return ()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]
