"""What came out of a task, in two sentences by fixed rules, where no published comparison says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...report.markup import number
from ..rank import RANKING
from .forest import regime

ALPHA = 0.05
MOST_NAMED = 4
UNSAID: Mapping[str, None] = {"caution": None, "planned": None, "benign": None}  # without a comparison
Row = Mapping[str, Any]


def headline(task: Mapping[str, Any]) -> dict[str, str | None]:
    """The sentences of a published comparison by name, or such as are made of the rows."""
    comparison = task["comparison"]
    if comparison is not None:
        return dict(comparison["sentences"])
    rows = [row for row in task["rows"] if row["noise_rate"] == task["main_rate"] and row["noise_rate"] > 0]
    ranked = [row for row in rows if row["rank_low"] is not None]
    if not rows:
        return {**UNSAID, "result": "No run has wrong labels yet.", "certainty": "Nothing can be said."}
    pairs = [c for c in task["comparisons"] if c["noise_rate"] == task["main_rate"]]
    return {**UNSAID, "result": _result(ranked, rows), "certainty": _certainty(ranked, rows, pairs)}


def names(found: Sequence[str]) -> str:
    """A list of names as a sentence has it, the end of a long one counted."""
    if len(found) > MOST_NAMED:
        return f"{', '.join(found[: MOST_NAMED - 1])} and {len(found) - MOST_NAMED + 1} others"
    return " and ".join(filter(None, (", ".join(found[:-1]), found[-1])))


def _cost(row: Row) -> str:
    value, low, high = (row["metrics"][RANKING][key] for key in ("value", "ci_low", "ci_high"))
    around = "" if low is None else f", 95 % interval {number(low, 2)} to {number(high, 2)}"
    return f"{number(value, 2)}{around}"


def _result(ranked: Sequence[Row], rows: Sequence[Row]) -> str:
    if not ranked:
        return f"No model can be ranked: {len(rows)} were tried, and each has a reason below."
    if len(ranked) == 1:
        return f"One model alone can be ranked: {ranked[0]['model']} loses {_cost(ranked[0])} answers per wrong label."
    first = [row for row in ranked if row["rank_low"] == 1]
    benign = [row["model"] for row in ranked if regime(row["metrics"][RANKING]) == "benign"]
    said = (
        f"Memorising is benign, costing less than 0.1 of an answer per wrong label, for {names(benign)}."
        if benign
        else "For none is memorising known to be benign, costing less than 0.1."
    )
    if len(first) == 1:
        return f"{first[0]['model']} loses least: {_cost(first[0])} of a held-out answer per wrong label. {said}"
    means = [row["metrics"][RANKING]["value"] for row in first]
    spread = f"{number(min(means), 2)} to {number(max(means), 2)} of a held-out answer per wrong label"
    if len(first) == len(ranked):
        return f"No model can be told from every other: the {len(ranked)} ranked lose {spread}. {said}"
    return f"{names([row['model'] for row in first])} lose least, {spread}, and are not ordered. {said}"


def _certainty(ranked: Sequence[Row], rows: Sequence[Row], pairs: Sequence[Mapping[str, Any]]) -> str:
    said = []
    if pairs:
        apart = [c for c in pairs if c["p_family"] is not None and c["p_family"] < ALPHA]
        said.append(f"{len(apart)} of {len(pairs)} pairs of models are told apart at 5 % over all pairs")
        open_ = [c for c in pairs if c not in apart and c["ci_low"] is not None]
        if open_:
            most = max(max(abs(c["ci_low"]), abs(c["ci_high"])) for c in open_)
            said.append(f"two that are not could still differ by {most:.2f}")
    if ranked:
        seeds = sorted({len(row["seeds"]) for row in ranked})
        said.append(f"{seeds[0]} seeds a model" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds a model")
    if len(ranked) < len(rows):
        left = len(rows) - len(ranked)
        said.append(f"{left} {'model is' if left == 1 else 'models are'} not ranked")
    text = "; ".join(said) or "nothing can be said"
    return f"{text[0].upper()}{text[1:]}."
