"""What reports of trials say for the choice, and which trial or cell a report is of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import UserError
from ..hashing import digest
from ..report.conditions import at
from ..report.record import Report
from ..spec.model import Recipe, TaskSpec
from ..spec.options import OptionFaults, build
from ..training.curve import Evaluation
from ..training.schedule import settled_at
from .choice import Learned
from .rules import CURVES

DIVERGED = "FloatingPointError: "  # how the error of a training begins whose loss was no longer finite


def diverged(report: Report) -> bool:
    """Whether training broke off as its loss was no longer finite, which is what the trial came to."""
    return report.status == "failed" and (report.error or "").startswith(DIVERGED)


def tells(report: Report) -> bool:
    """Whether a report says what its trial came to."""
    return report.status == "success" or diverged(report)


def learned(report: Report) -> Learned:
    """What a trial without wrong labels came to.

    A step counts only while the full rate is held: a model that learns after its budget made the rate fall did not
    settle by itself.

    Raises:
        UserError: when the report does not say.
    """
    if diverged(report):
        return Learned(0, 0, None)
    curve, recipe = _curve(report), _recipe(report)
    asked = min(recipe.evaluation_examples, report.data.counts.get("selection", 0))
    accuracy = curve[-1].selection_accuracy
    if accuracy is None or not asked:
        raise _untold("there were no questions of the selection split")
    step = settled_at(curve, recipe.schedule)
    in_time = step is not None and step <= recipe.max_steps - recipe.schedule.anneal
    return Learned(round(accuracy * asked), asked, step if in_time else None)


def memorised_at(report: Report, level: float) -> int | None:
    """The step at which a trial with wrong labels first gave so many of them; None where it never did.

    Raises:
        UserError: when the report does not say.
    """
    return reached(climb(report), level)


def climb(report: Report) -> tuple[tuple[int, float], ...]:
    """Every step at which a trial gave more of its wrong labels than at any before, with the part that it gave.

    Raises:
        UserError: when the report does not say.
    """
    if diverged(report):
        return ()
    curve, out = _curve(report), list[tuple[int, float]]()
    if curve[-1].memorization_rate is None:
        raise _untold("there were no wrong labels")
    for point in curve:
        part = point.memorization_rate or 0.0
        if not out or part > out[-1][1]:
            out.append((point.step, part))
    return tuple(out)


def reached(climbed: Iterable[tuple[int, float]], level: float) -> int | None:
    """The first step of a climb at such a level or above."""
    return next((step for step, part in climbed if part >= level), None)


def known_at_settle(report: Report) -> float | None:
    """Accuracy on the selection split at the last evaluation at the full learning rate; None where there was none.

    Raises:
        UserError: when the report does not say.
    """
    step = report.training.settled_step
    if diverged(report) or step is None:
        return None
    return [None, *(point.selection_accuracy for point in _curve(report) if point.step <= step)][-1]


def _curve(report: Report) -> list[Evaluation]:
    entry = report.diagnostics.get(CURVES)
    points = None if entry is None or entry.status != "success" else entry.details.get("curve")
    try:
        curve = [Evaluation.read(point) for point in points] if isinstance(points, list | tuple) else []
    except ValueError as error:
        raise _untold(str(error)) from None
    if not curve:
        raise _untold(f"it has no curve of {CURVES}")
    return curve


def _recipe(report: Report) -> Recipe:
    training = at(report.task.spec, "training")
    try:
        return build(Recipe, training if isinstance(training, Mapping) else {})
    except OptionFaults as error:
        raise _untold(str(error)) from None


def _untold(why: str) -> UserError:
    return UserError(f"the report does not say what the trial came to: {why}")


def key_of(spec: TaskSpec, model: str, rate: float) -> str:
    """What a planned trial or cell shares with every report of it: examples, recipe, model, rate and seeds.

    Diagnostics are no part of it.
    """
    plain = spec.resolved()
    return _key(spec.content_hash(), plain, model, rate)


def key_of_report(report: Report) -> str:
    """The same of a report."""
    return _key(report.task.content_hash, report.task.spec, report.model.name, report.data.noise_rate)


def _key(content: str, spec: Mapping[str, Any], model: str, rate: float) -> str:
    parts = {key: spec.get(key) for key in ("name", "profile", "model", "training", "seeds")}
    return digest({**parts, "content": content, "model_name": model, "rate": rate + 0.0})
