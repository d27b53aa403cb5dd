"""Dull causes: whether the order of models follows something that is no part of what they are.

Models of a published comparison have recipes of their own. Where their order by noise transfer is also that of their
learning rates, or of their lengths of training, the comparison cannot say which of the two it shows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import permutations
from statistics import fmean

import numpy as np

from ..contrasts import ALPHA, NEAR
from ..plain import JsonObject
from .rank import RANKING, TWIN, Row, rounded

FEWEST_MODELS, MOST_EXACT = 3, 8
STRONG = 0.7  # a correlation that is said whatever its p
CAUSES: Mapping[str, str] = {
    "peak_rate": "the full learning rate",
    "final_rate": "the learning rate at the end",
    "steps_at_full_rate": "the steps at the full learning rate",
    "steps_after_memorised": "the steps after memorization",
    "accuracy_at_settle": "how well the task was known when the learning rate began to fall",
    "memorised": "how much of the wrong labels was memorised",
    "twin_error": "the error without wrong labels",
    "parameters": "the number of parameters",
}
AS_MANY, AS_MUCH = 1.1, 0.01  # times as many parameters are as many; shares of labels that are as much


def spearman(first: Sequence[float], second: Sequence[float]) -> tuple[float | None, float | None]:
    """The rank correlation of two lists (Spearman, 1904), and its two-sided p.

    p is exact, over all orders of the second list, for up to 8 values; beyond by Student's t with n - 2 degrees of
    freedom. Both are None with fewer than 3 values, and where either list is constant.
    """
    n = len(first)
    if n < FEWEST_MODELS or len(set(first)) == 1 or len(set(second)) == 1:
        return None, None
    from scipy.stats import rankdata, t

    a, b = (rankdata(each) - (n + 1) / 2 for each in (first, second))
    scale = math.sqrt(float(a @ a) * float(b @ b))
    rho = float(a @ b) / scale
    if n <= MOST_EXACT:
        found = np.abs(np.array(list(permutations(b.tolist()))) @ a)
        return rho, float((found >= abs(rho) * scale * (1 - NEAR)).mean())
    if abs(rho) >= 1 - NEAR:
        return rho, 0.0
    return rho, float(2 * t.sf(abs(rho) * math.sqrt((n - 2) / (1 - rho**2)), n - 2))


def peak_rate(row: Row) -> float | None:
    """The full learning rate of a row's recipe; None of what was not trained."""
    recipe = json.loads(row.cells[0].recipe)
    rate = (recipe["training"] or {}).get("learning_rate")
    return None if rate is None else float(rate)


def mean_of(row: Row, name: str) -> float | None:
    """The mean over a row's seeds of what their reports say of the training; None where one does not know it."""
    values = [getattr(cell.report.training, name) for cell in row.cells]
    return None if None in values else fmean(values)


def _of(row: Row) -> dict[str, float | None]:
    solved = row.value(TWIN.name)
    known = [None if cell.trial is None else cell.trial.known for cell in row.cells]
    return {
        "peak_rate": peak_rate(row),
        "final_rate": mean_of(row, "final_rate"),
        "steps_at_full_rate": mean_of(row, "settled_step"),
        # what never memorised so much had no steps after it
        "steps_after_memorised": fmean(cell.report.training.steps_after_98 or 0 for cell in row.cells),
        "accuracy_at_settle": fmean(each for each in known if each is not None) if None not in known else None,
        "memorised": row.value("counterfactual_memorization"),
        "twin_error": None if solved is None else 1 - solved,
        "parameters": fmean(cell.report.model.parameters for cell in row.cells),
    }


def causes(rows: Sequence[Row]) -> list[JsonObject]:
    """Every cause with its rank correlation over the ranked models of one noise rate."""
    ranked = [row for row in rows if row.ranks is not None]
    known = [_of(row) for row in ranked]
    out: list[JsonObject] = []
    for cause in CAUSES:
        pairs = [
            (row.value(RANKING) or 0.0, value)
            for row, of in zip(ranked, known, strict=True)
            if (value := of[cause]) is not None
        ]
        if _alike(cause, [value for _, value in pairs]):
            pairs = [(cost, 1.0) for cost, _ in pairs]
        # what differs by rounding alone is a tie
        rho, p = spearman([rounded(a) or 0.0 for a, _ in pairs], [float(f"{b:.9g}") for _, b in pairs])
        out.append({"cause": cause, "models": len(pairs), "rho": rounded(rho), "p": rounded(p)})
    return out


def _alike(cause: str, values: Sequence[float]) -> bool:
    """Whether the models differ so little in a cause that it could not move their order."""
    if cause == "parameters":
        return bool(values) and max(values) <= AS_MANY * min(values)
    return cause == "memorised" and bool(values) and max(values) - min(values) <= AS_MUCH


def followed(found: Sequence[Mapping[str, object]]) -> list[Mapping[str, object]]:
    """The causes that the order of the models follows, the strongest first.

    The rate at the end is not told beside the full one where both order the models alike, as equal schedules make them.
    """
    strong = [one for one in found if isinstance(one["rho"], float) and (_size(one) >= STRONG or _unlikely(one))]
    peak = next((one["rho"] for one in strong if one["cause"] == "peak_rate"), None)
    strong = [one for one in strong if one["cause"] != "final_rate" or one["rho"] != peak]
    return sorted(strong, key=_size, reverse=True)


def _size(one: Mapping[str, object]) -> float:
    rho = one["rho"]
    return abs(rho) if isinstance(rho, float) else 0.0


def _unlikely(one: Mapping[str, object]) -> bool:
    return isinstance(one["p"], float) and one["p"] <= ALPHA
