"""The one hand-over from a diagnostic to the report, for what is built in and for strangers alike.

A report is read by people who cannot ask what a number means. What a diagnostic returns is therefore held against what
it declared, against how many examples there are, and against what its own details imply, before any of it is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..diagnostics import Details, Diagnostic, Records, Result
from ..measures import NAME, RESERVED, Measure
from ..plain import JsonObject, plain
from ..plugins import FILES
from ..report.build import metric
from ..report.record import Metric
from ..statistics import Estimate
from ..strangers import reason_of

if TYPE_CHECKING:
    from ..subject import Subject

ROUNDING = 1e-9
TOLERANCE = 1e-6  # of a value that is found again from details


class Rejected(Exception):
    """What a diagnostic returned breaks a rule.

    Attributes:
        rule: a word or two for it.
        detail: what was seen.
        mend: what its author should do.
    """

    def __init__(self, rule: str, detail: str, mend: str) -> None:
        super().__init__(rule, detail, mend)
        self.rule, self.detail, self.mend = rule, detail, mend

    def __str__(self) -> str:
        return f"{self.detail}; {self.mend}"


@dataclass(frozen=True)
class Accepted:
    """What a diagnostic gives to the report, found to be sound.

    Attributes:
        metrics: name -> metric.
        details: plain data.
        records: column -> plain values, all columns of one length.
    """

    metrics: Mapping[str, Metric]
    details: JsonObject
    records: Mapping[str, Sequence[object]]


def accept(
    diagnostic: Diagnostic[Any], result: object, subject: Subject, taken: Mapping[str, str] | None = None
) -> Accepted:
    """Check a result and make it plain.

    Args:
        taken: metric -> the other diagnostic of this run that measures it.

    Raises:
        Rejected: for the first rule that it breaks.
    """
    if diagnostic.name in FILES or not NAME.fullmatch(diagnostic.name):
        raise Rejected("name", f"no diagnostic can be called {diagnostic.name!r}", "choose another name")
    if not isinstance(result, Result):
        raise Rejected("result", f"run gives {type(result).__name__}", "return a Result")
    declared = {measure.name: measure for measure in diagnostic.metrics}
    estimates: dict[str, Estimate] = {}
    for name, estimate in result.metrics.items():
        _check_name(name, declared, taken or {})
        estimates[name] = _sound(declared[name], estimate)
    details, records = _details(result.details), _records(result.records)
    most = {"records": len(next(iter(records.values())))} if records else {}
    for name, estimate in estimates.items():
        _check_n(name, estimate.n, most | _held(declared[name], subject))
    _check_implied(diagnostic, estimates, details, records)
    return Accepted({name: metric(declared[name], estimate) for name, estimate in estimates.items()}, details, records)


def agree(claimed: float | None, implied: float | None) -> bool:
    """Whether a claimed value is the implied one, but for rounding."""
    if claimed is None or implied is None:
        return claimed is implied
    return math.isfinite(implied) and abs(claimed - implied) <= TOLERANCE * max(1.0, abs(implied))


def _check_name(name: str, declared: Mapping[str, Measure], taken: Mapping[str, str]) -> None:
    if name in RESERVED:
        raise Rejected("metric names", f"every report has a metric {name}", "choose another name")
    if name in taken:
        raise Rejected("metric names", f"{taken[name]} measures {name} too", "choose another name")
    if name not in declared:
        known = ", ".join(declared) or "none"
        raise Rejected("declared", f"the metric {name!r} is not declared ({known})", "add a Measure to `metrics`")


def _sound(measure: Measure, estimate: object) -> Estimate:
    """The estimate in plain numbers."""
    name = measure.name
    if not isinstance(estimate, Estimate):
        raise Rejected("estimate", f"{name} is a {type(estimate).__name__}", "give an Estimate")
    value, low, high = (_number(name, part) for part in (estimate.value, estimate.ci_low, estimate.ci_high))
    n = plain(estimate.n)
    if not isinstance(n, int) or isinstance(n, bool) or n < 0:
        raise Rejected("n", f"{name} has n = {estimate.n!r}", "give the number of examples that were scored")
    found = replace(estimate, value=value, ci_low=low, ci_high=high, n=n)
    if (low is None) != (high is None) or (low is not None and (value is None or not found.ci_method)):
        raise Rejected("interval", f"that of {name} is half there", "give value, both bounds and ci_method, or none")
    if value is None:
        return found
    if not measure.allows(value):
        raise Rejected("bounds", f"{name} is {value:.6g}, outside {measure.bounds}", "mend the value or the bounds")
    if low is None or high is None:
        if not isinstance(measure.interval, str) and not estimate.reason_if_no_interval:
            raise Rejected("interval", f"{name} has none", "give one, or reason_if_no_interval")
        return found
    # A bootstrap's percentiles can lie beside the value of a statistic that is no mean.
    around = low - ROUNDING <= value <= high + ROUNDING or "bootstrap" in str(found.ci_method)
    if low > high or not around:
        raise Rejected("interval", f"{name} is {value:.6g} in [{low:.6g}, {high:.6g}]", "order the bounds around it")
    return found


def _number(name: str, value: object) -> float | None:
    number = plain(value)
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise Rejected("estimate", f"{name} holds {value!r}", "give numbers")
    return float(number)


def _details(details: object) -> JsonObject:
    try:
        found = plain(details, "details")
    except (TypeError, ValueError) as error:
        raise Rejected("details", str(error), "use plain numbers, text, lists; None for what is not") from error
    if not isinstance(found, dict):
        raise Rejected("details", f"they are a {type(details).__name__}", "give a mapping")
    return found


def _records(records: object) -> dict[str, list[object]]:
    try:
        found = plain(records, "records")
    except (TypeError, ValueError) as error:
        raise Rejected("records", str(error), "use plain numbers, text, lists; None for what is not") from error
    if not isinstance(found, dict) or not all(isinstance(column, list) for column in found.values()):
        raise Rejected("records", "they are no columns", "give a mapping of names to lists")
    lengths = {name: len(column) for name, column in found.items()}
    if len(set(lengths.values())) > 1:
        raise Rejected("records", f"columns have lengths {lengths}", "give one value per example")
    return found


def _held(measure: Measure, subject: Subject) -> dict[str, int]:
    """The words of a measure's split and the examples that there are in it; empty for words of another kind."""
    data = subject.data
    sizes = {
        "validation": len(data.validation),
        "selection": len(data.selection),
        "ood": len(data.ood),
        "train_noisy": len(data.train.noisy),
        "train_clean": len(data.train) - len(data.train.noisy),
    }
    splits = [split.strip() for split in measure.split.split(",")]
    return {measure.split: sum(sizes[split] for split in splits)} if sizes.keys() >= set(splits) else {}


