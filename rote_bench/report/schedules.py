"""Whether two cells were trained by the same schedule, step for step: only then do their labels alone differ."""

from __future__ import annotations

from collections.abc import Mapping

from .conditions import MOST_SHOWN, at, differing, flat
from .record import Report

TIMING = "schedule.settle"  # how a recipe times the fall, which counts only by the step that comes of it
ROUNDING = 1e-12


def equal_schedules(report: Report, twin: Report) -> str | None:
    """None where a cell and its twin had the same rate at every step and as many steps, else why not, in words."""
    why = apart(report, twin)
    return None if why is None else f"its schedule is not its twin's: {why}"


def apart(one: Report, other: Report) -> str | None:
    """In what the schedules of two cells differ, in words; None when they are equal step for step."""
    recipes = [flat(at(each.identity.parts, "training")) for each in (one, other)]
    names = [name for name in differing(recipes) if name != TIMING]
    if names:
        return f"the recipes differ in {', '.join(names[:MOST_SHOWN])}"
    if at(one.identity.parts, "training", "stop_at") is not None:
        return "training.stop_at ends cells before it does, and null lets them be compared"
    for what, mine, its in (
        ("the rates fell from steps", falls_from(one), falls_from(other)),
        ("steps", one.training.steps, other.training.steps),
        ("the last rates", one.training.final_rate, other.training.final_rate),
    ):
        if mine != its:
            return f"{what} {mine} and {its}"
    rates, others = _rates(one), _rates(other)
    moved = [step for step in sorted(rates.keys() & others.keys()) if abs(rates[step] - others[step]) > ROUNDING]
    return f"the rates differ at step {moved[0]}" if moved else None


def falls_from(report: Report) -> int | None:
    """The last step at the full learning rate of a cell that was trained to the end of its schedule."""
    settled, anneal = report.training.settled_step, at(report.identity.parts, "training", "schedule", "anneal")
    if not report.training.steps or not isinstance(anneal, int):
        return settled
    latest = report.training.steps - anneal
    return latest if settled is None else min(settled, latest)


def _rates(report: Report) -> Mapping[int, float]:
    """The learning rate at every evaluation, where the report holds the curve."""
    entry = report.diagnostics.get("learning_dynamics")
    curve = at(entry.details, "curve") if entry else None
    return {point["step"]: point["lr"] for point in curve} if isinstance(curve, list) else {}
