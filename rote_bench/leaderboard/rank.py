"""Seeds are brought together, models are ranked as far as they can be told apart, and two models are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations

import numpy as np

from ..contrasts import ALPHA, FEWEST, across_seeds, family, permutation, rank_intervals, smallest_p, welch
from ..findings import ACROSS, NO_TWIN, noise_transfer, transfer, with_twins
from ..findings.several import SOLVED as LEAST
from ..measures import SHARE, Measure
from ..plain import JsonObject
from ..report.table import aggregate
from ..statistics import Estimate, Known, minus, times, within
from .entry import Entry

TWIN_ACCURACY, MEMORISED = 0.99, 0.95
TRANSFER, TWIN = ACROSS
RANKING = TRANSFER.name
GATES = {TWIN.name: TWIN_ACCURACY, "counterfactual_memorization": MEMORISED}
RULE = (
    "Models are ranked within a task and a noise rate by noise_transfer, the part of a held-out answer that each wrong"
    " label costs: (error at the noise rate - error at noise rate 0) / noise rate, over pairs of runs with the same"
    " data, init and order seeds and the same learning rate at every step. Lower is better. A model's rank is an"
    " interval: from 1 + the models that are significantly lower to all but those that are significantly higher, over"
    f" all pairs together at {ALPHA:.0%}. Models whose intervals overlap are not ordered. A model is ranked only where"
    f" memorization is matched: its runs at noise rate 0 reach {TWIN_ACCURACY:g} held-out accuracy, and at the noise"
    f" rate its counterfactual memorization reaches {MEMORISED:g}, both as the mean over at least {FEWEST} seeds, and"
    f" no run stays below {LEAST:g} in either."
    " Nothing else is ranked, and there is no composite score."
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
        model: what the board calls it.
        cells: its reports, one for each set of seeds.
        twins: the same model's reports at noise rate 0.
        metrics: name -> estimate and everything that is said about it.
        transfers: seed -> that of the pair of a run and its twin.
        ranks: the lowest and the highest rank that it may have, None where it is not ranked.
        reason: why it is not ranked.
    """

    model: str
    rate: float
    cells: Sequence[Entry]
    twins: Sequence[Entry]
    failed: int = 0
    metrics: dict[str, Number] = field(default_factory=dict)
    transfers: dict[str, float] = field(default_factory=dict)
    marks: list[str] = field(default_factory=list)
    ranks: tuple[int, int] | None = None
    reason: str | None = None

    def value(self, metric: str) -> float | None:
        """The value of a metric, None where there is none."""
        found = self.metrics.get(metric)
        return None if found is None else found.value

    def by_seed(self, metric: str) -> dict[str, float]:
        """Seed -> the value of a metric, of the seeds that have one; none of a metric that the row has no value of."""
        if self.value(metric) is None:
            return {}
        if metric == RANKING:
            return self.transfers
        found = {cell.seed: cell.report.value(metric) for cell in self.cells}
        return {seed: value for seed, value in found.items() if value is not None}


def half_width(metric: Known | None) -> float | None:
    """Half the width of a cell's own interval over examples."""
    if metric is None or metric.ci_low is None or metric.ci_high is None:
        return None
    return float(metric.ci_high - metric.ci_low) / 2


def measure(row: Row, measures: Mapping[str, Measure], asked: Mapping[str, frozenset[str]] | None = None) -> None:
    """Every metric over the row's seeds, ``noise_transfer`` among them, and whether the row may be ranked.

    Args:
        asked: path of a cell -> the diagnostics that were planned for it, where that was said before it was run: then
            those cells alone have to know what a diagnostic measures. None asks all of them.
    """
    by = {metric: diagnostic for cell in row.cells for metric, diagnostic in cell.report.measured_by().items()}
    for name in sorted({name for cell in row.cells for name in cell.report.metrics}):
        planned = [c for c in row.cells if asked is None or name not in by or by[name] in asked[c.path]]
        found = [cell.report.metrics.get(name) for cell in planned or row.cells]
        known, over = measures.get(name), aggregate(found)
        if known is not None and known.bounds is not None:
            over = within(over, known.bounds)
        declared = known or next(metric for metric in found if metric is not None)
        row.metrics[name] = Number.of(over, list(map(half_width, found)), declared.higher_is_better)
    if row.rate == 0:
        row.reason = "noise rate 0: the runs that those with wrong labels are compared with"
        return
    _transfer(row)
    row.reason = _barrier(row)


