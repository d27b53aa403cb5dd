"""The claim that no small part of the network holds the memorised labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..report.conditions import at
from ..report.record import Report
from ..statistics import wilson
from .kept import count, details_of, share, shares
from .rules import HALF, INCONCLUSIVE, NOT_APPLICABLE, NOT_REPLICATED, REPLICATED, Ruling, shown, untested

FEW_HEADS, FEW_UNITS = 2, 0.05  # heads (an eighth of all at the most) and share of units that are a small part
SPARED = 0.95  # of the intact held-out accuracy


def distributed(report: Report) -> Ruling:
    """By what is left of memorization without the few heads or units that matter most for it."""
    details = details_of(report, "ablation")
    memory, accuracy = (share(at(details, "intact", key)) for key in ("memorization_rate", "validation_accuracy"))
    noisy, held = (count(at(details, "examples", name)) for name in ("noisy", "validation"))
    if not memory or not accuracy or not noisy or not held:
        return Ruling(NOT_APPLICABLE, "the intact model gives no wrong label, or solves no held-out question")
    stays, points = True, list(_small_parts(details))
    if not points:
        return Ruling(NOT_APPLICABLE, "no small part of heads or units was removed")
    for part, left, right in points:
        left_over, spared = (wilson(round(x * k), k) for x, k in ((left, noisy), (right, held)))
        assert left_over.ci_low is not None and left_over.ci_high is not None and spared.ci_low is not None
        if left_over.ci_high < HALF * memory and spared.ci_low >= SPARED * accuracy:
            said = f"without {part} memorization is {shown(left_over)} of {memory:.3f}"
            return Ruling(NOT_REPLICATED, f"{said}, held-out accuracy {shown(spared)} of {accuracy:.3f}")
        stays &= left_over.ci_low > HALF * memory
    if not stays:
        return Ruling(
            INCONCLUSIVE,
            f"without few heads or units memorization is {min(left for _, left, _ in points):.3f} of {memory:.3f}"
            " at the least: not surely above half of it, nor surely below with held-out accuracy spared",
        )
    said = f"without few heads or units memorization stays above half of {memory:.3f}"
    return untested(Ruling(REPLICATED, said), "whether the order of removal is better than 20 random orders")


def _small_parts(details: Mapping[str, object]) -> Iterator[tuple[str, float, float]]:
    """The few heads or units that were removed, the memorization left without them and the accuracy."""
    parts, kinds = shares(details.get("shares")), details.get("kinds")
    for kind, of_kind in kinds.items() if isinstance(kinds, Mapping) else ():
        number = count(at(of_kind, "count"))
        curves = [shares(at(of_kind, "by_importance", key)) for key in ("memorization_rate", "validation_accuracy")]
        for part, memory, accuracy in zip(parts, *curves, strict=False):
            removed = max(1, round(part * number))
            if removed <= min(FEW_HEADS, number / 8) if kind == "heads" else part <= FEW_UNITS:
                yield f"{removed} of {number} {kind}", memory, accuracy
