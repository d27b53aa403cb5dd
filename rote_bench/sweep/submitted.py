"""Cells as jobs of a queue, SLURM's above all, handed on by submitit.

Jobs outlive the process that submitted them. The next sweep of the same cells takes over those that still wait or run.
A job that has to give way, or whose time is up, keeps the state of its training, and is submitted again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..machine import count_cores
from ..pipeline import interrupts
from ..pipeline.request import surroundings
from .cells import GIB, Job
from .remote import Remote, around, perform_there
from .stacks import even
from .work import LOG, Outcome

FOLDER = ".submitit"  # below the output: what submitit and its jobs tell each other
SEEN = "CUDA_VISIBLE_DEVICES"  # part of what a cell is asked for
LOOK = 1.0  # seconds between looks at all jobs
HOURS = 4  # that a job may take, where nobody says otherwise
LEAST_MEMORY = 4  # GiB
LAST_WORDS = 2000  # characters of what a lost job said


class Queue(Remote):
    """Jobs that submitit hands to SLURM, or where there is none runs here.

    Args:
        workers: how many cells at a time; None leaves that to the queue, and on this machine to its cores.
        options: of submitit's ``AutoExecutor``: ``cluster``, and parameters as ``slurm_partition`` or ``timeout_min``.
        output: the folder of all cells, which the jobs must see too.

    Raises:
        UserError: when submitit is not installed, or does not know an option.
    """

    def __init__(self, *, workers: int | None, options: Mapping[str, Any], output: Path) -> None:
        if find_spec("submitit") is None:
            raise UserError(
                "submitit is not installed",
                where="--executor submitit",
                hint="pip install 'reason-to-rote-bench[submitit]', or from a checkout pip install -e '.[submitit]'",
            )
        import submitit

        super().__init__(workers)
        self.folder, self.options = output / FOLDER, dict(options)
        try:
            self.executor = submitit.AutoExecutor(self.folder, cluster=self.options.pop("cluster", None))
            self.here = self.executor.cluster == "local"
            self.executor.update_parameters(**self.options)
        except (ValueError, NameError, AssertionError, RuntimeError, TypeError) as error:
            raise UserError(f"submitit: {_first(error)}", where="--submitit") from error
        if self.here and workers is None:
            self.workers = count_cores()
        self.refused: list[tuple[Job, Outcome]] = []
        self.accepted = False
        self.looked = -math.inf

    def share(self, job: Job) -> float:
        """The part of the queue that a cell takes."""
        return 1 / self.workers if self.workers else 0.0

    def room(self, job: Job) -> bool:
        """Whether the cell can be submitted; the queue itself starts it when it has room."""
        return self.workers is None or len(self.running) < self.workers

    def stacks(self, count: int) -> int:
        """How many of so many cells one process trains as one at most, where the cells ask for GPUs."""
        gpus = any(int(self.options.get(name) or 0) for name in ("gpus_per_node", "slurm_gpus_per_node"))
        return even(count, self.workers) if self.workers and gpus else 1

    def start(self, job: Job) -> None:
        """Take over the cell's job where it is in the queue already, else submit one."""
        try:
            super().start(job)
        except (subprocess.CalledProcessError, OSError, RuntimeError) as error:
            if not self.accepted:
                raise UserError(f"cannot be submitted: {_first(error)}", where="--executor submitit") from error
            self.refused.append((job, Outcome("failed", f"cannot be submitted: {_first(error)}")))

    def hand(self, job: Job) -> Any:
        known = self._known(job)
        if known is not None:
            self.accepted = True
            return known
        self.executor.update_parameters(**self._parameters(job))
        environment = around(job)
        with _environment(environment):  # which the queue hands on, so that libraries find it when they are loaded
            submitted = self.executor.submit(perform_in_queue, job, environment, os.getcwd())
        self.accepted = True
        self._note(job, submitted.job_id)
        return submitted

    def _parameters(self, job: Job) -> dict[str, Any]:
        """What a job asks the queue for, by submitit's names; what the user says goes first."""
        gpus = math.ceil(job.gpus) if job.gpus is not None else int(job.settings.device.startswith("cuda"))
        more = self.options.get("slurm_additional_parameters") or {}
        return {
            "name": "rote-bench",
            "timeout_min": 60 * HOURS,
            "cpus_per_task": job.threads,
            "mem_gb": max(LEAST_MEMORY, math.ceil(2 * job.memory / GIB)),
            **({"gpus_per_node": gpus} if gpus else {}),
            **self.options,
            # this process submits it again, and SLURM must not do so beside it
            "slurm_additional_parameters": {"no_requeue": True, **more},
        }

    def ended(self, seconds: float) -> list[tuple[Job, Outcome]]:
        refused, self.refused = self.refused, []
        return [*refused, *super().ended(0.0 if refused else seconds)]

    def over(self, seconds: float) -> Iterable[Any]:
        until = time.monotonic() + seconds
        wait = min(self.looked + LOOK, until) - time.monotonic()
        time.sleep(max(0.0, wait))
        if time.monotonic() < self.looked + LOOK:
            return ()
        self.looked = time.monotonic()
        return [each for each in self.running if self._is_over(each)]

    def _is_over(self, submitted: Any) -> bool:
        # submitit takes a job of this machine that it has not started itself for ended
        return bool(submitted.done()) and not (self.here and _runs(submitted.job_id, self.folder))

    def outcome(self, job: Job, handle: Any) -> Outcome:
        try:
            if self.here and not handle.paths.result_pickle.exists():
                raise RuntimeError("it left no result")
            found: Outcome = handle.result()
        except Exception as error:  # what ended without an outcome; submitit says what it knows
            found = self._lost(job, handle, error)
        self._place(job).unlink(missing_ok=True)
        for file in self.folder.glob(f"{handle.job_id}_*"):
            file.unlink(missing_ok=True)
        return found

    def _lost(self, job: Job, handle: Any, error: Exception) -> Outcome:
        """The outcome of a job that has none; what it said last goes to the cell's log."""
        said = (handle.stderr() or "")[-LAST_WORDS:].strip()
        with suppress(OSError), (job.folder / LOG).open("a", encoding="utf-8") as log:
            log.write(f"{said}\n" if said else "")
        why = said.splitlines()[-1] if said else _first(error)
        return Outcome("failed", f"lost with its job {handle.job_id}: {why}", lost=True)

    def _known(self, job: Job) -> Any:
        """The job of a cell that an earlier sweep submitted, if it is of this very cell and not over."""
        try:
            kept = json.loads(self._place(job).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        known = self._of(kept["job"])
        if self._is_over(known):
            return None
        if kept["cell"] == _content(job):
            return known
        self._cancel(known)  # it would write where this one will
        return None

    def _of(self, job_id: str) -> Any:
        import submitit

        kind = submitit.LocalJob if self.here else submitit.SlurmJob
        return kind(self.folder, job_id)

    def _note(self, job: Job, job_id: str) -> None:
        self._place(job).write_text(json.dumps({"job": job_id, "cell": _content(job)}), encoding="utf-8")

    def _place(self, job: Job) -> Path:
        return self.folder / f"{hashlib.sha256(job.name.encode()).hexdigest()[:16]}.json"

    def _cancel(self, submitted: Any, *, at_once: bool = False) -> None:
        """End a job; one that runs may keep its state first."""
        if not self.here:
            with suppress(OSError):
                submitted.cancel(check=False)
            return
        with suppress(OSError):  # its tasks get what the process that started them gets
            os.kill(int(submitted.job_id), signal.SIGINT if at_once else signal.SIGTERM)

    def stop(self) -> None:
        """Ask all cells to save their state and end; those that wait in the queue leave it."""
        self.stopping = True
        for each in self.running:
            self._cancel(each)

    def kill(self) -> None:
        """End all cells at once."""
        self.stopping = True
        for each in self.running:
            self._cancel(each, at_once=True)

    def close(self) -> None:
        """End what still runs."""
        self.kill()
        self.running.clear()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            shutil.rmtree(self.folder, ignore_errors=True)


def perform_in_queue(job: Job, environment: Mapping[str, str], folder: str) -> Outcome:
    """Run a cell in a job; when it is told to end, or that its time is nearly up, it keeps its state and ends."""
    import submitit

    def stop(number: int, frame: Any) -> None:
        again = interrupts.heard()
        interrupts.note(number)
        if not again:
            raise KeyboardInterrupt

    notice = getattr(signal, f"SIG{submitit.JobEnvironment.USR_SIG}")
    told = (signal.SIGTERM, signal.SIGINT)
    interrupts.own()
    for number in told:
        signal.signal(number, stop)
    if not os.environ.get(SEEN) and not surroundings()["machine"]["gpus"]:  # submitit hides what is not there
        os.environ.pop(SEEN, None)
    signal.signal(notice, lambda number, frame: os.kill(os.getpid(), signal.SIGTERM))
    try:
        return perform_there(job, environment, folder)
    except KeyboardInterrupt:  # outside of what heeds it
        return Outcome("interrupted", "interrupted before it began")
    finally:
        for number in (*told, notice):
            signal.signal(number, signal.SIG_IGN)


def _content(job: Job) -> str:
    """What tells whether a job that was submitted is of this very cell."""
    return hashlib.sha256(repr(job).encode()).hexdigest()


def _runs(job_id: str, folder: Path) -> bool:
    """Whether the process of a job of this machine is there, and no other of its number."""
    try:
        return str(folder).encode() in Path(f"/proc/{job_id}/cmdline").read_bytes()
    except OSError:  # it has ended, or this system does not say
        return False


def _first(error: BaseException) -> str:
    """The first line of what is wrong, with what the command itself said."""
    said = getattr(error, "stderr", None) or str(error)
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    lines = text.strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """This process's environment with more in it for a moment."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
