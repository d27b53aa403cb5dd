"""First generalise, then memorise: when does each happen during training?

Source: the "first generalize, then memorize" finding of Du et al. (2025), which follows how often a model gives the
true answer, and how often the noisy label, on training examples whose label is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..statistics import Estimate, wilson
from . import Diagnostic, Metric, NotApplicable, Result

if TYPE_CHECKING:
    from ..subject import Subject


@dataclass(frozen=True)
class LearningDynamicsOptions:
    """Thresholds of the curves.

    Attributes:
        level: the accuracy at which generalization and memorization count as reached.
    """

    level: float = 0.5


def crossing(curve: Sequence[Mapping[str, Any]], key: str, level: float) -> tuple[float, float, float] | None:
    """When a curve first reaches a level, in examples seen.

    Returns:
        The time interpolated linearly between two evaluations, and those evaluations' times as bounds; None when the
        curve never reaches the level (right-censored).
    """
    before: Mapping[str, Any] | None = None
    for record in curve:
        if record[key] is not None and record[key] >= level:
            late = float(record["examples_seen"])
            if before is None:
                return late, late, late
            early, low, high = float(before["examples_seen"]), before[key] or 0.0, record[key]
            return early + (late - early) * (level - low) / (high - low), early, late
        before = record
    return None


def lag(curve: Sequence[Mapping[str, Any]], level: float) -> Estimate:
    """``log2(t[MR >= level] / t[V accuracy >= level])``; the interval is what the evaluations' spacing leaves open."""
    learned = crossing(curve, "validation_accuracy", level)
    memorized = crossing(curve, "memorization_rate", level)
    if learned is None or memorized is None:
        missing = "validation accuracy" if learned is None else "memorization"
        seen = curve[-1]["examples_seen"] if curve else 0
        reason = f"{missing} never reached {level:g} within {seen} examples (right-censored)"
        return Estimate(None, None, None, None, len(curve), reason)
    low = math.log2(max(memorized[1], 1.0) / learned[2])
    high = math.log2(memorized[2] / max(learned[1], 1.0))
    return Estimate(math.log2(memorized[0] / learned[0]), low, high, "spacing of evaluations", len(curve))


class LearningDynamics(Diagnostic[LearningDynamicsOptions]):
    """The four curves of training and what follows from them."""

    name = "learning_dynamics"
    version = 1
    description = "when the model generalises and when it memorises"
    Options: ClassVar[type] = LearningDynamicsOptions

    def run(self, subject: Subject) -> Result:
        curve = [dict(record) for record in subject.curve]
        if not curve:
            raise NotApplicable("the model was not trained here, so there are no curves")
        details = {"curve": curve, "n_train": len(subject.data.train) + len(subject.data.facts)}
        n_noisy = len(subject.noisy)
        if n_noisy == 0:
            reason = "no noisy labels at this noise rate"
            null = Metric(Estimate(None, None, None, None, 0, reason), "train_noisy", None)
            return Result({"early_clean_peak": null, "memorization_lag": null}, details)
        peak = max(curve, key=lambda r: r["noisy_true_rate"])
        value = float(peak["noisy_true_rate"])
        early = wilson(round(value * n_noisy), n_noisy)
        metrics = {
            "early_clean_peak": Metric(early, "train_noisy", True),
            "early_clean_peak_relative": Metric(_relative(early, peak["validation_accuracy"]), "train_noisy", True),
            "memorization_lag": Metric(lag(curve, self.options.level), "train_noisy", None),
        }
        at_peak = {"step": peak["step"], "phantom_rate": peak["phantom_rate"]}
        return Result(metrics, {**details, "early_clean_peak": at_peak})

    @staticmethod
    def draw(details: Mapping[str, Any], path: Path) -> bool:
        from ..report.figures import learning_curves

        learning_curves(details["curve"], details.get("snapshots", {}), path)
        return True


def _relative(early: Estimate, accuracy: float | None) -> Estimate:
    if not accuracy or early.value is None:
        return Estimate(None, None, None, None, early.n, "validation accuracy was 0 at the peak")
    low, high = early.ci_low, early.ci_high
    return Estimate(
        early.value / accuracy,
        None if low is None else low / accuracy,
        None if high is None else high / accuracy,
        early.ci_method,
        early.n,
    )
