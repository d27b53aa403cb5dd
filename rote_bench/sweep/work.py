"""What a worker does: run cells, say how far they are, hand back what became of each. Executors call ``perform``."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, Any, NoReturn

from ..errors import UserError
from ..machine import forget_peak, hand_back, keep_memory
from ..pipeline import interrupts
from ..pipeline.lock import alone
from ..progress import Progress
from ..strangers import contained, leave, reason_of
from ..training.curve import Evaluation
from .cells import Job

if TYPE_CHECKING:
    from ..plugins import Registry
    from ..report.record import Report

LOG = "run.log"
PROGRESS = ".progress.json"
PATIENCE = 60.0  # seconds that a cell waits for another process to let go of its folder, and that an orphan has to stop
EXIT_CODES = {"done": 0, "failed": 1, "interrupted": 130}


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
        state: ``done``, ``failed`` or ``interrupted``.
        reason: None when done.
        lost: the process ended without a word.
        others: what became of the others of its stack.
    """

    state: str
    reason: str | None = None
    exit_code: int | None = None
    lost: bool = False
    others: tuple[Outcome, ...] = ()

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Outcome:
        """From what JSON held."""
        return cls(**{**values, "others": tuple(cls.read(each) for each in values["others"])})


class Reported(Progress):
    """Progress in the cell's log, and in a small file that the sweep looks at.

    Args:
        log: where messages go instead of standard error.
    """

    def __init__(self, folder: Path, *, log: Path | None = None) -> None:
        super().__init__()
        self.log = log
        self.live, self.bar = False, None
        self.every = 10.0
        self.file = folder / PROGRESS
        self._written = -1e9
        self._began = time.monotonic()
        self._expected: float | None = None

    def expect(self, seconds: float, text: str) -> None:
        super().expect(seconds, text)
        self._expected = time.monotonic() - self._began + seconds

    def stage(self, name: str) -> None:
        super().stage(name)
        self._write({"stage": name})

    def step(self, done: int, total: int, point: Evaluation | None = None) -> None:
        super().step(done, total, point)
        if time.monotonic() - self._written >= 0.5:
            self._write({"stage": self._last_stage, "step": done, "steps": total})

    def _line(self, text: str) -> None:
        if self.log is None:
            super()._line(text)
        else:  # one of several cells of this process, whose messages are its own
            with contextlib.suppress(OSError), self.log.open("a", encoding="utf-8") as file:
                file.write(f"{text}\n")

    def _write(self, content: Mapping[str, Any]) -> None:
        self._written = time.monotonic()
        partial = self.file.with_suffix(".partial")
        said = content if self._expected is None else {**content, "expected": self._expected}
        with contextlib.suppress(OSError):  # the cell goes on, also where nobody can be told
            partial.write_text(json.dumps(said), encoding="utf-8")
            os.replace(partial, self.file)


def perform(job: Job, *, forks: bool = False) -> Outcome:
    """Run a cell in this process, which is left as it was; whatever happens to the cell is an outcome.

    Args:
        forks: as ``Settings.forks``.
    """
    from ..pipeline.process import undisturbed
    from ..pipeline.request import recall
    from ..pipeline.runner import run_cell

    keep_memory()
    if job.others:
        first, *others = _perform_stack(job, forks)
        return replace(first, others=tuple(others))
    try:
        twin = _twin(job)
        with alone(job.folder, PATIENCE):  # one that a killed sweep left soon ends by itself
            registry, progress = _registry(job.plugins), Reported(job.folder)

            def known(run: Callable[..., Report | None]) -> bool:
                settings = replace(job.settings, forks=forks)
                given = {"settings": settings, "registry": registry, "progress": progress, "twin": twin}
                return run(job.spec, job.model, job.rate, **given) is not None

            if not known(recall):
                with undisturbed():
                    known(run_cell)
    except (KeyboardInterrupt, Exception) as error:  # the sweep goes on
        return _broken(error, job)
    finally:
        (job.folder / PROGRESS).unlink(missing_ok=True)
    return Outcome("done")