def _transfer(row: Row) -> None:
    """``noise_transfer`` and the accuracy of the twins behind it, and a mark for every seed that misses a gate."""
    cells, accuracy = [cell.report for cell in row.cells], "validation_accuracy"
    pairs = with_twins(cells, [twin.report for twin in row.twins])
    matched = list({id(twin): twin for _, twin in pairs}.values())
    costs = [times(minus(twin.metrics[accuracy], cell.metrics[accuracy]), 1 / row.rate) for cell, twin in pairs]
    row.transfers = {cell.seeds.label: transfer(cell, twin) for cell, twin in pairs}
    row.metrics[RANKING] = Number.of(
        noise_transfer(cells, matched), list(map(half_width, costs)), TRANSFER.higher_is_better
    )
    known = [value for twin in matched if (value := twin.value(accuracy)) is not None]
    of_twins = within(across_seeds(known), SHARE) if known else Estimate.missing(NO_TWIN)
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


_NO_TWIN = "no run at noise rate 0 with the same data, init and order seeds"


def _barrier(row: Row) -> str | None:
    """Why a row is not ranked: the first gate that it misses, or a number without which there is no rank."""
    twin, memorised = row.value(TWIN.name), row.value("counterfactual_memorization")
    if twin is None:
        return _NO_TWIN
    if twin < TWIN_ACCURACY:
        return f"the task is not solved: held-out accuracy {twin:.3f} at noise rate 0, below {TWIN_ACCURACY:g}"
    if memorised is None:
        return "memorization is not known for every seed"
    if memorised < MEMORISED:
        return f"the noise is not memorised: counterfactual memorization {memorised:.3f}, below {MEMORISED:g}"
    if row.value(RANKING) is None:
        return f"incomplete: {RANKING} is not known: {row.metrics[RANKING].reason_if_null}"
    if len(row.transfers) < FEWEST:
        return f"{len(row.transfers)} seeds with a twin; a rank needs {FEWEST}"
    return None


@dataclass(frozen=True)
class Comparison:
    """Two ranked models of a noise rate, whose seeds are not paired.

    Attributes:
        seeds_first, seeds_second: how many each has.
        difference: mean of first minus second, with Welch's interval.
        p: two-sided, of this pair alone, by dealing its seeds anew.
        p_family: Welch's, corrected over all pairs of the noise rate; ranks hang on it.
        p_smallest: how small p could have been with so many seeds.
    """

    noise_rate: float
    first: str
    second: str
    metric: str
    seeds_first: int
    seeds_second: int
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    p: float | None
    p_family: float | None
    p_smallest: float | None

    def entry(self) -> JsonObject:
        """As JSON."""
        return asdict(self)


def rank(rows: Sequence[Row]) -> list[Comparison]:
    """Rank intervals within each noise rate, and the comparison of every two models behind them."""
    out = []
    for rate in sorted({row.rate for row in rows}):
        members = [row for row in rows if row.rate == rate and row.reason is None]
        members.sort(key=lambda row: (row.value(RANKING) or 0.0, row.model))
        values = [list(row.transfers.values()) for row in members]
        p = family(values)
        for row, ranks in zip(members, rank_intervals([float(np.mean(each)) for each in values], p), strict=True):
            row.ranks = ranks
        for i, j in combinations(range(len(members)), 2):
            gap, seeds = welch(values[i], values[j]), (len(values[i]), len(values[j]))
            alone = permutation(values[i], values[j], np.random.default_rng(0))
            numbers = (gap.value, gap.ci_low, gap.ci_high, alone, float(p[i, j]), smallest_p(*seeds))
            names = members[i].model, members[j].model
            out.append(Comparison(rate, *names, RANKING, *seeds, *map(rounded, numbers)))
    return out
