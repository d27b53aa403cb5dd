"""The contrasts that a comparison planned before its first cell was trained, decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from ..comparison.rules import Contrast
from ..contrasts import ALPHA, FEWEST, holm, permutation, power, welch
from ..plain import JsonObject
from ..report import escape
from ..statistics import Estimate
from .rank import RANKING, Row, rounded

Rows: TypeAlias = Mapping[tuple[str, str, float], Row]  # task, model as the file has it, noise rate
LOWER, HIGHER, NOT_APART = "lower", "higher", "not told apart"


def contrasts(planned: Sequence[Contrast], rows: Rows) -> list[JsonObject]:
    """What became of every contrast of a comparison, the first side against the second.

    Both sides are taken for independent. The seeds of one model at two noise rates share examples and twins, which
    moves both alike: the test sees a difference too seldom, if anything.

    All planned ones count in the correction, those too that could not be decided.
    """
    sides = [
        [_side(rows.get(at), at[1], called, one.metric) for at, called in zip(one.sides(), one.called(), strict=True)]
        for one in planned
    ]
    p = [None if a.why or b.why else permutation(a.values, b.values, np.random.default_rng(0)) for a, b in sides]
    corrected = holm([1.0 if each is None else each for each in p])
    return [
        _contrast(one, a, b, alone, of_all, len(planned))
        for one, (a, b), alone, of_all in zip(planned, sides, p, corrected, strict=True)
    ]


class Side(NamedTuple):
    """One side of a contrast: the model's name on the board, its seeds' values, and why they cannot be compared."""

    model: str
    called: str
    values: list[float]
    why: str | None


def _side(row: Row | None, model: str, called: str, metric: str) -> Side:
    """One side.

    Args:
        model: as the comparison's file has it; as is the beginning of what the side is called.
    """
    if row is None:
        called = escape.plain(called)
        return Side(escape.plain(model), called, [], f"{called} has no cells")
    called = row.model + escape.plain(called.removeprefix(model))
    values = list(row.by_seed(metric).values())
    why = None
    if metric == RANKING and row.reason is not None:
        why = f"{called} is not ranked ({row.reason})"
    elif len(values) < FEWEST:
        why = f"{metric} of {called} is known for {len(values)} seeds, where {FEWEST} are needed"
    return Side(row.model, called, values, why)


def _contrast(one: Contrast, a: Side, b: Side, p: float | None, corrected: float, planned: int) -> JsonObject:
    gap = Estimate.missing(str(a.why or b.why)) if p is None else welch(a.values, b.values)
    verdict = NOT_APART
    if gap.value is not None and corrected <= ALPHA:
        verdict = LOWER if gap.value < 0 else HIGHER
    seeds = len(a.values), len(b.values)
    numbers = {
        "sd": one.sd,
        "visible": power(one.sd, *seeds, planned) if all(seeds) else None,
        "difference": gap.value,
        "ci_low": gap.ci_low,
        "ci_high": gap.ci_high,
        "p": p,
        "p_holm": None if p is None else corrected,
    }
    return {
        "name": escape.plain(one.name),
        "first": a.called,
        "second": b.called,
        "tasks": [escape.plain(task) for task in one.tasks],
        "models": [a.model, b.model],
        "noise_rates": list(one.noise_rates),
        "metric": one.metric,
        "n": list(seeds),
        **{name: rounded(value) for name, value in numbers.items()},
        "verdict": verdict,
        "reason": gap.reason_if_null,
    }
