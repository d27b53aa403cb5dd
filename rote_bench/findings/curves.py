"""Claims about the order in which things are learned."""

from __future__ import annotations

from ..measures import words
from ..report.conditions import at
from ..report.record import Report
from ..training.curve import Evaluation
from .kept import details_of, share
from .rules import HALF, INCONCLUSIVE, NOT_APPLICABLE, NOT_REPLICATED, Ruling, above, bounds, shown


def generalises_first(report: Report) -> Ruling:
    """By the interval of the lag; a model that memorises and never generalises has none, and refutes the claim."""
    curve = _curve(report)
    if not curve:
        return Ruling(NOT_APPLICABLE, "the curves of the training are not there")
    first = curve[0]
    names = ("validation_accuracy", "train_clean_accuracy", "memorization_rate", "noisy_true_rate")
    high = [name for name in names if (getattr(first, name) or 0.0) >= HALF]
    if high:
        said = f"{words(high[0])} is {getattr(first, high[0]):.3f} at the first evaluation already"
        return Ruling(NOT_APPLICABLE, f"{said}, so that it cannot be told when it was learned")
    highest = {name: max(getattr(point, name) or 0.0 for point in curve) for name in names}
    if highest["memorization_rate"] < HALF:
        return Ruling(
            NOT_APPLICABLE, f"memorization never reaches {HALF:g}: at most {highest['memorization_rate']:.3f}"
        )
    if highest["validation_accuracy"] >= HALF:
        return above("memorization_lag", report.metrics["memorization_lag"], 0.0)
    final = report.metrics.get("validation_accuracy")
    ends = (0.0, 1.0) if final is None else bounds("validation_accuracy", final)
    if isinstance(ends, Ruling):
        return ends
    said = (
        f"memorization reaches {HALF:g} and held-out accuracy never does: at most {highest['validation_accuracy']:.3f}"
    )
    said += f", at the end {shown(final)}" if final is not None else ""
    return Ruling(NOT_REPLICATED if ends[1] < HALF else INCONCLUSIVE, said)


def true_answer_first(report: Report) -> Ruling:
    """By the highest share of true answers on mislabelled questions, against one half and against guessing.

    Guessing is a label that was never taught, or the answer that is right most often.
    """
    guess = report.metrics["phantom_rate"]
    ends = bounds("phantom_rate", guess)
    if isinstance(ends, Ruling):
        return ends
    most = share(at(details_of(report, "learning_dynamics"), "early_clean_peak", "commonest_answer", "ci_high"))
    if most is None:
        return Ruling(INCONCLUSIVE, "what the commonest answer would get right is not known")
    level, called = max(
        (HALF, f"{HALF:g}"),
        (ends[1], f"guessing ({shown(guess)})"),
        (most, f"what the commonest answer gets right (at most {most:.3f})"),
    )
    found = above("early_clean_peak", report.metrics["early_clean_peak"], level, called)
    return Ruling(found.verdict, f"{found.reason}; mostly implied by generalize_then_memorize")


def _curve(report: Report) -> list[Evaluation]:
    """The evaluations of the training, none where they are not kept."""
    points = at(details_of(report, "learning_dynamics"), "curve")
    try:
        return [Evaluation.read(point) for point in points] if isinstance(points, list) else []
    except (TypeError, ValueError):
        return []
