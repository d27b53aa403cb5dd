"""What a published comparison came to, in three sentences that fixed rules make of its numbers.

Nobody words a result: equal numbers give equal sentences, whomever they please. Where the order of the models follows
something dull, a caution says so, and stands first wherever the sentences are shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..contrasts import ALPHA, power
from ..findings.several import BENIGN
from ..measures import words
from ..plain import JsonObject
from ..report.table import fixed
from .causes import CAUSES, followed
from .planned import NOT_APART
from .rank import RANKING, Comparison, Row

NAME = words(RANKING)


def sentences(
    rows: Iterable[Row],
    comparisons: Sequence[Comparison],
    contrasts: Iterable[Mapping[str, object]],
    causes: Sequence[Mapping[str, object]],
    left_out: Iterable[tuple[str, str]] = (),
) -> JsonObject:
    """Result, certainty and caution; the last is None where there is nothing to beware of.

    Args:
        rows: of one noise rate above 0, ranked.
        comparisons: of every two ranked models of that rate.
        contrasts: that were planned, decided.
        left_out: models without cells, and why they have none.
    """
    rows = list(rows)
    ranked = sorted((row for row in rows if row.ranks is not None), key=lambda row: (row.value(RANKING), row.model))
    unranked = [f"{model}: {reason}" for model, reason in left_out]
    unranked += [f"{row.model}: {row.reason}" for row in rows if row.ranks is None]
    aside = [f"Not ranked: {'; '.join(unranked)}."] if unranked else []
    return {
        "result": " ".join([_result(ranked, comparisons), *_benign(ranked), *aside]),
        "certainty": " ".join([*_certainty(ranked, comparisons), *map(_contrast, contrasts)]),
        "caution": _caution(causes),
    }


def _result(ranked: Sequence[Row], comparisons: Sequence[Comparison]) -> str:
    if not ranked:
        return "No model can be ranked."
    first, last = ranked[0], ranked[-1]
    where = f"With {_percent(first.rate)} of the labels wrong"
    if len(ranked) == 1:
        return f"{where} {first.model} alone can be ranked; its {NAME} is {_number(first)}."
    widest = next(c for c in comparisons if (c.first, c.second) == (first.model, last.model))
    if not any(map(_told_apart, comparisons)):
        return (
            f"{where} no two of {len(ranked)} models can be told apart in {NAME}: it lies between {_number(first)}"
            f" ({first.model}) and {_number(last)} ({last.model}), which differ by {_gap(widest)}."
        )
    higher = [c.second for c in comparisons if c.first == first.model and _told_apart(c)]
    level = [row.model for row in ranked[1:] if row.model not in higher]
    if not level:
        said = f"{where} {first.model} has the least {NAME}, {_number(first)}: every other model has more."
    elif not higher:
        said = f"{where} {first.model} has the least {NAME} on average, {_number(first)}, but no model is told from it."
    else:
        more = f"{_listed(higher)} {'has' if len(higher) == 1 else 'have'} more"
        said = (
            f"{where} {first.model} has the least {NAME} on average, {_number(first)}; it cannot be told from"
            f" {_listed(level)}, and {more}."
        )
    if not _told_apart(widest):
        return f"{said} The last, {last.model}, lies {_gap(widest)} above the first, which does not tell the two apart."
    return f"{said} The last, {last.model}, has {_gap(widest)} more than the first."


def _benign(ranked: Sequence[Row]) -> list[str]:
    """For which of the ranked models the whole interval lies where memorization counts as benign, and for which not."""
    if not ranked:
        return []
    where: dict[str, list[str]] = {"below": [], "at or above": [], "on both sides of": []}
    for row in ranked:
        low, high = row.metrics[RANKING].ci_low, row.metrics[RANKING].ci_high
        side = "on both sides of"
        if low is not None and high is not None and (high < BENIGN or low >= BENIGN):
            side = "below" if high < BENIGN else "at or above"
        where[side].append(row.model)
    told = [f"{side} it for {_listed(models)}" for side, models in where.items() if models]
    return [f"Memorization counts as benign below {BENIGN:g}: the interval lies {', '.join(told)}."]


def _certainty(ranked: Sequence[Row], comparisons: Sequence[Comparison]) -> list[str]:
    if len(ranked) < 2:
        return ["Nothing is compared."]
    counts = sorted({len(row.transfers) for row in ranked})
    seeds = f"{counts[0]} seeds each" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    apart, pairs = sum(map(_told_apart, comparisons)), len(comparisons)
    out = [f"{apart} of {pairs} pairs are told apart, at {_percent(ALPHA)} over all of them together, with {seeds}."]
    spread = math.sqrt(float(np.mean([np.var(list(row.transfers.values()), ddof=1) for row in ranked])))
    seen = power(spread, counts[0], counts[0], pairs)
    if seen is not None:
        told = f"two models {seen:.2f} apart are told apart in 80 of 100 repetitions"
        out.append(f"A seed's standard deviation is {spread:.2f}; with that {told}.")
    return out


def _contrast(one: Mapping[str, object]) -> str:
    """One planned contrast in a sentence."""
    a, b, metric = one["first"], one["second"], words(str(one["metric"]))
    planned = f"Planned, {one['name']}:"
    if one["reason"] is not None:
        return f"{planned} not decided, as {one['reason']}."
    by = _interval(*(_float(one[key]) for key in ("difference", "ci_low", "ci_high")))
    seen = "" if one["visible"] is None else f"; it was to see {_float(one['visible']):.2f}"
    rest = f"{by} ({_p(one['p_holm'])} over all that were planned{seen})"
    if one["verdict"] == NOT_APART:
        return f"{planned} {a} and {b} are not told apart in {metric}, {rest}."
    return f"{planned} {a} has a {one['verdict']} {metric} than {b}, {rest}."


def _caution(causes: Sequence[Mapping[str, object]]) -> str | None:
    found = [
        f"{CAUSES[str(one['cause'])]} (rank correlation {_float(one['rho']):.2f} over {one['models']} models,"
        f" {_p(one['p'])})"
        for one in followed(causes)
    ]
    if not found:
        return None
    return f"The order of the models follows {_listed(found)}, which may explain it as well as what the models are."


def _told_apart(one: Comparison) -> bool:
    return one.p_family is not None and one.p_family <= ALPHA


def _number(row: Row) -> str:
    found = row.metrics[RANKING]
    return _interval(found.value, found.ci_low, found.ci_high)


def _gap(one: Comparison) -> str:
    """Of the second model minus the first, which is the lower."""
    turned = [None if value is None else -value for value in (one.difference, one.ci_high, one.ci_low)]
    return _interval(*turned)


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    assert value is not None  # of a ranked row, and of a contrast that was decided
    if low is None or high is None:
        return fixed(value, 2)
    return f"{fixed(value, 2)} [{fixed(low, 2)}, {fixed(high, 2)}]"


def _percent(rate: float) -> str:
    return f"{100 * rate:g} %"


def _p(value: object) -> str:
    return "p < 0.001" if _float(value) < 0.001 else f"p = {_float(value):.3f}"


def _float(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
