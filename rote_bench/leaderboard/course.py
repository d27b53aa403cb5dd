"""What a report says of its training, held against its recipe and against its learning curve."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..report.build import MEMORISED
from ..report.conditions import at
from ..report.record import NOT_TRAINED, POST, PRE, Report
from ..spec.model import Recipe
from ..spec.options import OptionFaults, build
from ..training.curve import Evaluation
from ..training.schedule import last_step, settled_at

BEFORE = 0.5  # a snapshot that gives a smaller part of the wrong labels than this precedes memorization


def faults(report: Report, curve: object) -> Iterator[str]:
    """Everything in which they differ.

    Args:
        curve: the evaluations as JSON held them; None where the report keeps none.
    """
    found = report.training
    if report.identity.parts.get("training") is None:
        if found != NOT_TRAINED:
            yield "a training is described, but the recipe has none"
        return
    try:
        recipe: Recipe = build(Recipe, at(report.task.spec, "training"))  # type: ignore[arg-type]
        points = None if curve is None else read(curve)
    except (OptionFaults, TypeError, ValueError) as error:
        yield f"the training cannot be followed: {str(error) or type(error).__name__}"
        return
    size = min(recipe.batch_size, _rows(report, recipe))
    expected: list[tuple[str, object, object]] = [
        ("optimizer", found.optimizer, recipe.optimizer),
        ("effective_batch_size", found.effective_batch_size, size),
        ("examples_seen", found.examples_seen, found.steps * size),
        ("post_memorization snapshot", found.snapshots.get(POST), found.steps),
    ]
    if found.way != "stacked":
        expected.append(("size of the stack", found.stacked, None))
    if recipe.precision != "auto":
        expected.append(("precision", report.environment.precision, recipe.precision))
    expected += _timed(report, recipe)
    if points is not None:
        expected += _followed(report, recipe, points)
    for what, claimed, again in expected:
        if not _same(claimed, again):
            yield f"training: its {what} is {claimed}, but recipe and curve give {again}"
    if not set(found.snapshots) <= {PRE, POST}:
        yield "training: it names a snapshot that no training makes"
    if found.steps > recipe.max_steps:
        yield f"training: it took {found.steps} steps, but max_steps is {recipe.max_steps}"
    if found.tokens_seen % max(1, size) or found.tokens_seen < found.examples_seen:
        yield f"training: {found.tokens_seen} tokens are no whole number of tokens for each of its examples"


def _rows(report: Report, recipe: Recipe) -> int:
    """Training rows of a pass."""
    return report.data.counts.get("train", 0) + report.data.counts.get("facts", 0) * recipe.facts_repeat


def _timed(report: Report, recipe: Recipe) -> Iterator[tuple[str, object, object]]:
    """How the fall of the rate was timed, as the recipe has it."""
    wanted, found = recipe.schedule.settle, report.training.schedule
    if isinstance(wanted, int):
        yield "schedule", (found.settle, found.step, found.twin), ("fixed", wanted, None)
        return
    of_twin = found.settle == "twin"
    yield "schedule", found.settle, "twin" if of_twin else "event"
    yield "step of the twin", found.step is not None, of_twin
    yield "twin", found.twin is not None, of_twin


def read(curve: object) -> list[Evaluation]:
    """The evaluations of a curve, in order of their steps.

    Raises:
        ValueError: when it is none.
    """
    if not isinstance(curve, Sequence) or not curve:
        raise ValueError("it has no learning curve")
    points = [Evaluation.read(point) for point in curve]
    steps = [point.step for point in points]
    if any(not isinstance(step, int) for step in steps) or steps != sorted(set(steps)) or steps[0] < 0:
        raise ValueError("the steps of the learning curve are not in order")
    return points


def _followed(report: Report, recipe: Recipe, curve: Sequence[Evaluation]) -> Iterator[tuple[str, object, object]]:
    """What the curve decides: its name, as claimed, and as it follows."""
    found, last = report.training, curve[-1]
    settled = settled_at(curve, recipe.schedule, found.schedule.step)
    full = (p.step for p in curve if p.memorization_rate is not None and p.memorization_rate >= MEMORISED)
    memorised = next(full, None)
    stopped = recipe.stop_at is not None and (last.memorization_rate or 0.0) >= recipe.stop_at
    yield "number of steps", found.steps, last.step
    yield "settled_step", found.settled_step, settled
    yield "final_rate", found.final_rate, last.lr
    yield "steps_after_98", found.steps_after_98, None if memorised is None else last.step - memorised
    yield "stop_reason", found.stop_reason, "memorized" if stopped else "budget"
    if not stopped:
        yield "number of steps", found.steps, last_step(recipe, settled)
    before = _before(curve, recipe.snapshot_share) if report.kept else None
    yield "pre_memorization snapshot", found.snapshots.get(PRE), before
    rows = _rows(report, recipe)
    for point in curve:
        seen = point.step * (found.effective_batch_size or 0)
        yield f"curve at step {point.step}", point.examples_seen, seen
        yield f"pass at step {point.step}", point.epoch, seen / max(1, rows)


@dataclass(frozen=True)
class _Candidate:
    """A snapshot as training weighs it: what it gives of the true answers beyond the wrong ones, how right it is on the
    selection split, and what it gives of the wrong ones."""

    score: float
    accuracy: float
    memorized: float
    step: int

    def beats(self, other: _Candidate) -> bool:
        return self.score >= other.score and self.accuracy >= other.accuracy and self.memorized <= other.memorized


def _before(curve: Sequence[Evaluation], share: float) -> int | None:
    """The step of the snapshot that precedes memorization: of those that none other beats in every respect."""
    last, kept = curve[-1], list[_Candidate]()
    for point in curve:
        if point.memorization_rate is None:
            continue
        true, accuracy = point.noisy_true_rate or 0.0, point.selection_accuracy or 0.0
        new = _Candidate(true - point.memorization_rate, accuracy, point.memorization_rate, point.step)
        if not any(each.beats(new) for each in kept):
            kept = [*(each for each in kept if not new.beats(each)), new]
    accuracy, memorized = share * (last.selection_accuracy or 0.0), BEFORE * (last.memorization_rate or 0.0)
    eligible = [e for e in kept if e.step < last.step and e.accuracy >= accuracy and e.memorized < memorized]
    return max(eligible, key=lambda each: (each.score, -each.step)).step if eligible else None


def _same(claimed: object, again: object) -> bool:
    if isinstance(claimed, float) and isinstance(again, float | int) and not isinstance(again, bool):
        return math.isclose(claimed, again, rel_tol=1e-9)
    return claimed == again
