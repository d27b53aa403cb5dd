"""First generalise, then memorise: when does each happen during training?

Source: the "first generalize, then memorize" finding of Du et al. (2025), which follows how often a model gives the
true answer, and how often the noisy label, on training examples whose label is wrong.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..measures import SHARE, Measure
from ..statistics import Estimate, design_effect, proportion, unseen_proportion
from ..training.curve import CurveName, Evaluation
from . import Details, Diagnostic, NotApplicable, Records, Result, too_low

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

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
    return _crossing([(float(p.examples_seen), p.level(name)) for p in curve], level)


def _crossing(points: Sequence[tuple[float, float | None]], level: float) -> tuple[float, float, float] | None:
    before: tuple[float, float] | None = None
    for late, high in points:
        if high is not None and high >= level:
            if before is None:
                return late, late, late
            early, low = before
            return early + (late - early) * (level - low) / (high - low), early, late
        before = late, high or 0.0
    return None


@dataclass(frozen=True)
class Measured:
    """On what a curve was measured.

    Attributes:
        n: examples.
        effect: how many of them count as one; 1 where they are independent.
    """

    n: int
    effect: float = 1.0

    def share(self, value: float) -> Estimate:
        return unseen_proportion(value, self.n, self.effect)


def _bounds(curve: Sequence[Evaluation], name: CurveName, level: float, on: Measured) -> tuple[float, float | None]:
    """Between which times a curve reaches a level, in examples seen; None for the later one where that is open.

    From the evaluation before the first whose upper bound reaches it, to the first whose lower bound does.
    """
    found = [(float(p.examples_seen), on.share(p.level(name) or 0.0)) for p in curve]
    first = _crossing([(at, e.ci_high) for at, e in found], level)
    last = _crossing([(at, e.ci_low) for at, e in found], level)
    return (0.0 if first is None else first[1]), (None if last is None else last[2])


def lag(curve: Sequence[Evaluation], level: float, held: Measured, noisy: Measured) -> Estimate:
    """``log2(t[MR >= level] / t[V accuracy >= level])``.

    The interval is from the earliest time of the one by the latest time of the other to the reverse, each as far as the
    spacing of evaluations and the sampling of questions leave it open.
    """
    learned = crossing(curve, "validation_accuracy", level)
    memorized = crossing(curve, "memorization_rate", level)
    if learned is None or memorized is None:
        missing = "validation accuracy" if learned is None else "memorization"
        seen = curve[-1].examples_seen if curve else 0
        reason = f"{missing} never reached {level:g} within {seen} examples (right-censored)"
        return Estimate(None, None, None, None, len(curve), reason)
    value = math.log2(memorized[0] / learned[0])
    early, late = _bounds(curve, "validation_accuracy", level, held)
    soon, end = _bounds(curve, "memorization_rate", level, noisy)
    if late is None or end is None:
        what = "validation accuracy" if late is None else "memorization"
        reason = f"the lower bound of {what} never reaches {level:g}, so that its time is open (right-censored)"
        return Estimate(value, None, None, None, len(curve), reason_if_no_interval=reason)
    low, high = math.log2(max(soon, 1.0) / late), math.log2(end / max(early, 1.0))
    return Estimate(value, low, high, "spacing of evaluations and intervals of their shares", len(curve))


class LearningDynamics(Diagnostic[LearningDynamicsOptions]):
    """The four curves of training and what follows from them."""

    name = "learning_dynamics"
    version = 4
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
        views = {"noisy": subject.noisy, "validation": subject.validation, "clean": subject.clean}
        cap = subject.spec.training.evaluation_examples
        asked = {name: ([e.answer for e in view.labelled.examples], view.clusters) for name, view in views.items()}
        questions, commonest = asked_of(asked, cap)
        effects = questions["design_effects"]
        on = {name: Measured(questions[f"n_{name}"], effects[name]) for name in views}
        details: dict[str, Any] = {
            "curve": [point.plain() for point in subject.curve],
            "n_train": len(subject.data.train) + len(subject.data.facts),
            **questions,
            "levels": _levels(subject.curve, on),
        }
        if subject.snapshots:
            details["snapshots"] = dict(subject.snapshots)
        if on["noisy"].n:
            peak = _peak(subject.curve)
            details["early_clean_peak"] = {
                "step": peak.step,
                "phantom_rate": peak.phantom_rate,
                "commonest_answer": commonest,
            }
        return Result(self.implied(details, {}), details)

    def implied(self, details: Details, records: Records) -> Mapping[str, Estimate]:
        curve = [Evaluation.read(point) for point in details["curve"]]
        held, noisy = (
            Measured(int(details[f"n_{name}"]), float(details["design_effects"][name]))
            for name in ("validation", "noisy")
        )
        return _measured(curve, noisy, held, self.options.level)

    @staticmethod
    def series(details: Details) -> Details:
        points = [{key: point.get(key) for key in DRAWN} for point in details["curve"]]
        return {"points": points, "snapshots": details.get("snapshots", {})}

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """Four curves of training with their intervals and both snapshots marked."""
        from ..report import figures

        curve, last = details["curve"], details["curve"][-1]
        lines = (
            ("validation_accuracy", "right on held-out questions", figures.HELD_OUT, "-"),
            ("train_clean_accuracy", "right on clean training questions", figures.CLEAN, "--"),
            ("memorization_rate", "wrong label memorised", figures.MEMORISED, "-"),
            ("noisy_true_rate", "right in spite of the wrong label", figures.TRUE, "-"),
        )
        with figures.drawing(path, 1, 8.6, 4.8) as (figure, (ax,)):
            ends = []
            seen = [r["examples_seen"] for r in curve]
            levels = _drawn(details)
            for key, text, color, dash in lines:
                if key in levels:
                    found = levels[key]
                    figures.line(ax, seen, found, color, text, dash, "")
                    ends.append((seen[-1], found["value"][-1], text, color))
            ax.set_ylim(-0.02, 1.3)
            ax.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
            ax.set_xlim(0, last["examples_seen"])
            at = {r["step"]: r["examples_seen"] for r in curve}
            for name, step in details.get("snapshots", {}).items():
                if step in at:
                    _mark(ax, at[step], f"snapshot\n{figures.SNAPSHOT_NAMES.get(name, name)}", last["examples_seen"])
            figures.label_ends(ax, ends)
            ax.set_xlabel("training examples seen")
            ax.set_ylabel("share of questions")
            ax.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value else "0")
            if last.get("epoch"):
                per_epoch = last["examples_seen"] / last["epoch"]
                top = ax.secondary_xaxis("top", functions=(lambda x: x / per_epoch, lambda x: x * per_epoch))
                top.set_xlabel("passes over the training data", fontsize=9)
            figures.title(figure, _found(levels))
        return True


def _mark(ax: Axes, x: float, text: str, end: float) -> None:
    """A dotted line with its name on top of it, above all curves."""
    from ..report import figures

    ax.plot([x, x], [-0.02, 1.12], color=figures.GREY, linewidth=1.0, linestyle=":")
    side = "right" if x > 0.85 * end else "left" if x < 0.15 * end else "center"
    ax.text(x, 1.13, text, ha=side, va="bottom", fontsize=8, color=figures.GREY)


def _drawn(details: Details) -> Mapping[str, Mapping[str, list[float]]]:
    """The levels of each curve; of several seeds those at the steps that all have, with their intervals over seeds."""
    over = [point["over_seeds"] for point in details["curve"] if "over_seeds" in point]
    if not over:
        found: Mapping[str, Mapping[str, list[float]]] = details["levels"]
        return found
    return {
        key: {end: [each[key][end] for each in over] for end in over[0][key]}
        for key in DRAWN
        if all(key in each for each in over)
    }


def _found(levels: Mapping[str, Mapping[str, list[float]]]) -> str:
    """The result in a sentence."""
    from ..report.figures import percent

    right = percent(levels["validation_accuracy"]["value"][-1])
    if "noisy_true_rate" not in levels:
        return f"Without wrong labels {right} of held-out questions are right at the end"
    stored = percent(levels["memorization_rate"]["value"][-1])
    peak = percent(max(levels["noisy_true_rate"]["value"]))
    return (
        f"{peak} of mislabelled questions are answered right at the peak; in the end {stored} of wrong labels are"
        f" memorised, and {right} of held-out questions right"
    )


CURVES: tuple[tuple[CurveName, str], ...] = (
    ("validation_accuracy", "validation"),
    ("train_clean_accuracy", "clean"),
    ("memorization_rate", "noisy"),
    ("noisy_true_rate", "noisy"),
    ("phantom_rate", "validation"),
)


def _levels(curve: Sequence[Evaluation], on: Mapping[str, Measured]) -> dict[str, dict[str, list[float | None]]]:
    """Each curve with intervals, of those that were measured at every evaluation."""
    out: dict[str, dict[str, list[float | None]]] = {}
    for name, view in CURVES:
        values = [point.level(name) for point in curve]
        if on[view].n and all(value is not None for value in values):
            found = [on[view].share(value or 0.0) for value in values]
            out[name] = {key: [getattr(each, key) for each in found] for key in ("value", "ci_low", "ci_high")}
    return out


def asked_of(
    questions: Mapping[str, tuple[Sequence[str], NDArray[np.int64]]], cap: int
) -> tuple[dict[str, Any], dict[str, float | None]]:
    """What the details say of the questions that were asked at each evaluation.

    Args:
        questions: ``noisy``, ``validation`` and ``clean`` -> true answers and clusters of those asked at the end.
        cap: how many of each were asked on the way.

    Returns:
        Their numbers and design effects, and the share of mislabelled questions that whoever always gave the commonest
        answer would answer right.
    """
    counts = Counter(questions["clean"][0])
    guess = max(counts, key=lambda answer: counts[answer], default=None)
    answers, clusters = questions["noisy"]
    found = proportion([answer == guess for answer in answers[:cap]], clusters[:cap])
    return {
        **{f"n_{name}": min(cap, len(texts)) for name, (texts, _) in questions.items()},
        "design_effects": {name: design_effect(codes[:cap]) for name, (_, codes) in questions.items()},
    }, {"value": found.value, "ci_low": found.ci_low, "ci_high": found.ci_high}


def _peak(curve: Sequence[Evaluation]) -> Evaluation:
    """The first evaluation with the largest share of true answers on mislabelled questions."""
    return max(curve, key=lambda point: point.noisy_true_rate or 0.0)


def _measured(curve: Sequence[Evaluation], noisy: Measured, held: Measured, level: float) -> dict[str, Estimate]:
    """All metrics of a curve, by what its points on mislabelled and on held-out questions were measured on."""
    if noisy.n == 0:
        null = Estimate.missing("no noisy labels at this noise rate")
        return {"early_clean_peak": null, "memorization_lag": null}
    peak = _peak(curve)
    early = noisy.share(peak.noisy_true_rate or 0.0)
    return {
        "early_clean_peak": early,
        "early_clean_peak_relative": _relative(early, held.share(peak.validation_accuracy or 0.0)),
        "memorization_lag": lag(curve, level, held, noisy),
    }


def _relative(early: Estimate, held: Estimate) -> Estimate:
    """Their quotient; on the logarithm's scale each end is as far as those of both together (Zou and Donner, 2008)."""
    why = too_low("held-out accuracy at the peak", held.ci_low or 0.0)
    if why is not None or not early.value or not held.value:
        if why is None and early.value == 0 and held.ci_low and early.ci_high is not None:
            return Estimate(0.0, 0.0, early.ci_high / held.ci_low, early.ci_method, early.n)
        return Estimate.missing(why or "the share at the peak is not known", early.n)
    assert early.ci_low and early.ci_high and held.ci_low and held.ci_high
    below = math.hypot(math.log(early.value / early.ci_low), math.log(held.ci_high / held.value))
    above = math.hypot(math.log(early.ci_high / early.value), math.log(held.value / held.ci_low))
    value = early.value / held.value
    return Estimate(value, value * math.exp(-below), value * math.exp(above), early.ci_method, early.n)
