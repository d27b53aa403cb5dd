"""Cells on a Ray cluster: one that runs already, or one of this machine's cores for as long as the sweep takes."""

from __future__ import annotations

import os
import secrets
import signal
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..machine import count_cores
from .cells import Job
from .remote import Remote, around, perform_there
from .stacks import even
from .work import Outcome

SHORT = 40  # characters of a folder below which Ray's sockets, some sixty deeper, have names of 107 at most


class Cluster(Remote):
    """Ray tasks, one a cell, each in a process of its own.

    Args:
        workers: how many cells at a time; None as many as fit.
        address: of a running cluster; None starts one here, on the loopback interface.

    Raises:
        UserError: when Ray is not installed, or nothing answers at the address.
    """

    def __init__(self, *, workers: int | None, address: str | None, jobs: list[Job]) -> None:
        if find_spec("ray") is None:
            raise UserError(
                "Ray is not installed",
                where="--executor ray",
                hint="pip install 'reason-to-rote-bench[ray]', or from a checkout pip install -e '.[ray]'",
            )
        super().__init__(workers)
        self.ray, self.ours = _connect(address, max(count_cores(), workers or 0, *(job.threads for job in jobs)))
        try:
            self.cores, self.gpus = _resources(self.ray, jobs)
        except UserError:
            self.close()
            raise

    def share(self, job: Job) -> float:
        """The part of the cluster that a cell takes."""
        return 1 / self.workers if self.workers else min(1.0, job.threads / self.cores)

    def room(self, job: Job) -> bool:
        """Whether the cell can be handed to Ray, which starts it when it has room."""
        if self.workers is not None or not self.running:
            return self.workers is None or len(self.running) < self.workers
        cells = [*self.running.values(), job]
        return sum(c.threads for c in cells) <= self.cores and sum(map(self._gpus, cells)) <= self.gpus

    def _gpus(self, job: Job) -> float:
        if job.gpus is not None:
            return job.gpus
        return 1.0 if self.gpus and job.settings.device != "cpu" else 0.0

    def stacks(self, count: int) -> int:
        """How many of so many cells one process trains as one at most: a processor gains nothing by it."""
        return even(count, self.workers or max(1, int(self.gpus))) if self.gpus else 1

    def hand(self, job: Job) -> Any:
        # a process serves one cell, so that it measures its own memory and harms no other
        task = self.ray.remote(num_cpus=job.threads, num_gpus=self._gpus(job), max_calls=1, max_retries=0)(
            perform_there
        )
        return task.remote(job, around(job), os.getcwd())

    def over(self, seconds: float) -> Iterable[Any]:
        ready, _ = self.ray.wait(list(self.running), num_returns=1, timeout=seconds)
        found: list[Any] = ready
        return found

    def outcome(self, job: Job, handle: Any) -> Outcome:
        errors = self.ray.exceptions
        try:
            outcome: Outcome = self.ray.get(handle)
            return outcome
        except errors.TaskCancelledError:
            return Outcome("interrupted", "interrupted; the same command goes on from here")
        except errors.RayTaskError as error:  # raised by the task around the cell: a cluster without this package, say
            lines = str(error).strip().splitlines()
            return Outcome("failed", lines[-1] if lines else type(error).__name__)
        except errors.RayError as error:
            first = str(error).strip().splitlines()[0]
            return Outcome("failed", f"lost with its worker: {first}", lost=True)

    def stop(self) -> None:
        """Ask all cells to save their state and end; those that have not begun do not."""
        self.stopping = True
        for reference in self.running:
            self.ray.cancel(reference, force=False)

    def kill(self) -> None:
        """End all cells at once."""
        self.stopping = True
        for reference in self.running:
            self.ray.cancel(reference, force=True)

    def close(self) -> None:
        """End what still runs, and the cluster if it was started here."""
        self.kill()
        self.running.clear()
        if self.ours:
            self.ray.shutdown()


def _connect(address: str | None, cores: int) -> tuple[Any, bool]:
    """Ray, connected; and whether it is ours to shut down."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:
        if "RAY_AUTH_MODE" not in os.environ:  # a token of this cluster's own, where Ray would want one in the home
            os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
        # else Ray takes the machine's own address for 127.0.0.1, and listens on all of its interfaces
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    if ray.is_initialized():
        return ray, False
    quiet: Mapping[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    with _own_signals():
        try:
            if address is not None:
                ray.init(address=address, **quiet)
            else:
                # "local", as without it Ray joins the cluster that RAY_ADDRESS names
                here: Mapping[str, Any] = {"address": "local", "_node_ip_address": "127.0.0.1", **_short(quiet)}
                ray.init(num_cpus=cores, include_dashboard=False, **here)
        except (OSError, ValueError, RuntimeError, TimeoutError) as error:
            where = "--address" if address else "--executor ray"
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"no Ray cluster: {said}", where=where) from error
    return ray, True


def _short(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options for a cluster whose sockets have names that the system takes: those of a deep TMPDIR are too long.

    Raises:
        UserError: where no folder has a short name.
    """
    there = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    if len(os.fsencode(there)) <= SHORT:
        return dict(options)
    for folder in (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")):
        if os.access(folder, os.W_OK | os.X_OK):
            return {**options, "_temp_dir": str(folder / f"ray-{os.getuid()}")}
    raise UserError(f"Ray needs a folder with a shorter name than {there}", where="TMPDIR", hint="set TMPDIR to one")


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handlers of this process: Ray puts one of its own in the place of that for SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _resources(ray: Any, jobs: list[Job]) -> tuple[float, float]:
    """Cores and GPUs of the cluster.

    Raises:
        UserError: when a cell asks for more than any machine there has, and would wait for ever.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    threads, gpus = max(job.threads for job in jobs), max(job.gpus or 0.0 for job in jobs)
    if not any(node.get("CPU", 0) >= threads and node.get("GPU", 0) >= gpus for node in nodes):
        raise UserError(
            f"no machine of the cluster has {threads} cores and {gpus:g} GPUs for a cell",
            where="run",
            hint="lower threads_per_cell or gpus_per_cell",
        )
    total = ray.cluster_resources()
    return total.get("CPU", 1.0), total.get("GPU", 0.0)
