"""What a verdict needs before anything is decided, and how intervals decide it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

from ..measures import words
from ..report.conditions import at
from ..report.record import PRE, Metric, Report, Verdict
from ..statistics import Estimate

REPLICATED: Verdict = "replicated"
NOT_REPLICATED: Verdict = "not_replicated"
INCONCLUSIVE: Verdict = "inconclusive"
NOT_APPLICABLE: Verdict = "not_applicable"
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

HALF = 0.5
ENOUGH_LABELS = 50
LEARNED_ACCURACY = 0.9
MEMORISED_LEAST = 0.5  # lower bound of counterfactual memorization
NO_WRONG_LABELS = "there are no wrong labels at this noise rate"


@dataclass(frozen=True)
class Ruling:
    """A verdict and its reason, with the numbers that decided it."""

    verdict: Verdict
    reason: str


def shown(number: Metric | Estimate) -> str:
    """``0.987 [0.981, 0.992]``."""
    if number.value is None:
        return "no value"
    if number.ci_low is None or number.ci_high is None:
        return f"{number.value:.3f}"
    return f"{number.value:.3f} [{number.ci_low:.3f}, {number.ci_high:.3f}]"


def bounds(name: str, number: Metric | Estimate) -> tuple[float, float] | Ruling:
    """Both ends of an interval; without one, the verdict that follows: a point decides nothing."""
    if number.value is None:
        return Ruling(NOT_APPLICABLE, f"{words(name)} has no value: {number.reason_if_null}")
    if number.ci_low is None or number.ci_high is None:
        why = number.reason_if_no_interval or "none was given"
        return Ruling(INCONCLUSIVE, f"{words(name)} {shown(number)} has no interval: {why}")
    return number.ci_low, number.ci_high


def above(name: str, number: Metric | Estimate, threshold: float, called: str = "") -> Ruling:
    """Replicated when the whole interval lies above a threshold, not replicated when none of it does.

    Args:
        called: what the threshold is, in words.
    """
    ends = bounds(name, number)
    if isinstance(ends, Ruling):
        return ends
    limit = called or f"{threshold:g}"
    if ends[0] > threshold:
        return Ruling(REPLICATED, f"{words(name)} {shown(number)} lies above {limit}")
    if ends[1] <= threshold:
        return Ruling(NOT_REPLICATED, f"{words(name)} {shown(number)} does not lie above {limit}")
    return Ruling(INCONCLUSIVE, f"the interval of {words(name)} {shown(number)} holds {limit}")


def all_of(*parts: Ruling) -> Ruling:
    """Replicated when every part is; what is missing weighs more than what speaks against the claim."""
    for verdict in (NOT_APPLICABLE, NOT_REPLICATED, INCONCLUSIVE):
        reasons = [part.reason for part in parts if part.verdict == verdict]
        if reasons:
            return Ruling(verdict, "; ".join(reasons))
    return Ruling(REPLICATED, "; ".join(part.reason for part in parts))


@dataclass(frozen=True)
class Precondition:
    """What must hold before a claim is decided.

    Attributes:
        name: as documentation calls it.
        about: of what nothing can be said where it does not hold.
        unmet: why it does not hold for a report, None when it does.
    """

    name: str
    about: str
    unmet: Callable[[Report], str | None]


def _few(report: Report) -> str | None:
    n = report.data.n_noisy
    if n >= ENOUGH_LABELS:
        return None
    if n == 0:
        return NO_WRONG_LABELS
    return f"only {n} wrong label{'s' if n > 1 else ''}; {ENOUGH_LABELS} are needed"


def _unlearned(report: Report) -> str | None:
    value = report.value("validation_accuracy")
    if value is None:
        return "held-out accuracy is not known"
    if value >= LEARNED_ACCURACY:
        return None
    return f"held-out accuracy is {value:.3f}; {LEARNED_ACCURACY:g} is needed"


def _unmemorised(report: Report) -> str | None:
    found = report.metrics.get("counterfactual_memorization")
    if report.data.n_noisy == 0:
        return NO_WRONG_LABELS
    if found is None or found.value is None or found.ci_low is None:
        why = None if found is None else found.reason_if_null or found.reason_if_no_interval
        return f"counterfactual memorization has no interval: {why or 'it was not measured'}"
    if found.ci_low >= MEMORISED_LEAST:
        return None
    return f"counterfactual memorization is {shown(found)}; its lower bound must reach {MEMORISED_LEAST:g}"


def _no_snapshot(report: Report) -> str | None:
    if PRE in report.training.snapshots:
        return None
    if at(report.identity.parts, "snapshots", PRE) is not None:
        return None
    if not report.training.steps:
        return "no snapshot from before memorization was given"
    return "no evaluation precedes memorization"


ENOUGH = Precondition("enough", "memorization", _few)
LEARNED = Precondition("learned", "reasoning beside memorization", _unlearned)
MEMORISED = Precondition("memorised", "memorization", _unmemorised)
SNAPSHOT = Precondition("pre snapshot", "what memorization changed", _no_snapshot)
PRECONDITIONS = (ENOUGH, MEMORISED, LEARNED, SNAPSHOT)