def _perform_stack(job: Job, forks: bool) -> list[Outcome]:
    """Run cells as one in this process; each has an outcome of its own, and its messages go to its own log."""
    from ..pipeline.process import undisturbed
    from ..pipeline.stack import Wanted, run_stack

    outcomes: dict[Path, Outcome] = {}
    wanted: list[tuple[Job, Wanted]] = []
    try:
        with ExitStack() as held:
            for cell in job.cells:
                try:
                    held.enter_context(alone(cell.folder, PATIENCE))
                    twin = _twin(cell)
                except UserError as error:
                    outcomes[cell.folder] = _broken(error, cell)
                    continue
                progress = Reported(cell.folder, log=cell.folder / LOG)
                settings = replace(cell.settings, forks=forks)
                wanted.append((cell, Wanted(cell.spec, cell.model, cell.rate, settings, progress, twin)))
            with undisturbed(), contained():
                found = run_stack([each for _, each in wanted], _registry(job.plugins), share=job.gpus or 1.0)
            for (cell, _), result in zip(wanted, found, strict=True):
                outcomes[cell.folder] = _broken(result, cell) if isinstance(result, Exception) else Outcome("done")
    except (KeyboardInterrupt, Exception) as error:  # of all that have no outcome yet
        for cell in job.cells:
            outcomes.setdefault(cell.folder, _broken(error, cell))
    finally:
        for cell in job.cells:
            (cell.folder / PROGRESS).unlink(missing_ok=True)
    ordered = [outcomes[cell.folder] for cell in job.cells]
    return [replace(each, exit_code=EXIT_CODES[each.state]) for each in ordered]


def _twin(job: Job) -> Report | None:
    """The report of a cell's twin, where there is one; one that failed serves no cell.

    Raises:
        UserError: when there is none, and the cell cannot be run without.
    """
    from ..report.write import load_report

    if job.twin is None:
        return None
    try:
        report = load_report(job.twin)
    except UserError:
        if job.bound:
            raise
        return None
    return report if job.bound or report.status == "success" else None


def _broken(error: BaseException, job: Job) -> Outcome:
    """What became of a cell that an error ended; its log says where that happened, but for a user's mistake."""
    if isinstance(error, KeyboardInterrupt):
        return Outcome("interrupted", f"interrupted; {str(error) or 'the same command goes on from here'}")
    if isinstance(error, UserError):
        return Outcome("failed", str(error))
    with (job.folder / LOG).open("a", encoding="utf-8") as log:
        log.writelines(traceback.format_exception(error))
    return Outcome("failed", reason_of(error))


@lru_cache(maxsize=1)
def _registry(plugins: tuple[str, ...]) -> Registry:
    """Plugins, loaded once in a process: what they register elsewhere cannot be registered twice."""
    from ..plugins import load

    return load(plugins)


class _Stop:
    """SIGTERM interrupts the cell that runs, and keeps later ones from beginning."""

    def __init__(self) -> None:
        self.asked = False
        self.running = False

    def __call__(self, number: int, frame: Any) -> None:
        self.asked = True
        interrupts.note(number)  # for where something swallows what is raised here
        if self.running:
            self.running = False  # so that no second interrupt hits what heeds the first
            raise KeyboardInterrupt


def send(job: Job, stream: IO[bytes]) -> None:
    """Hand a job to a worker, through its standard input."""
    content = pickle.dumps(job)
    stream.write(b"%d\n" % len(content) + content)
    stream.flush()


def _receive(stream: IO[bytes], jobs: SimpleQueue[bytes | None]) -> None:
    """Queue what is sent, until the other end is closed: by a sweep that needs no more cells, or by one that is gone.

    A cell that runs then is stopped as by an interrupt.
    """
    while header := stream.readline():
        jobs.put(stream.read(int(header)))
    jobs.put(None)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    leave(EXIT_CODES["interrupted"])


def _next(job: Job, stop: _Stop) -> Outcome:
    """Run the next cell of this worker; all that is written on the way goes to the cell's log."""
    log = os.open(job.folder / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(log, 1)  # whatever a plugin prints belongs into the log
    os.dup2(log, 2)
    if log not in (1, 2):  # which a plugin may have closed
        os.close(log)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    forget_peak()
    signal.signal(signal.SIGTERM, stop)
    outcome = Outcome("interrupted", "interrupted before it began")
    try:
        stop.running = True
        if not stop.asked:
            outcome = perform(job, forks=True)
        stop.running = False
    except KeyboardInterrupt:  # between the lines of this function
        pass
    hand_back()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    return outcome


def main() -> NoReturn:
    """A worker process: jobs come through standard input one after the other, outcomes go to standard output.

    The terminal's interrupt reaches every process of the sweep; only the sweep itself heeds it, and tells its workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupts.own()
    stop = _Stop()
    signal.signal(signal.SIGTERM, stop)
    jobs: SimpleQueue[bytes | None] = SimpleQueue()
    with open(os.devnull, "rb") as nothing:  # jobs are not for those who read standard input
        source = os.fdopen(os.dup(0), "rb")
        os.dup2(nothing.fileno(), 0)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    threading.Thread(target=_receive, args=(source, jobs), daemon=True).start()
    while (content := jobs.get()) is not None:
        outcome = _next(pickle.loads(content), stop)  # from the process that started this one
        json.dump(asdict(outcome) | {"exit_code": EXIT_CODES[outcome.state]}, answers)
        answers.write("\n")
        answers.flush()
    leave(0)  # the listening thread holds standard input, which an orderly exit waits for
