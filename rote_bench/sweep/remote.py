"""What executors share whose cells run in processes that are not this one's: on a Ray cluster, or in a queue."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..pipeline.lessons import STATE
from .cells import Job
from .local import THREADS
from .work import LOG, Outcome, perform

ATTEMPTS = 3  # of a cell that is lost with its worker, since it last went on
SENT = ("ROTE_BENCH_PLUGINS", "ROTE_BENCH_CACHE", "HF_HUB_OFFLINE", "HF_HOME")  # what workers elsewhere must know too


class Remote(ABC):
    """Cells that run elsewhere, one a process; those that are lost, or had to give way, go on in another one.

    Args:
        workers: how many cells at a time; None as many as fit.

    Attributes:
        running: handle of each cell that was handed on.
    """

    def __init__(self, workers: int | None) -> None:
        self.workers = workers
        self.running: dict[Any, Job] = {}
        self.stopping = False
        self._tries: dict[Path, tuple[int, int]] = {}

    @abstractmethod
    def hand(self, job: Job) -> Any:
        """Hand a cell on, and return what stands for it."""

    @abstractmethod
    def over(self, seconds: float) -> Iterable[Any]:
        """Handles of cells that have ended, after waiting so long at most."""

    @abstractmethod
    def outcome(self, job: Job, handle: Any) -> Outcome:
        """What became of a cell that has ended."""

    def start(self, job: Job) -> None:
        """Hand a cell on."""
        self._tries.setdefault(job.folder, (0, _reached(job)))
        self.running[self.hand(job)] = job

    def ended(self, seconds: float) -> list[tuple[Job, Outcome]]:
        """Cells that have ended, after waiting so long at most; one that can go on is handed on again."""
        out = []
        for handle in self.over(seconds) if self.running else ():
            job = self.running.pop(handle)
            outcome = self.outcome(job, handle)
            if self._again(job, outcome):
                with (job.folder / LOG).open("a", encoding="utf-8") as log:
                    log.write(f"rote-bench: {outcome.reason}; trying again\n")
                self.start(job)
            else:
                out.append((job, outcome))
        return out

    def _again(self, job: Job, outcome: Outcome) -> bool:
        """Whether a cell that did not come to its end is worth another try: it went on, or had few of them."""
        whole = all(not each.lost and each.state != "interrupted" for each in (outcome, *outcome.others))
        if self.stopping or whole:
            return False
        tries, before = self._tries[job.folder]
        reached = _reached(job)
        tries = 1 if reached > before else tries + 1
        self._tries[job.folder] = tries, reached
        return tries < ATTEMPTS


def _reached(job: Job) -> int:
    """When the state of a training was kept last, of a cell or any of its stack; 0 where there is none."""
    states = [cell.folder / STATE for cell in job.cells]
    return max((state.stat().st_mtime_ns for state in states if state.is_file()), default=0)


def around(job: Job) -> dict[str, str]:
    """The part of this process's environment that a worker elsewhere needs."""
    return {name: os.environ[name] for name in SENT if name in os.environ} | dict.fromkeys(THREADS, str(job.threads))


def perform_there(job: Job, environment: Mapping[str, str], folder: str) -> Outcome:
    """``perform`` in a worker that may be on another machine, which sees the same files; it writes to the cell's log.

    Args:
        environment: as ``around`` makes it.
        folder: in which the sweep was started.
    """
    os.environ.update(environment)
    if Path(folder).is_dir():
        os.chdir(folder)
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / LOG).open("ab") as log:
        streams = [(stream, os.dup(stream)) for stream in (1, 2)]
        for stream, _ in streams:
            os.dup2(log.fileno(), stream)
        try:
            return perform(job)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, kept in streams:
                os.dup2(kept, stream)
                os.close(kept)
