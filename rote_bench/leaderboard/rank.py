"""Seeds are brought together, models are ranked by the published rule, and two models are compared pair by pair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations

import numpy as np

from ..findings import ACROSS, noise_transfer, transfer, with_twins, without_twin
from ..measures import Measure
from ..plain import JsonObject
from ..report.record import Metric
from ..report.table import aggregate
from ..statistics import Estimate, across_seeds, holm, paired_differences, sign_flip
from .entry import Entry

TWIN_ACCURACY, MEMORISED = 0.99, 0.95
TRANSFER, TWIN = ACROSS
RANKING, TIES = TRANSFER.name, "early_clean_peak"
GATES = {TWIN.name: TWIN_ACCURACY, "counterfactual_memorization": MEMORISED}
RULE = (
    "Models are ranked within a task and a noise rate by noise_transfer, the part of a held-out answer that each wrong"
    " label costs: (error at the noise rate - error at noise rate 0) / noise rate, over pairs of runs with the same"
    " data, init and order seeds. Lower is better; ties are broken by early_clean_peak, higher first. A model is"
    f" ranked only where memorization is matched: its runs at noise rate 0 reach {TWIN_ACCURACY:g} held-out accuracy,"
    f" and at the noise rate its counterfactual memorization reaches {MEMORISED:g}, both as the interquartile mean over"
    " seeds. Nothing else is ranked, and there is no composite score."
)
DIGITS = 6


def rounded(value: float | None) -> float | None:
    """A number as the board holds it, equal wherever it is computed; never a negative zero."""
    return None if value is None else round(float(value), DIGITS) + 0.0


@dataclass(frozen=True)
class Number:
    """A metric over a row's seeds, as the board holds it.

    Attributes:
        item_half_width: mean half width of the cells' own intervals over examples.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    ci_method: str | None
    n: int
    item_half_width: float | None
    higher_is_better: bool | None
    reason_if_null: str | None

    @classmethod
    def of(cls, estimate: Estimate, widths: Sequence[float | None], better: bool | None) -> Number:
        """An estimate over seeds with the half widths of each."""
        known = [width for width in widths if width is not None]
        return cls(
            rounded(estimate.value),
            rounded(estimate.ci_low),
            rounded(estimate.ci_high),
            estimate.ci_method,
            estimate.n,
            rounded(float(np.mean(known))) if known else None,
            better,
            estimate.reason_if_null,
        )


@dataclass
class Row:
    """One model on one task at one noise rate.

    Attributes:
        model: its name, with a part of its setup's hash unless the setup is the model's main one.
        cells: its reports, one for each set of seeds.
        twins: the same model's reports at noise rate 0.
        metrics: name -> estimate and everything that is said about it.
        transfers: (data seed, noise seed) -> the transfer of that pair of runs, for comparisons.
        reason: why it is not ranked.
    """

    model: str
    rate: float
    cells: Sequence[Entry]
    twins: Sequence[Entry]
    failed: int = 0
    other_setup: bool = False
    metrics: dict[str, Number] = field(default_factory=dict)
    transfers: dict[tuple[int, int], float] = field(default_factory=dict)
    marks: list[str] = field(default_factory=list)
    rank: int | None = None
    reason: str | None = None

    def value(self, metric: str) -> float | None:
        """The value of a metric, None where there is none."""
        found = self.metrics.get(metric)
        return None if found is None else found.value


def half_width(metric: Metric | None) -> float | None:
    """Half the width of a cell's own interval over examples."""
    if metric is None or metric.ci_low is None or metric.ci_high is None:
        return None
    return float(metric.ci_high - metric.ci_low) / 2


def measure(row: Row, measures: Mapping[str, Measure]) -> None:
    """Every metric over the row's seeds, ``noise_transfer`` among them, and whether the row may be ranked."""
    for name in sorted({name for cell in row.cells for name in cell.report.metrics}):
        found = [cell.report.metrics.get(name) for cell in row.cells]
        declared = measures.get(name) or next(metric for metric in found if metric is not None)
        row.metrics[name] = Number.of(aggregate(found), list(map(half_width, found)), declared.higher_is_better)
    if row.rate == 0:
        row.reason = "noise rate 0: the runs that those with wrong labels are compared with"
        return
    _transfer(row)
    row.reason = _barrier(row)


