"""Seeds are brought together, models are ranked by the published rule, and two models are compared pair by pair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from ..report import compare
from ..report.table import aggregate
from ..statistics import Estimate, across_seeds, holm, paired_differences, sign_flip
from .entry import Entry

TWIN_ACCURACY, MEMORISED = 0.99, 0.95
GATES = {"twin_validation_accuracy": TWIN_ACCURACY, "counterfactual_memorization": MEMORISED}
RANKING, TIES = "noise_transfer", "early_clean_peak"
RULE = (
    "Models are ranked within a task and a noise rate by noise_transfer, the part of a held-out answer that each wrong"
    " label costs: (error at the noise rate - error at noise rate 0) / noise rate, over pairs of runs with the same"
    " data, init and order seeds. Lower is better; ties are broken by early_clean_peak, higher first. A model is"
    f" ranked only where memorization is matched: its runs at noise rate 0 reach {TWIN_ACCURACY:g} held-out accuracy,"
    f" and at the noise rate its counterfactual memorization reaches {MEMORISED:g}, both as the interquartile mean over"
    " seeds. Nothing else is ranked, and there is no composite score."
)
DIGITS = 6


@dataclass
class Row:
    """One model on one task at one noise rate.

    Attributes:
        model: its name, with a part of its setup's hash unless the setup is the model's main one.
        cells: its reports, one for each set of seeds.
        twins: the same model's reports at noise rate 0.
        metrics: name -> estimate and everything that is said about it.
        transfers: (data seed, noise seed) -> ``noise_transfer`` of that pair of runs, for comparisons.
        reason: why it is not ranked.
    """

    model: str
    rate: float
    cells: Sequence[Entry]
    twins: Sequence[Entry]
    failed: int = 0
    other_setup: bool = False
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    transfers: dict[tuple[int, int], float] = field(default_factory=dict)
    marks: list[str] = field(default_factory=list)
    rank: int | None = None
    reason: str | None = None


def rounded(value: float | None) -> float | None:
    """A number as the board holds it, equal wherever it is computed; never a negative zero."""
    return None if value is None else round(float(value), DIGITS) + 0.0


def metric(estimate: Estimate, item: float | None, better: bool | None) -> dict[str, Any]:
    """A metric as the board holds it."""
    return {
        "value": rounded(estimate.value),
        "ci_low": rounded(estimate.ci_low),
        "ci_high": rounded(estimate.ci_high),
        "ci_method": estimate.ci_method,
        "n": estimate.n,
        "item_half_width": rounded(item),
        "higher_is_better": better,
        "reason_if_null": estimate.reason_if_null,
    }


def half_width(entry: Mapping[str, Any] | None) -> float | None:
    """Half the width of a cell's own interval over examples."""
    if entry is None or entry["ci_low"] is None or entry["ci_high"] is None:
        return None
    return float(entry["ci_high"] - entry["ci_low"]) / 2


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean of what is known, None when nothing is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def measure(row: Row) -> None:
    """Every metric over the row's seeds, ``noise_transfer`` among them, and whether the row may be ranked."""
    for name in sorted({name for cell in row.cells for name in cell.metrics}):
        entries = [cell.metric(name) for cell in row.cells]
        better = next((e["higher_is_better"] for e in entries if e is not None), None)
        row.metrics[name] = metric(aggregate(entries), mean_of([half_width(e) for e in entries]), better)
    if row.rate == 0:
        row.reason = "noise rate 0: the runs that those with wrong labels are compared with"
        return
    _transfer(row)
    row.reason = _barrier(row)


def _transfer(row: Row) -> None:
    """``noise_transfer`` and the accuracy of the twins behind it, and a mark for every seed that misses a gate."""
    by_seeds = {compare.twin_key(twin.as_report()): twin for twin in row.twins}
    pairs = [
        (cell, by_seeds[key])
        for cell in row.cells
        if (key := compare.twin_key(cell.as_report())) in by_seeds
        and None not in (cell.value("validation_accuracy"), by_seeds[key].value("validation_accuracy"))
    ]
    matched = list({twin.path: twin for _, twin in pairs}.values())
    transfers: dict[tuple[int, int], list[float]] = {}
    widths: list[float | None] = []
    for cell, twin in pairs:
        value = compare.transfer(cell.as_report(), twin.as_report())
        transfers.setdefault((cell.seeds[0], cell.seeds[1]), []).append(value)
        own, other = (half_width(e.metric("validation_accuracy")) for e in (cell, twin))
        widths.append(None if own is None or other is None else math.hypot(own, other) / row.rate)
    row.transfers = {key: float(np.mean(values)) for key, values in transfers.items()}
    estimate = compare.noise_transfer([c.as_report() for c in row.cells], [t.as_report() for t in matched])
    row.metrics[RANKING] = metric(estimate, mean_of(widths), False)
    accuracies = [t.value("validation_accuracy") for t in matched]
    known = [a for a in accuracies if a is not None]
    twin_accuracy = across_seeds(known, np.random.default_rng(0)) if known else Estimate.missing(_NO_TWIN)
    width = mean_of([half_width(t.metric("validation_accuracy")) for t in matched])
    row.metrics["twin_validation_accuracy"] = metric(twin_accuracy, width, True)
    if known and len(pairs) < len(row.cells):
        row.marks.append(f"only {len(pairs)} of {len(row.cells)} cells have a twin at noise rate 0")
    mixed = [cell.seed for cell, twin in pairs if cell.environment["precision"] != twin.environment["precision"]]
    if mixed:
        row.marks.append(f"trained in another precision than the twin with seed {', '.join(mixed)}")
    low = [t.seed for t in matched if (t.value("validation_accuracy") or 0) < TWIN_ACCURACY]
    weak = [c.seed for c in row.cells if (c.value("counterfactual_memorization") or 0) < MEMORISED]
    if low and len(low) < len(matched):
        row.marks.append(f"the twin misses {TWIN_ACCURACY:g} held-out accuracy with seed {', '.join(low)}")
    if weak and len(weak) < len(row.cells):
        row.marks.append(f"memorization stays below {MEMORISED:g} with seed {', '.join(weak)}")


