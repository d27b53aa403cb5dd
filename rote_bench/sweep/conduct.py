"""The sweep itself: hand cells to workers, keep what becomes of each, stop when told to."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..comparison.trials import DIVERGED
from ..pipeline import interrupts, lessons
from ..pipeline.identity import code_of, other_code
from .board import Board, State
from .finished import Finished, Took, predict, report_of, took, usable
from .stacks import gathered
from .work import LOG, PROGRESS, Outcome

if TYPE_CHECKING:
    from ..plugins import Registry
    from ..report.record import Report
    from .cells import Job

TICK = 0.25  # seconds between looks at the workers
LAST_LINES = 10  # of a log, for a cell that died without a report


class Pool(Protocol):
    """Whoever runs cells: ``Local`` or ``Cluster``."""

    def stacks(self, count: int) -> int:
        """How many of so many cells one process trains as one at most, where nobody says how many."""

    def share(self, job: Job) -> float:
        """The part of all its room that a cell takes."""

    def room(self, job: Job) -> bool:
        """Whether a cell can start now."""

    def start(self, job: Job) -> None:
        """Start a cell."""

    def ended(self, seconds: float) -> list[tuple[Job, Outcome]]:
        """Cells that have ended, after waiting so long at most."""

    def stop(self) -> None:
        """Ask all cells to save their state and end."""

    def kill(self) -> None:
        """End all cells at once."""

    def close(self) -> None:
        """Leave nothing behind."""


def conduct(
    jobs: Sequence[Job],
    open_pool: Callable[[], Pool],
    board: Board,
    registry: Registry,
    record: Callable[[Sequence[State]], object],
    *,
    stack: int | None = 1,
    further: Callable[[Sequence[State]], Sequence[Job]] | None = None,
) -> list[State]:
    """Run all cells that are not done yet.

    Args:
        open_pool: called when there is something to run.
        record: keeps the states, called whenever one changes.
        further: more cells, planned by how those before have ended; asked whenever one has.
        stack: cells that one process trains as one at most; None leaves that to the pool.

    Raises:
        KeyboardInterrupt: after all workers have stopped; the same sweep goes on from there.
    """
    states, waiting, by_folder = list[State](), list[State](), dict[Path, State]()
    known, foreseen = list[Took](), list[Took]()

    def add(new: Sequence[Job]) -> None:
        """Take in cells, and those that can be planned as some of them are done already."""
        while new:
            added = [State(job) for job in new]
            known.extend(look_back(added, board, registry, known))
            states.extend(added)
            by_folder.update((each.job.folder, each) for each in added)
            waiting.extend(each for each in added if each.state == "waiting")
            new = further(states) if further else ()

    add(jobs or (further(states) if further else ()))
    record(states)
    if not waiting:
        return states
    pool = open_pool()
    share: dict[str, float] = {}

    def following() -> Job | None:
        """The first cell that need not wait for its twin, with those that are trained as one with it."""
        ready = [each.job for each in waiting if _ready(each.job, by_folder)]
        if not ready:
            return None
        return gathered(ready[0], ready, pool.stacks(len(ready)) if stack is None else stack)

    try:
        with _interrupts() as heard:
            told, predicted_from = 0, (0, 0, 0)
            while waiting or any(each.state == "running" for each in states):
                for _ in heard[told:]:  # the first asks the workers to stop, the second ends them
                    told += 1
                    (pool.stop if told == 1 else pool.kill)()
                while not heard and (job := following()) and pool.room(job):
                    begun = [by_folder[cell.folder] for cell in job.cells]
                    waiting[:] = [each for each in waiting if each not in begun]
                    _start(job, begun, pool, board)
                if heard and not any(each.state == "running" for each in states):
                    break
                for job, outcome in _of_each(pool.ended(TICK)):
                    each = by_folder[job.folder]
                    if told and outcome.lost:  # it was told to stop before it could listen, or did not
                        outcome = replace(outcome, state="interrupted", reason="ended by the interrupt")
                    _end(each, outcome, known)
                    board.changed(each)
                    if each.state != "done" and not told:
                        _leave_out(each, waiting, board)
                    if further and not told:
                        add(further(states))
                    record(states)
                for each in states:
                    if each.state == "running" and (seconds := _look(each)) is not None:
                        foreseen.append(Took.of(each.job, seconds))
                learned = (len(states), len(known), len(foreseen))
                if learned != predicted_from:  # for each of many cells it reads all that are known
                    predicted_from = learned
                    for each in states:
                        if each.state in ("waiting", "running"):
                            each.predicted = predict(each.job, known) or predict(each.job, foreseen)
                share.update((each.job.name, pool.share(each.job)) for each in states[len(share) :])
                board.show(states, share)
            if heard:
                raise KeyboardInterrupt(_kept(states))
    finally:
        pool.close()
        record(states)
    return states


def look_back(states: Sequence[State], board: Board, registry: Registry, earlier: Sequence[Took] = ()) -> list[Took]:
    """Find out which cells are done, and what they took.

    Args:
        earlier: what others took, by which those that are not done are foretold too.
    """
    finished, known = Finished(registry), list[Took]()
    done: dict[Path, Report] = {}
    for each in sorted(states, key=lambda each: each.job.twin is not None):
        report = report_of(each.job)
        if report is None or not usable(each.job, report):
            continue
        spent = took(each.job, report)
        known += [spent] if report.status == "success" else []
        twin = done.get(each.job.twin) if each.job.twin is not None else None
        if finished(each.job, report, twin):
            done[each.job.folder] = report
            each.state, each.skipped, each.seconds = "done", True, spent.seconds
            each.reason = report.error
            board.changed(each)
            changed = other_code(code_of(each.job.spec, registry), report.identity.code)
            if changed:
                board.say(f"{each.job.name}: made by other code of the same versions, in {', '.join(changed[:6])}")
    for each in states:
        each.predicted = predict(each.job, [*earlier, *known])
    return known


def _ready(job: Job, by_folder: Mapping[Path, State]) -> bool:
    """Whether a cell need not wait for its twin."""
    if job.twin is None:
        return True
    return by_folder[job.twin].state in (("done",) if job.bound else ("done", "failed"))


def _of_each(ended: Sequence[tuple[Job, Outcome]]) -> Iterator[tuple[Job, Outcome]]:
    """What became of every cell; all of a stack whose process ended without a word share its outcome."""
    for job, outcome in ended:
        yield from zip(job.cells, (outcome, *(outcome.others or (outcome,) * len(job.others))), strict=True)


def _leave_out(twin: State, waiting: list[State], board: Board) -> None:
    """Take out the cells whose twin did not come to its end: there is no schedule that they could take over."""
    for each in [each for each in waiting if each.job.twin == twin.job.folder and each.job.bound]:
        waiting.remove(each)
        each.state, each.reason = twin.state, f"not run: its twin {twin.job.name} {twin.state}"
        board.changed(each)


def _kept(states: Sequence[State]) -> str:
    """What an interrupted sweep leaves, in words."""
    done = sum(each.state == "done" for each in states)
    begun = sum((each.job.folder / lessons.STATE).is_file() for each in states if each.state != "done")
    trained = f" and {begun} keep the state of their training" if begun else ""
    return f"{done} of {len(states)} cells are done{trained}; the same command goes on from there"


def _start(job: Job, begun: Sequence[State], pool: Pool, board: Board) -> None:
    for each in begun:
        (each.job.folder / PROGRESS).unlink(missing_ok=True)  # of a worker that was killed
        each.state, each.where, each.since = "running", "", time.monotonic()
    pool.start(job)
    for each in begun:
        board.changed(each)


def _look(each: State) -> float | None:
    """What a running cell is doing, by the small file that it writes.

    Returns:
        The seconds that it expects to take in all, once when it has timed its first steps.
    """
    try:
        said = json.loads((each.job.folder / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it has not begun, or has just ended
        return None
    each.where = said["stage"] + (f" {said['step']}/{said['steps']}" if "step" in said else "")
    new = each.expected is None
    each.expected = said.get("expected")
    return each.expected if new else None


def _end(each: State, outcome: Outcome, known: list[Took]) -> None:
    each.state, each.reason, each.exit_code = outcome.state, outcome.reason, outcome.exit_code
    each.where = ""
    if each.since is not None:
        each.seconds = time.monotonic() - each.since
    if each.job.round and (outcome.reason or "").startswith(DIVERGED):
        each.state = "done"  # which is what the trial came to
    if each.state == "done":
        report = report_of(each.job)
        if report is None:
            each.state, each.reason = "failed", "it left no report"
        else:
            spent = took(each.job, report)
            each.seconds = spent.seconds
            known += [spent] if report.status == "success" else []  # one that diverged says nothing of others
    if each.state == "failed":
        each.log = _last_lines(each.job.folder / LOG)


def _last_lines(log: Path) -> list[str]:
    try:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    except OSError:  # the worker died before it had a log
        return []


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Interrupts that have arrived; nothing is done about them here."""
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield seen
        return

    def note(number: int, frame: Any) -> None:
        seen.append(number)
        interrupts.note(number)

    previous = {each: signal.signal(each, note) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)
