"""First generalise, then memorise: when does each happen during training?

Source: the "first generalize, then memorize" finding of Du et al. (2025), which follows how often a model gives the
true answer, and how often the noisy label, on training examples whose label is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..measures import SHARE, Measure
from ..statistics import Estimate, wilson
from ..training.curve import CurveName, Evaluation
from . import Details, Diagnostic, NotApplicable, Records, Result, too_low

if TYPE_CHECKING:
    from ..subject import Subject


@dataclass(frozen=True)
class LearningDynamicsOptions:
    """Thresholds of the curves.

    Attributes:
        level: the accuracy at which generalization and memorization count as reached.
    """

    level: float = field(default=0.5, metadata={"above": 0, "max": 1})


DRAWN = ("step", "examples_seen", "validation_accuracy", "train_clean_accuracy", "memorization_rate", "noisy_true_rate")


def crossing(curve: Sequence[Evaluation], name: CurveName, level: float) -> tuple[float, float, float] | None:
    """When a curve first reaches a level, in examples seen.

    Returns:
        The time interpolated linearly between two evaluations, and those evaluations' times as bounds; None when the
        curve never reaches the level (right-censored).
    """
    before: Evaluation | None = None
    for point in curve:
        high = point.level(name)
        if high is not None and high >= level:
            late = float(point.examples_seen)
            if before is None:
                return late, late, late
            early, low = float(before.examples_seen), before.level(name) or 0.0
            return early + (late - early) * (level - low) / (high - low), early, late
        before = point
    return None


def lag(curve: Sequence[Evaluation], level: float) -> Estimate:
    """``log2(t[MR >= level] / t[V accuracy >= level])``; the interval is what the evaluations' spacing leaves open."""
    learned = crossing(curve, "validation_accuracy", level)
    memorized = crossing(curve, "memorization_rate", level)
    if learned is None or memorized is None:
        missing = "validation accuracy" if learned is None else "memorization"
        seen = curve[-1].examples_seen if curve else 0
        reason = f"{missing} never reached {level:g} within {seen} examples (right-censored)"
        return Estimate(None, None, None, None, len(curve), reason)
    low = math.log2(max(memorized[1], 1.0) / learned[2])
    high = math.log2(memorized[2] / max(learned[1], 1.0))
    return Estimate(math.log2(memorized[0] / learned[0]), low, high, "spacing of evaluations", len(curve))


