"""What a worker does: run one cell, say how far it is, hand back what became of it. Executors call ``perform``."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from ..errors import UserError
from ..pipeline.lock import alone
from ..progress import Progress
from ..training.curve import Evaluation
from .cells import Job

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
    """

    state: str
    reason: str | None = None
    exit_code: int | None = None
    lost: bool = False


class Reported(Progress):
    """Progress in the cell's log, and in a small file that the sweep looks at."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.live = False
        self.every = 10.0
        self.file = folder / PROGRESS
        self._written = -1e9

    def stage(self, name: str) -> None:
        super().stage(name)
        self._write({"stage": name})

    def step(self, done: int, total: int, point: Evaluation | None = None) -> None:
        super().step(done, total, point)
        if time.monotonic() - self._written >= 0.5:
            self._write({"stage": self._last_stage, "step": done, "steps": total})

    def _write(self, content: Mapping[str, Any]) -> None:
        self._written = time.monotonic()
        partial = self.file.with_suffix(".partial")
        partial.write_text(json.dumps(content), encoding="utf-8")
        os.replace(partial, self.file)


def perform(job: Job) -> Outcome:
    """Run a cell in this process; whatever happens to it is an outcome."""
    from ..machine import keep_memory
    from ..pipeline.runner import run_cell
    from ..plugins import load
    from ..report.write import load_report

    keep_memory()
    try:
        twin = None if job.twin is None else load_report(job.twin)
        with alone(job.folder, PATIENCE):  # one that a killed sweep left soon ends by itself
            run_cell(
                job.spec,
                job.model,
                job.rate,
                settings=job.settings,
                registry=load(job.plugins),
                progress=Reported(job.folder),
                twin=twin,
            )
    except KeyboardInterrupt:
        return Outcome("interrupted", "interrupted; the same command goes on from here")
    except UserError as error:
        return Outcome("failed", str(error))
    except Exception as error:  # the sweep goes on, and the log says where it happened
        traceback.print_exc()
        return Outcome("failed", " ".join(f"{type(error).__name__}: {error}".split()))
    finally:
        (job.folder / PROGRESS).unlink(missing_ok=True)
    return Outcome("done")


def _stop(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _watch_parent() -> None:
    """Stop this process as an interrupt would once the sweep is gone, which closes the other end of standard input."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(EXIT_CODES["interrupted"])


def main() -> NoReturn:
    """A worker process: the job comes through standard input, the outcome goes to standard output.

    The terminal's interrupt reaches every process of the sweep; only the sweep itself heeds it, and tells its workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    answer = os.dup(1)
    os.dup2(2, 1)  # whatever a plugin prints belongs into the log
    outcome = Outcome("interrupted", "interrupted before it began")
    try:
        job: Job = pickle.load(sys.stdin.buffer)  # from the process that started this one
        threading.Thread(target=_watch_parent, daemon=True).start()
        outcome = perform(job)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # too late to stop
    except KeyboardInterrupt:  # between the lines of this function
        pass
    with os.fdopen(answer, "w", encoding="utf-8") as file:
        json.dump(asdict(outcome), file)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_CODES[outcome.state])  # the watching thread holds standard input, which an orderly exit waits for
