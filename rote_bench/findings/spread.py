"""The claim that no small part of the network holds the memorised labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..report.conditions import at
from ..report.record import Report
from ..statistics import Estimate
from .kept import count, details_of, share, shares
from .rules import HALF, INCONCLUSIVE, NOT_APPLICABLE, NOT_REPLICATED, REPLICATED, Ruling, shown

FEW_HEADS, FEW_UNITS = 2, 0.05  # heads (an eighth of all at the most) and share of units that are a small part
SPARED = 0.95  # of the held-out answers that were right
ORDERS = 20
KINDS = {"heads": "attention heads", "units": "MLP units"}


@dataclass(frozen=True)
class _Part:
    """The most important heads or units, and what is left without them.

    Attributes:
        kept: of the held-out answers that were right.
        random: the least that is left of memorization on average without as many random ones, by its interval.
    """

    name: str
    memory: Estimate
    kept: Estimate
    random: float


def distributed(report: Report) -> Ruling:
    """By what is left of memorization without the few heads or units that matter most for it."""
    details = details_of(report, "ablation")
    memory, accuracy = (
        share(next(iter(shares(at(details, "intact", key, "value"))), None))
        for key in ("memorization_rate", "validation_accuracy")
    )
    if not memory or not accuracy:
        return Ruling(NOT_APPLICABLE, "the intact model gives no wrong label, or solves no held-out question")
    half = HALF * memory
    parts = {kind: list(_small_parts(details, kind)) for kind in KINDS}
    if not any(parts.values()):
        return Ruling(NOT_APPLICABLE, "no small part of heads or units was removed")
    open_questions: list[str] = []
    for part in (part for found in parts.values() for part in found):
        said = f"without {part.name} memorization is {shown(part.memory)} of {memory:.3f}"
        said += f", and {shown(part.kept)} of right held-out answers stay"
        assert part.memory.ci_low is not None and part.memory.ci_high is not None and part.kept.ci_low is not None
        if part.memory.ci_high < half:
            if part.kept.ci_low < SPARED:
                open_questions.append(f"{said}: both fall, or may")
            elif part.random <= half:
                open_questions.append(f"{said}, but as many random ones may take as much of memorization")
            else:
                return Ruling(NOT_REPLICATED, said)
        elif part.memory.ci_low <= half:
            open_questions.append(f"{said}: not surely above half of it, nor surely below")
    open_questions += [why for kind, found in parts.items() if (why := _unranked(details, kind, found)) is not None]
    if open_questions:
        return Ruling(INCONCLUSIVE, "; ".join(dict.fromkeys(open_questions)))
    said = " and ".join(
        f"without {found[-1].name} memorization is {shown(found[-1].memory)}" for found in parts.values()
    )
    return Ruling(REPLICATED, f"{said}: above half of {memory:.3f}, and removal by importance beats all random orders")


def _unranked(details: Mapping[str, object], kind: str, parts: list[_Part]) -> str | None:
    """Why it is no evidence for a spread memory that the most important of a kind can go."""
    if not parts:
        return f"no small part of the {KINDS[kind]} was removed"
    area = at(details, "kinds", kind, "area")
    own, random = share(at(area, "by_importance")), shares(at(area, "random"))
    if own is None or len(random) < ORDERS:
        return f"the {KINDS[kind]} were not removed in {ORDERS} random orders"
    better = sum(own < other for other in random)
    if better < len(random):
        said = f"memorization left on average {own:.3f}, below {better} of {len(random)} random orders"
        return f"the ranking of {KINDS[kind]} is no better than chance: {said}"
    return None


def _small_parts(details: Mapping[str, object], kind: str) -> Iterator[_Part]:
    """The few heads or units that were removed, the memorization left without them and the accuracy."""
    found = at(details, "kinds", kind)
    total, numbers = count(at(found, "count")), at(found, "numbers")
    memory, kept = _line(at(found, "by_importance", "memorization_rate")), _line(at(found, "accuracy_kept"))
    random, reach = shares(at(found, "random", "value")), at(found, "random", "reach_of_mean")
    rows = zip(
        numbers if isinstance(numbers, list) else [],
        memory,
        kept,
        random,
        shares(reach) if isinstance(reach, list) else [],
        strict=False,
    )
    for number, left, spared, of_random, error in rows:
        removed = count(number)
        most = min(FEW_HEADS, total / 8) if kind == "heads" else FEW_UNITS * total
        if 0 < removed <= max(1, round(most)) and removed <= total / 8:
            yield _Part(f"{removed} of {total} {kind}", left, spared, of_random - error)


def _line(found: object) -> list[Estimate]:
    """The values of a line with their intervals, none where one is not as it should be."""
    value, low, high = (shares(at(found, key)) for key in ("value", "ci_low", "ci_high"))
    if not len(value) == len(low) == len(high):
        return []
    rows = zip(value, low, high, strict=True)
    return [Estimate(v, a, b, "kept", 0) for v, a, b in rows if a <= v <= b]