def _transfer(row: Row) -> None:
    """``noise_transfer`` and the accuracy of the twins behind it, and a mark for every seed that misses a gate."""
    cells, accuracy = [cell.report for cell in row.cells], "validation_accuracy"
    twins = [twin.report for twin in row.twins]
    pairs = with_twins(cells, twins)
    matched = list({id(twin): twin for _, twin in pairs}.values())
    transfers: dict[tuple[int, int], list[float]] = {}
    widths: list[float | None] = []
    for cell, twin in pairs:
        transfers.setdefault((cell.seeds.data, cell.seeds.noise), []).append(transfer(cell, twin))
        own, other = (half_width(report.metrics[accuracy]) for report in (cell, twin))
        widths.append(None if own is None or other is None else math.hypot(own, other) / row.rate)
    row.transfers = {key: float(np.mean(values)) for key, values in transfers.items()}
    row.metrics[RANKING] = Number.of(noise_transfer(cells, matched or twins), widths, TRANSFER.higher_is_better)
    known = [value for twin in matched if (value := twin.value(accuracy)) is not None]
    missing = Estimate.missing(without_twin(cells, twins))
    of_twins = across_seeds(known, np.random.default_rng(0)) if known else missing
    widths = [half_width(twin.metrics[accuracy]) for twin in matched]
    row.metrics[TWIN.name] = Number.of(of_twins, widths, TWIN.higher_is_better)
    if known and len(pairs) < len(row.cells):
        row.marks.append(f"only {len(pairs)} of {len(row.cells)} cells have a twin at noise rate 0")
    mixed = [c.seeds.label for c, twin in pairs if c.environment.precision != twin.environment.precision]
    if mixed:
        row.marks.append(f"trained in another precision than the twin with seed {', '.join(mixed)}")
    low = [twin.seeds.label for twin in matched if (twin.value(accuracy) or 0) < TWIN_ACCURACY]
    weak = [c.seeds.label for c in cells if (c.value("counterfactual_memorization") or 0) < MEMORISED]
    if low and len(low) < len(matched):
        row.marks.append(f"the twin misses {TWIN_ACCURACY:g} held-out accuracy with seed {', '.join(low)}")
    if weak and len(weak) < len(cells):
        row.marks.append(f"memorization stays below {MEMORISED:g} with seed {', '.join(weak)}")


def _barrier(row: Row) -> str | None:
    """Why a row is not ranked: the first gate that it misses, or a number without which there is no rank."""
    twin, memorised = row.value(TWIN.name), row.value("counterfactual_memorization")
    if twin is None:
        return row.metrics[TWIN.name].reason_if_null
    if twin < TWIN_ACCURACY:
        return f"the task is not solved: held-out accuracy {twin:.3f} at noise rate 0, below {TWIN_ACCURACY:g}"
    if memorised is None:
        return "memorization is not known for every seed"
    if memorised < MEMORISED:
        return f"the noise is not memorised: counterfactual memorization {memorised:.3f}, below {MEMORISED:g}"
    for name in (RANKING, TIES):
        if row.value(name) is None:
            why = f": {row.metrics[name].reason_if_null}" if name in row.metrics else ""
            return f"incomplete: {name} is not known{why}"
    return None


def rank(rows: Sequence[Row]) -> None:
    """Ranks within each noise rate; rows that are equal in both numbers share a rank."""
    by_rate: dict[float, list[tuple[tuple[float, float], Row]]] = {}
    for row in rows:
        first, tie = row.value(RANKING), row.value(TIES)
        if row.reason is None and first is not None and tie is not None:
            by_rate.setdefault(row.rate, []).append(((first, -tie), row))
    for members in by_rate.values():
        order = sorted(key for key, _ in members)
        for key, row in members:
            row.rank = 1 + order.index(key)


@dataclass
class Comparison:
    """Two ranked models of a noise rate, paired by data and noise seed.

    Attributes:
        difference: mean of first minus second.
        p: two-sided, by exact sign flips over the pairs.
        p_holm: corrected over all comparisons of the noise rate.
        p_smallest: how small p could have been with so many pairs.
    """

    noise_rate: float
    first: str
    second: str
    metric: str
    pairs: int
    difference: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    p_smallest: float | None = None

    def entry(self) -> JsonObject:
        """As JSON."""
        return asdict(self)


def comparisons(rows: Sequence[Row]) -> list[Comparison]:
    """Every two ranked models of a noise rate; few pairs cannot give a small p."""
    out: list[Comparison] = []
    for rate in sorted({row.rate for row in rows}):
        ranked = sorted((r for r in rows if r.rate == rate and r.rank is not None), key=lambda r: (r.rank, r.model))
        found: list[Comparison] = []
        by_count: dict[int, list[tuple[int, list[float]]]] = {}
        for a, b in combinations(ranked, 2):
            shared = sorted(a.transfers.keys() & b.transfers.keys())
            differences = [a.transfers[key] - b.transfers[key] for key in shared]
            by_count.setdefault(len(shared), []).append((len(found), differences))
            found.append(Comparison(rate, a.model, b.model, RANKING, len(shared)))
        p_values: dict[int, float] = {}
        for count, members in by_count.items():
            if count == 0:
                continue
            table = np.array([differences for _, differences in members])
            estimates = paired_differences(table, np.random.default_rng(0))
            flips = sign_flip(table, np.random.default_rng(0))
            for (i, _), e, p in zip(members, estimates, flips, strict=True):
                one = found[i]
                one.difference, one.ci_low, one.ci_high = map(rounded, (e.value, e.ci_low, e.ci_high))
                one.p, one.p_smallest = rounded(p), rounded(2.0 / 2**count)
                p_values[i] = float(p)
        for i, adjusted in zip(p_values, holm(list(p_values.values())), strict=True):
            found[i].p_holm = rounded(adjusted)
        out += found
    return out
