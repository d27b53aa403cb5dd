"""What an interval must be, whoever claims it: around its value, within what can be, and as its method makes it.

An interval decides how much a number says, so that a wide one hides a lie and a narrow one makes a discovery. Those
that follow from a value and its number of examples are made again here; those that need the examples are made again
from the files beside a report; what is left is held within bounds, and otherwise taken on trust.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..measures import SHARE, Measure
from ..statistics import SUPPOSED, Z, unseen_proportion

if TYPE_CHECKING:
    from ..report.record import Metric

ROUNDING = 1e-6
WILSON = "Wilson score"
OVER_DESIGN = f"Wilson score, n over the design effect at correlation {SUPPOSED:g}"
JACKKNIFE = tuple(f"{over} jackknife on the logit scale" for over in ("cluster", "example"))
WIDEST = 1e3  # times the value, or times 1 where that is less: of a measure without bounds, where nothing decides it


def fault(found: Metric, measure: Measure) -> str | None:
    """What is wrong with a metric's interval, as what is said of the metric; None where nothing is."""
    value, low, high, method = found.value, found.ci_low, found.ci_high, found.ci_method
    if value is not None and found.reason_if_null is not None:
        return "has a value, and a reason for none"
    if low is not None and found.reason_if_no_interval is not None:
        return "has an interval, and a reason for none"
    if (low is None) != (high is None):
        return "lacks one end of its interval"
    if low is None or high is None:
        return "names a way of making its interval, and has none" if method is not None else _without(found)
    if value is None:
        return "has an interval, and no value"
    if not method:
        return "does not say how its interval was made"
    if low > high or not _around(value, low, high, method):
        return f"{value:.6g} lies outside its own interval [{low:.4g}, {high:.4g}]"
    if found.n < 1:
        return "has an interval of no examples"
    if measure.bounds is not None:
        least, most = measure.bounds
        if low < least - ROUNDING or high > most + ROUNDING:
            return f"has an interval [{low:.4g}, {high:.4g}] beyond what is possible, [{least:g}, {most:g}]"
    return _of_share(value, low, high, method, found.n) if measure.bounds == SHARE else None


def boundless(found: Metric, measure: Measure) -> str | None:
    """What is wrong with an interval that nothing in the report determines, of a measure without bounds."""
    if found.value is None or found.ci_low is None or found.ci_high is None or measure.bounds is not None:
        return None
    if found.ci_high - found.ci_low > WIDEST * max(1.0, abs(found.value)):
        return f"has an interval [{found.ci_low:.4g}, {found.ci_high:.4g}] that is too wide to say anything"
    return None


def _without(found: Metric) -> str | None:
    if found.value is not None and not found.reason_if_no_interval:
        return "has neither an interval nor a reason for none"
    return None


def _around(value: float, low: float, high: float, method: str) -> bool:
    """Whether an interval holds its value. A bootstrap's percentiles can lie beside the value of a statistic that is no
    mean, but no further than they lie apart."""
    aside = high - low if "bootstrap" in method else ROUNDING
    return low - aside <= value <= high + aside


def _of_share(value: float, low: float, high: float, method: str, n: int) -> str | None:
    """A share of n examples is known no better than n independent ones would tell."""
    if method == WILSON and not _close(low, high, value, n, 1.0):
        again = unseen_proportion(value, n, 1.0)
        return f"has [{low:.4g}, {high:.4g}], but its {method} is [{again.ci_low:.4g}, {again.ci_high:.4g}]"
    if method == OVER_DESIGN or method in JACKKNIFE:
        least = unseen_proportion(value, n, 1.0)
        assert least.ci_low is not None and least.ci_high is not None
        if low > least.ci_low + ROUNDING or high < least.ci_high - ROUNDING:
            return f"has an interval [{low:.4g}, {high:.4g}] narrower than {n} independent examples allow"
    if method == OVER_DESIGN:  # at the most all examples are one cluster
        most = unseen_proportion(value, n, 1 + (n - 1) * SUPPOSED)
        assert most.ci_low is not None and most.ci_high is not None
        if low < most.ci_low - ROUNDING or high > most.ci_high + ROUNDING:
            return f"has an interval [{low:.4g}, {high:.4g}] wider than any clusters of {n} examples make it"
    return None


def _close(low: float, high: float, value: float, n: int, effect: float) -> bool:
    again = unseen_proportion(value, n, effect)
    assert again.ci_low is not None and again.ci_high is not None
    return abs(low - again.ci_low) <= ROUNDING and abs(high - again.ci_high) <= ROUNDING


def tolerance(n: int, bounds: tuple[float, float] | None) -> float | None:
    """How far apart two numbers of n examples may lie where neither has an interval: as far as z times the largest
    standard error that numbers within bounds can have; None where there are no examples, or no bounds."""
    if n < 1 or bounds is None:
        return None
    return float(Z * (bounds[1] - bounds[0]) / 2 / n**0.5)


def says_little(low: float, high: float, value: float, bounds: tuple[float, float] | None) -> bool:
    """Whether an interval is too wide to tell one claim from another: half of all that can be, or, of a measure without
    bounds, four times its value and more than 1."""
    if bounds is not None:
        return high - low >= (bounds[1] - bounds[0]) / 2
    return high - low > max(1.0, 4 * abs(value))