def _check_n(name: str, n: int, most: Mapping[str, int]) -> None:
    for what, count in most.items():
        if n > count:
            raise Rejected("n", f"{name} has n = {n}, but {what} holds {count}", "give how many were scored")


def _check_implied(
    diagnostic: Diagnostic[Any], estimates: Mapping[str, Estimate], details: Details, records: Records
) -> None:
    """Whether the metrics follow from what the report keeps, by the diagnostic's own formula."""
    try:
        implied = diagnostic.implied(details, records)
        for name in estimates.keys() & implied.keys():
            _compare(name, estimates[name], implied[name])
    except Rejected:
        raise
    except Exception as error:  # whatever its author's code raises
        raise Rejected("implied", reason_of(error), "let it read what `run` returns") from error


def _compare(name: str, claimed: Estimate, again: Estimate | float | None) -> None:
    value = again.value if isinstance(again, Estimate) else again
    if not agree(claimed.value, value):
        raise Rejected("implied", f"{name} is {claimed.value}, but its details give {value}", "make both the same")
    if not isinstance(again, Estimate):
        return
    if claimed.n != again.n:
        raise Rejected("implied", f"{name} has n = {claimed.n}, but its details give {again.n}", "make both the same")
    given, found = ((e.ci_low, e.ci_high) for e in (claimed, again))
    if given != found:
        raise Rejected(
            "implied", f"{name} lies in {given}, but its details give {found}", "draw with self.rng(purpose) in both"
        )
