"""What a sweep will take, before any of its cells is run."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..progress import Progress, duration
from .board import Board, State, time_left
from .conduct import look_back
from .finished import report_of

if TYPE_CHECKING:
    from ..pipeline.expect import Expected
    from ..plugins import Registry
    from .cells import Job
    from .conduct import Pool
    from .phases import Phases


def foresee_all(
    jobs: Sequence[Job], pool: Pool, board: Board, registry: Registry, *, phases: Phases | None = None
) -> tuple[dict[str, Expected | None], float]:
    """Time a few steps of one cell for every task and model, with wrong labels and without.

    Args:
        phases: what plans more cells; as far as it cannot yet, they count as they may be.

    Returns:
        The name of each cell -> what it will take, None where it is done; and the seconds until all of them are done,
        as many at a time as the pool runs.
    """
    from ..pipeline.process import undisturbed

    states = planned(jobs, board, registry, phases)
    _compare(states, registry)
    found: dict[str, Expected | None] = {}
    kinds: dict[Hashable, list[State]] = {}
    for each in states:
        found[each.job.name] = None
        if each.state != "done":
            kinds.setdefault((each.job.task, each.job.model, each.job.rate > 0), []).append(each)
    with undisturbed():
        for members in kinds.values():
            expected = _timed([each.job for each in members], board, registry)
            for each in members:
                found[each.job.name], each.predicted = expected, expected.total
    seconds, _ = time_left(states, {job.name: pool.share(job) for job in (each.job for each in states)})
    return found, seconds


def _compare(states: Sequence[State], registry: Registry) -> None:
    """Mark as done what a worker would find to be done: cells of models that have to be made to be compared."""
    from ..pipeline.expect import Expected
    from ..pipeline.runner import foresee

    for each in sorted(states, key=lambda each: each.job.twin is not None):
        job, report = each.job, report_of(each.job)
        if each.state == "done" or job.settings.overwrite or report is None or report.status != "success":
            continue
        twin = None
        if job.twin is not None:
            twin = next((report_of(s.job) for s in states if s.job.folder == job.twin and s.state == "done"), None)
        try:
            found = foresee(
                job.spec,
                job.model,
                job.rate,
                settings=job.settings,
                registry=registry,
                progress=Progress(quiet=True),
                twin=twin,
            )
        except UserError:  # another cell's report is in the way, as the sweep will say
            continue
        if not isinstance(found, Expected):
            each.state, each.skipped = "done", True


def _timed(jobs: Sequence[Job], board: Board, registry: Registry) -> Expected:
    """What cells of a kind take, by the first of them; a trial that diverges leaves that to the next.

    Raises:
        FloatingPointError: when there is no next.
    """
    from ..pipeline.expect import Expected
    from ..pipeline.runner import foresee

    for job in jobs:
        board.say(f"timing {job.name}")
        try:
            expected = foresee(
                job.spec,
                job.model,
                job.rate,
                settings=replace(job.settings, overwrite=True, forks=True),  # whether it is done is known
                registry=registry,
                progress=Progress(quiet=True),
            )
        except FloatingPointError:
            if job is jobs[-1] or not job.round:
                raise
            continue
        assert isinstance(expected, Expected)
        return expected
    raise ValueError("no jobs")


def planned(jobs: Sequence[Job], board: Board, registry: Registry, phases: Phases | None) -> list[State]:
    """The states of all cells, those that are done marked so."""
    states: list[State] = []
    new = jobs or (phases.peek(states) if phases else ())
    while new:
        added = [State(job) for job in new]
        look_back(added, board, registry)
        states += added
        new = phases.peek(states) if phases else ()
    later = [State(job) for job in (phases.later() if phases else ())]
    return [*states, *later]


def plain(found: dict[str, Expected | None], seconds: float) -> dict[str, Any]:
    """As JSON holds it."""
    cells = [{"folder": name, "expected": None if each is None else each.plain()} for name, each in found.items()]
    return {"seconds": round(seconds, 3), "cells": cells}


def table(found: dict[str, Expected | None], seconds: float) -> str:
    """What each cell will take, below its folder, and a line for all."""
    from ..pipeline.expect import entry

    lines = [entry(name, each) for name, each in found.items()]
    left = sum(each is not None for each in found.values())
    return "\n".join(
        [*lines, f"{left} cells to run: about {duration(seconds)}, and some seconds for each process to start"]
    )
