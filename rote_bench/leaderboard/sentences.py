"""What a published comparison came to, in a few sentences that fixed rules make of its numbers.

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

ANSWER = "of a held-out answer"


def sentences(
    rows: Iterable[Row],
    comparisons: Sequence[Comparison],
    contrasts: Iterable[Mapping[str, object]],
    causes: Sequence[Mapping[str, object]],
    left_out: Iterable[tuple[str, str]] = (),
) -> JsonObject:
    """What is said of a comparison; None where there is nothing to say.

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
    return {
        "caution": _caution(causes),
        "result": _result(ranked, comparisons),
        "certainty": _certainty(ranked, comparisons),
        "planned": _planned(list(contrasts)),
        "benign": _benign(ranked),
        "left_out": f"Not ranked: {'; '.join(unranked)}." if unranked else None,
    }


def _result(ranked: Sequence[Row], comparisons: Sequence[Comparison]) -> str:
    """Who pays least and who more, in one sentence; it names the fewer and counts the rest."""
    if not ranked:
        return "No model can be ranked."
    first, last = ranked[0], ranked[-1]
    where = f"At {_percent(first.rate)} wrong labels"
    if len(ranked) == 1:
        return f"{where} {first.model} alone can be ranked: a wrong label costs it {_number(first)} {ANSWER}."
    if not any(map(_told_apart, comparisons)):
        return (
            f"{where} no two of {len(ranked)} models can be told apart: a wrong label costs {_mean(first)}"
            f" ({first.model}) to {_mean(last)} ({last.model}) {ANSWER}."
        )
    more = [c.second for c in comparisons if c.first == first.model and _told_apart(c)]
    level = [row.model for row in ranked[1:] if row.model not in more]
    least = f"{where} {first.model} pays least for a wrong label, {_mean(first)} {ANSWER}"
    if not more:
        return f"{least} on average, but no model is told from it."
    most = f", up to {_mean(last)} ({last.model})" if len(more) > 1 else f", {_mean(last)}"
    most = most if last.model in more else ""
    if not level:
        return f"{least}; {'every other model' if len(more) > 1 else more[0]} pays more{most}."
    if len(level) <= len(more):
        pay = f"{more[0]} pays" if len(more) == 1 else f"the other {len(more)} pay"
        return f"{least}; it cannot be told from {_listed(level)}, and {pay} more{most}."
    pay = f"{_listed(more)} {'pays' if len(more) == 1 else 'pay'}"
    return f"{least}; {pay} more{most}, and the other {len(level)} cannot be told from it."


def _benign(ranked: Sequence[Row]) -> str | None:
    """For which of the ranked models the whole interval lies where memorization counts as benign, and for which not."""
    if not ranked:
        return None
    where: dict[str, list[str]] = {"below": [], "at or above": [], "on both sides of": []}
    for row in ranked:
        low, high = row.metrics[RANKING].ci_low, row.metrics[RANKING].ci_high
        side = "on both sides of"
        if low is not None and high is not None and (high < BENIGN or low >= BENIGN):
            side = "below" if high < BENIGN else "at or above"
        where[side].append(row.model)
    told = [
        f"{side} it for {f'all {len(models)}' if len(models) == len(ranked) > 1 else _listed(models)}"
        for side, models in where.items()
        if models
    ]
    return f"Memorization counts as benign below {BENIGN:g}: the interval lies {', '.join(told)}."


def _certainty(ranked: Sequence[Row], comparisons: Sequence[Comparison]) -> str:
    if len(ranked) < 2:
        return "Nothing is compared."
    counts = sorted({len(row.transfers) for row in ranked})
    seeds = f"{counts[0]} seeds each" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    apart, pairs = sum(map(_told_apart, comparisons)), len(comparisons)
    told = f"{apart} of {pairs} pairs are told apart, at {_percent(ALPHA)} over all of them together, with {seeds}"
    spread = math.sqrt(float(np.mean([np.var(list(row.transfers.values()), ddof=1) for row in ranked])))
    seen = power(spread, counts[0], counts[0], pairs)
    if seen is not None:
        told += f"; differences of {seen:.2f} would be seen in 80 of 100 repetitions"
    widest = next(c for c in comparisons if (c.first, c.second) == (ranked[0].model, ranked[-1].model))
    return f"{told}. The first and the last differ by {_gap(widest)}."


def _planned(contrasts: Sequence[Mapping[str, object]]) -> str | None:
    """Which of the planned contrasts came out, in a sentence."""
    if not contrasts:
        return None
    apart = [one for one in contrasts if one["verdict"] != NOT_APART]
    planned = "1 planned contrast" if len(contrasts) == 1 else f"{len(contrasts)} planned contrasts"
    if not apart:
        return f"Of {planned} none is told apart."
    found = [f"{one['first']} {one['verdict']} than {one['second']}{_metric(one)}" for one in apart]
    return f"Of {planned} {len(apart)} {'is' if len(apart) == 1 else 'are'} told apart: {', '.join(found)}."


def _metric(contrast: Mapping[str, object]) -> str:
    """In what the sides of a contrast differ, unless it is that by which models are ranked."""
    return "" if contrast["metric"] == RANKING else f" in {words(str(contrast['metric']))}"


def _caution(causes: Sequence[Mapping[str, object]]) -> str | None:
    found = [CAUSES[str(one["cause"])] for one in followed(causes)]
    if not found:
        return None
    return f"The order of the models follows {_listed(found)}, which may explain it as well as what the models are."


def _told_apart(one: Comparison) -> bool:
    return one.p_family is not None and one.p_family <= ALPHA


def _mean(row: Row) -> str:
    value = row.value(RANKING)
    assert value is not None  # of a ranked row
    return fixed(value, 2)


def _number(row: Row) -> str:
    found = row.metrics[RANKING]
    return _interval(found.value, found.ci_low, found.ci_high)


def _gap(one: Comparison) -> str:
    """Of the second model minus the first, which is the lower."""
    turned = [None if value is None else -value for value in (one.difference, one.ci_high, one.ci_low)]
    return _interval(*turned)


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    assert value is not None  # of ranked rows
    if low is None or high is None:
        return fixed(value, 2)
    return f"{fixed(value, 2)} [{fixed(low, 2)}, {fixed(high, 2)}]"


def _percent(rate: float) -> str:
    return f"{100 * rate:g} %"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
