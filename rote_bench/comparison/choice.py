"""From what trials came to, to a recipe for each model: two choices, by rules that never see a wrong answer's price.

The first is made of trials without wrong labels, by the accuracy on the selection split and the steps that learning
took; the second of trials with wrong labels, by the steps that memorising took. Accuracy on held-out questions, which
the comparison ranks by, is read by neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from ..spec.model import Recipe
from .rules import Tuning

NOT_LEARNED = "not learned within the budget"
NOT_MEMORISED = "not memorised within the budget, by the fastest recipes"


@dataclass(frozen=True)
class Learned:
    """What a trial without wrong labels came to.

    Attributes:
        right, asked: questions of the selection split at the last evaluation; none where training broke off.
        settled: the step at which accuracy there first reached ``hold_until`` at the full rate; None where it did not.
    """

    right: int
    asked: int
    settled: int | None

    @property
    def accuracy(self) -> float:
        """The share that was right."""
        return self.right / self.asked if self.asked else 0.0


@dataclass(frozen=True)
class Row:
    """A configuration in the table of one model's tuning.

    Attributes:
        selection_accuracy: mean over seeds, of the first round.
        standard_error: of that mean.
        settled: for each tuning seed the step at which it had learned the task, or None.
        settle: the step from which the rate falls, for all later cells; None where a seed did not learn.
        steps: of all training with that.
        finalist: whether it reached the second round.
        memorised_at: for each tuning seed the step at which enough wrong labels were memorised, or None; None in all
            where there was no second round.
        chosen: whether the model's cells are trained so.
    """

    configuration: str
    selection_accuracy: float
    standard_error: float
    settled: tuple[int | None, ...]
    settle: int | None = None
    steps: int | None = None
    finalist: bool = False
    memorised_at: tuple[int | None, ...] | None = None
    chosen: bool = False


@dataclass(frozen=True)
class Choice:
    """What the tuning of one model came to.

    Attributes:
        table: every configuration, in the order of the file.
        reason: why none was chosen; None where one was.
    """

    table: tuple[Row, ...]
    reason: str | None

    @property
    def row(self) -> Row | None:
        """The configuration that was chosen."""
        return next((row for row in self.table if row.chosen), None)


def standard_error(trials: Sequence[Learned]) -> float:
    """Of the mean accuracy: that of all questions together, or that over the seeds where it is larger.

    The first counts two questions more right of four more asked (Agresti and Coull, 1998), so that perfect trials have
    one too: what one wrong answer among all of theirs costs lies within it.
    """
    right, asked = sum(each.right for each in trials), sum(each.asked for each in trials)
    share = (right + 2) / (asked + 4)
    questions = math.sqrt(share * (1 - share) / (asked + 4))
    values = [each.accuracy for each in trials]
    seeds = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return max(questions, seeds)


def settle_step(slowest: int, margin: float, recipe: Recipe) -> int:
    """The step from which the rate falls: so many times that of the slowest seed, in what the budget leaves.

    It is never before the end of the warmup, before which no rate falls.
    """
    step = math.ceil(round(margin * slowest, 6))
    return max(recipe.schedule.warmup, min(step, recipe.max_steps - recipe.schedule.anneal))


def first_choice(
    tuning: Tuning, recipes: Mapping[str, Recipe], trials: Mapping[str, Sequence[Learned]]
) -> tuple[Row, ...]:
    """Which configurations reach the second round.

    Of those of which every seed learned the task, those within one standard error of the most accurate; of these the
    fastest, by all steps of a training.

    Args:
        recipes: configuration -> its recipe.
        trials: configuration -> its trials, in the order of ``tuning.seeds``.
    """
    rows = [_row(name, recipes[name], trials[name], tuning.margin) for name in tuning.configurations]
    eligible = [row for row in rows if row.settle is not None]
    if not eligible:
        return tuple(rows)
    best = max(eligible, key=lambda row: row.selection_accuracy)  # the first of equals
    near = [row for row in eligible if row.selection_accuracy >= best.selection_accuracy - best.standard_error]
    fastest = sorted(near, key=_slowness)[: tuning.finalists]  # keeps the file's order among equals
    names = {row.configuration for row in fastest}
    return tuple(replace(row, finalist=row.configuration in names) for row in rows)


def _slowness(row: Row) -> tuple[int, int]:
    """All steps of a training; of those that the budget cuts to as many, the step at which the slowest seed learned."""
    return row.steps or 0, max(step or 0 for step in row.settled)


def _row(name: str, recipe: Recipe, trials: Sequence[Learned], margin: float) -> Row:
    settled = tuple(each.settled for each in trials)
    row = Row(name, fmean(each.accuracy for each in trials), standard_error(trials), settled)
    known = [step for step in settled if step is not None]
    if len(known) < len(settled):
        return row
    settle = settle_step(max(known), margin, recipe)
    return replace(row, settle=settle, steps=settle + recipe.schedule.anneal)


def second_choice(rows: Sequence[Row], memorised: Mapping[str, Sequence[int | None]]) -> Choice:
    """Which finalist trains the model's cells: the one that memorises in the fewest steps, all seeds of it.

    Args:
        rows: of ``first_choice``.
        memorised: finalist -> for each tuning seed the step at which enough wrong labels were memorised, or None.
    """
    table = [replace(row, memorised_at=tuple(memorised[row.configuration])) if row.finalist else row for row in rows]
    able = [row for row in table if row.memorised_at and None not in row.memorised_at]
    if not able:
        return Choice(tuple(table), NOT_MEMORISED if any(row.finalist for row in table) else NOT_LEARNED)
    first = min(able, key=lambda row: sum(step or 0 for step in row.memorised_at or ()))  # the first of equals
    return Choice(tuple(replace(row, chosen=row is first) for row in table), None)