class LearningDynamics(Diagnostic[LearningDynamicsOptions]):
    """The four curves of training and what follows from them."""

    name = "learning_dynamics"
    version = 3
    description = "when the model generalises and when it memorises"
    metrics: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "early_clean_peak",
            "highest share of mislabelled questions answered right during training",
            "train_noisy",
            SHARE,
            higher_is_better=True,
            column=2,
        ),
        Measure(
            "early_clean_peak_relative",
            "the same, relative to held-out accuracy at that time",
            "train_noisy",
            higher_is_better=True,
        ),
        Measure(
            "memorization_lag",
            "doublings of training between generalising and memorising",
            "evaluations of the training",
            (-64.0, 64.0),  # no training sees 2 ** 64 examples
            column=5,
        ),
    )
    Options: ClassVar[type] = LearningDynamicsOptions
    passes = (0, 0)
    needs_noise = False

    def run(self, subject: Subject) -> Result:
        if not subject.curve:
            raise NotApplicable("the model was not trained here, so there are no curves")
        n_noisy = min(subject.spec.training.evaluation_examples, len(subject.noisy))
        details: dict[str, Any] = {
            "curve": [point.plain() for point in subject.curve],
            "n_train": len(subject.data.train) + len(subject.data.facts),
            "n_noisy": n_noisy,
            "n_validation": min(subject.spec.training.evaluation_examples, len(subject.validation)),
        }
        if subject.snapshots:
            details["snapshots"] = dict(subject.snapshots)
        if n_noisy:
            peak = _peak(subject.curve)
            details["early_clean_peak"] = {"step": peak.step, "phantom_rate": peak.phantom_rate}
        return Result(self.implied(details, {}), details)

    def implied(self, details: Details, records: Records) -> Mapping[str, Estimate]:
        curve = [Evaluation.read(point) for point in details["curve"]]
        return _measured(curve, int(details["n_noisy"]), int(details["n_validation"]), self.options.level)

    @staticmethod
    def series(details: Details) -> Details:
        points = [{key: point.get(key) for key in DRAWN} for point in details["curve"]]
        return {"points": points, "snapshots": details.get("snapshots", {})}

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """Four curves of training with both snapshots marked."""
        from ..report import figures

        curve, last = details["curve"], details["curve"][-1]
        lines = (
            ("validation_accuracy", "right on held-out questions", figures.HELD_OUT, "-"),
            ("train_clean_accuracy", "right on clean training questions", figures.CLEAN, "--"),
            ("memorization_rate", "wrong label memorised", figures.MEMORISED, "-"),
            ("noisy_true_rate", "right in spite of the wrong label", figures.TRUE, "-"),
        )
        with figures.drawing(path, 1, 8.6, 4.6) as (figure, (ax,)):
            ends = []
            for key, text, color, dash in lines:
                points = [r for r in curve if r.get(key) is not None]
                if points:
                    xs, ys = [r["examples_seen"] for r in points], [r[key] for r in points]
                    over = [r["over_seeds"][key] for r in points if "over_seeds" in r]  # of several curves in one
                    bounds = {end: [each[end] for each in over] for end in ("ci_low", "ci_high") if over}
                    figures.line(ax, xs, {"value": ys, **bounds}, color, text, dash, "")
                    ends.append((xs[-1], ys[-1], text, color))
            ax.set_ylim(-0.02, 1.06)
            ax.set_xlim(0, last["examples_seen"])
            seen = {r["step"]: r["examples_seen"] for r in curve}
            for name, step in details.get("snapshots", {}).items():
                if step in seen:
                    figures.mark(ax, seen[step], 1.06, f"snapshot {figures.SNAPSHOT_NAMES.get(name, name)}")
            figures.label_ends(ax, ends)
            ax.set_xlabel("training examples seen")
            ax.set_ylabel("share of questions")
            ax.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value else "0")
            if last.get("epoch"):
                per_epoch = last["examples_seen"] / last["epoch"]
                top = ax.secondary_xaxis("top", functions=(lambda x: x / per_epoch, lambda x: x * per_epoch))
                top.set_xlabel("passes over the training data", fontsize=9)
            peak = max((r["noisy_true_rate"] for r in curve if r.get("noisy_true_rate") is not None), default=0.0)
            text = "What the model answers while it learns"
            if peak >= 0.5:
                right = figures.percent(peak)
                text = f"First it reasons, then it memorises: at the peak {right} of mislabelled questions are right"
            figures.title(figure, text)
        return True


def _peak(curve: Sequence[Evaluation]) -> Evaluation:
    """The first evaluation with the largest share of true answers on mislabelled questions."""
    return max(curve, key=lambda point: point.noisy_true_rate or 0.0)


def _measured(curve: Sequence[Evaluation], n_noisy: int, n_held: int, level: float) -> dict[str, Estimate]:
    """All metrics of a curve, each of whose points was measured on so many mislabelled and held-out examples."""
    if n_noisy == 0:
        null = Estimate.missing("no noisy labels at this noise rate")
        return {"early_clean_peak": null, "memorization_lag": null}
    peak = _peak(curve)
    early = wilson(round((peak.noisy_true_rate or 0.0) * n_noisy), n_noisy)
    return {
        "early_clean_peak": early,
        "early_clean_peak_relative": _relative(early, peak.validation_accuracy or 0.0, n_held),
        "memorization_lag": lag(curve, level),
    }


def _relative(early: Estimate, accuracy: float, n_held: int) -> Estimate:
    why = too_low("held-out accuracy at the peak", wilson(round(accuracy * n_held), n_held).ci_low or 0.0)
    if why is not None or early.value is None:
        return Estimate.missing(why or str(early.reason_if_null), early.n)
    low, high = early.ci_low, early.ci_high
    return Estimate(
        early.value / accuracy,
        None if low is None else low / accuracy,
        None if high is None else high / accuracy,
        early.ci_method,
        early.n,
    )
