"""A cell and its twin, the same cell without wrong labels: which is trained first, and what the other takes over."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import TYPE_CHECKING

from ..errors import UserError
from ..hashing import canonical
from ..report.record import Report, Schedule
from ..report.schedules import equal_schedules

if TYPE_CHECKING:
    from ..plugins import Registry
    from ..spec.model import TaskSpec
    from .settings import Settings

OF_SCHEDULE = frozenset({"schedule.settle", "schedule.step", "schedule.twin"})


def waits(spec: TaskSpec, rate: float, settings: Settings) -> bool:
    """Whether a cell's learning rate falls when its twin's did, where there is one."""
    return rate > 0 and settings.train and not isinstance(spec.training.schedule.settle, int)


def compares_twin(spec: TaskSpec, registry: Registry) -> bool:
    """Whether a diagnostic of a task compares a cell with its twin."""
    table = registry.table("diagnostics")
    return any(getattr(table[each.name], "compares_twin", False) for each in spec.diagnostics)


def twins_first(
    cells: Sequence[tuple[TaskSpec, float]], settings: Settings, *, also: bool = False
) -> list[tuple[TaskSpec, float]]:
    """The cells of one task in the order in which they are run: those at noise rate 0 first.

    Args:
        also: those of all seeds, where they were not asked for.

    Raises:
        UserError: when there is nothing that could have a twin.
    """
    if also and not settings.train:
        raise UserError("a model that is not trained has no twin", where="--twin", hint="leave out --no-train")
    if also and not any(rate for _, rate in cells):
        raise UserError("the cell at noise rate 0 is the twin itself", where="--twin", hint="name another --noise-rate")
    wanted = also or any(
        waits(spec, rate, settings) and spec.training.schedule.settle == "twin" for spec, rate in cells
    )
    twins = {spec.seeds: (spec, 0.0) for spec, rate in cells if wanted or rate == 0}
    return [*twins.values(), *((spec, rate) for spec, rate in cells if rate)]


def all_but_labels(spec: TaskSpec, model: str) -> Hashable:
    """What a cell and its twin share."""
    seeds = spec.seeds
    same = (spec.name, spec.profile, spec.content_hash(), spec.training, canonical(dict(spec.model)))
    return (*same, model, seeds.data, seeds.init, seeds.order)


def schedule_of(spec: TaskSpec, rate: float, settings: Settings, twin: Report | None) -> Schedule:
    """How the fall of a cell's learning rate is timed.

    Args:
        twin: the finished report of the cell's twin, where there is one.

    Raises:
        UserError: when it is to fall with that of a twin that there is not.
    """
    settle = spec.training.schedule.settle
    if not settings.train:
        return Schedule(None, None)
    if isinstance(settle, int):
        return Schedule("fixed", None, settle)
    if not waits(spec, rate, settings) or (twin is None and settle == "event"):
        return Schedule("event", None)
    if twin is None:
        raise UserError(
            "the learning rate is to fall when the twin's did, and there is no twin",
            where=spec.place("training.schedule.settle"),
            hint="run the cell with --twin",
        )
    from ..training.schedule import falls_from

    return Schedule("twin", twin.identity.hash, falls_from(spec.training, twin.training.settled_step))


def stands(apart: Collection[str], report: Report, twin: Report | None) -> bool:
    """Whether a report that differs in so much is nevertheless the cell that its twin's schedule makes.

    So it is where its own event fell on its twin's step.
    """
    return twin is not None and set(apart) <= OF_SCHEDULE and equal_schedules(report, twin) is None


def remedy(apart: Collection[str], twin: Report | None) -> str:
    """What makes a report in a cell's place the cell's, or leaves it where it is."""
    elsewhere = "choose another folder with -o, or replace it with --overwrite"
    if twin is None and set(apart) <= OF_SCHEDULE:
        return f"with or without --twin as before; or {elsewhere}"
    if all(each.startswith("diagnostics.") for each in apart):
        return f"--rediagnose measures it anew without training; or {elsewhere}"
    return elsewhere


def told(apart: Collection[str], report: Report, twin: Report | None) -> str:
    """In what a report in a cell's place differs from the cell, in words."""
    more = f" and {len(apart) - 6} more" if len(apart) > 6 else ""
    said = ", ".join(list(apart)[:6]) + more
    why = equal_schedules(report, twin) if twin is not None and set(apart) <= OF_SCHEDULE else None
    return f"{said}: {why}" if why else said