_NO_TWIN = "no run at noise rate 0 with the same data, init and order seeds"


def _barrier(row: Row) -> str | None:
    """Why a row is not ranked: the first gate that it misses, or a number without which there is no rank."""
    twin = row.metrics["twin_validation_accuracy"]["value"]
    memorised = row.metrics.get("counterfactual_memorization", {}).get("value")
    if twin is None:
        return _NO_TWIN
    if twin < TWIN_ACCURACY:
        return f"the task is not solved: held-out accuracy {twin:.3f} at noise rate 0, below {TWIN_ACCURACY:g}"
    if memorised is None:
        return "memorization is not known for every seed"
    if memorised < MEMORISED:
        return f"the noise is not memorised: counterfactual memorization {memorised:.3f}, below {MEMORISED:g}"
    for name in (RANKING, TIES):
        entry = row.metrics.get(name)
        if entry is None or entry["value"] is None:
            why = f": {entry['reason_if_null']}" if entry is not None else ""
            return f"incomplete: {name} is not known{why}"
    return None


def rank(rows: Sequence[Row]) -> None:
    """Ranks within each noise rate; rows that are equal in both numbers share a rank."""
    by_rate: dict[float, list[tuple[float, float, Row]]] = {}
    for row in rows:
        if row.reason is None:
            key = (row.metrics[RANKING]["value"], -row.metrics[TIES]["value"], row)
            by_rate.setdefault(row.rate, []).append(key)
    for members in by_rate.values():
        order = sorted(key[:2] for key in members)
        for value, tie, row in members:
            row.rank = 1 + order.index((value, tie))


def comparisons(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Every two ranked models of a noise rate, paired by data and noise seed.

    The p-values come from exact sign flips over the pairs and are corrected after Holm over all comparisons of the
    noise rate. Few pairs cannot give a small p: ``p_smallest`` says how small it could have been.
    """
    out: list[dict[str, Any]] = []
    for rate in sorted({row.rate for row in rows}):
        ranked = sorted((r for r in rows if r.rate == rate and r.rank is not None), key=lambda r: (r.rank, r.model))
        found = [_paired(rate, a, b) for a, b in combinations(ranked, 2)]
        by_count: dict[int, list[int]] = {}
        for i, (_, differences) in enumerate(found):
            by_count.setdefault(len(differences), []).append(i)
        p_values: dict[int, float] = {}
        for count, where in by_count.items():
            if count == 0:
                continue
            table = np.array([found[i][1] for i in where])
            flips = sign_flip(table, np.random.default_rng(0))
            for i, e, p in zip(where, paired_differences(table, np.random.default_rng(0)), flips, strict=True):
                found[i][0].update(
                    difference=rounded(e.value), ci_low=rounded(e.ci_low), ci_high=rounded(e.ci_high), p=rounded(p)
                )
                found[i][0]["p_smallest"] = rounded(2.0 / 2**count)
                p_values[i] = float(p)
        for i, adjusted in zip(p_values, holm(list(p_values.values())), strict=True):
            found[i][0]["p_holm"] = rounded(adjusted)
        out += [entry for entry, _ in found]
    return out


def _paired(rate: float, first: Row, second: Row) -> tuple[dict[str, Any], list[float]]:
    shared = sorted(first.transfers.keys() & second.transfers.keys())
    entry = {
        "noise_rate": rate,
        "first": first.model,
        "second": second.model,
        "metric": RANKING,
        "pairs": len(shared),
        **dict.fromkeys(("difference", "ci_low", "ci_high", "p", "p_holm", "p_smallest")),
    }
    return entry, [first.transfers[key] - second.transfers[key] for key in shared]
