"""Whether two cells were trained by the same schedule, step for step: only then do their labels alone differ."""

from __future__ import annotations

from collections.abc import Mapping

from .conditions import MOST_SHOWN, at, differing, flat
from .record import Report

TIMING = "schedule.settle"  # how a recipe times the fall, which counts only by the step that comes of it
ROUNDING = 1e-12


def equal_schedules(report: Report, twin: Report) -> str | None:
    """None where two cells had the same learning rate at every step and as many steps, else why not, in words."""
    recipes = [flat(at(each.identity.parts, "training")) for each in (report, twin)]
    apart = [name for name in differing(recipes) if name != TIMING]
    if apart:
        return f"the recipes differ in {', '.join(apart[:MOST_SHOWN])}"
    if at(report.identity.parts, "training", "stop_at") is not None:
        return "training.stop_at ends cells before their schedule does; set it to null to compare them"
    mine, other = falls_from(report), falls_from(twin)
    if mine != other:
        return f"the learning rates fell from steps {mine} and {other}"
    if report.training.steps != twin.training.steps:
        return f"they were trained for {report.training.steps} and {twin.training.steps} steps"
    rates, of_twin = _rates(report), _rates(twin)
    moved = [step for step in sorted(rates.keys() & of_twin.keys()) if abs(rates[step] - of_twin[step]) > ROUNDING]
    if moved:
        return f"the learning rates differ at step {moved[0]}"
    last = [each.training.final_rate or 0.0 for each in (report, twin)]
    return "the learning rates differ at the last step" if abs(last[0] - last[1]) > ROUNDING else None


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
