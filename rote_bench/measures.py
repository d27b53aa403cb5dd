"""What a metric is, said once: its name, its meaning, and what may be expected of its value."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")


@dataclass(frozen=True)
class Measure:
    """The declaration of a metric by whoever measures it.

    Whatever shows, exports, checks or compares metrics reads this and nothing else.

    Attributes:
        name: in the report, lower-case letters, digits and underscores.
        meaning: what the number says, a clause without a full stop.
        split: the examples on which it is measured: validation, train_noisy, train_clean, selection, or several of
            them with commas between; any other words for examples of another kind.
        bounds: least and largest value that there can be; None where there is none.
        higher_is_better: None when the metric only describes.
        interval: True when every value comes with an interval; False when only some do, and then each estimate
            without one says why; a text when none does, and this is why.
        title: heading of a column; the name in words when empty.
        column: place among the columns of tables that compare models; None when it has none.
    """

    name: str
    meaning: str
    split: str = ""
    bounds: tuple[float, float] | None = None
    higher_is_better: bool | None = None
    interval: bool | str = True
    title: str = ""
    column: int | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"a metric cannot be called {self.name!r}: use lower case, digits and underscores")
        if not self.meaning or not self.split:
            raise ValueError(f"the metric {self.name} needs a meaning and the split on which it is measured")
        if self.bounds is not None and not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"the bounds of the metric {self.name} are not in order")

    @property
    def heading(self) -> str:
        """The title, or the name in words."""
        return self.title or words(self.name)

    def allows(self, value: float) -> bool:
        """Whether a value is finite and within the bounds, but for rounding."""
        if not math.isfinite(value):
            return False
        return self.bounds is None or self.bounds[0] - 1e-9 <= value <= self.bounds[1] + 1e-9


def words(name: str) -> str:
    """A name as a reader has it."""
    return name.replace("_", " ")


def in_columns(measures: Iterable[Measure]) -> list[Measure]:
    """Those that have a place among the columns of tables, in its order."""
    return sorted((m for m in measures if m.column is not None), key=lambda m: (m.column or 0, m.name))


SHARE, DIFFERENCE = (0.0, 1.0), (-1.0, 1.0)

# What needs nothing but the model's answers: every report has these.
HEADLINE: tuple[Measure, ...] = (
    Measure(
        "validation_accuracy",
        "right on held-out questions at the end",
        "validation",
        SHARE,
        True,
        title="held-out accuracy",
        column=3,
    ),
    Measure("train_clean_accuracy", "right on clean training questions", "train_clean", SHARE, True),
    Measure("memorization_rate", "gives the wrong label it was taught", "train_noisy", SHARE),
    Measure("noisy_true_rate", "gives the true answer in spite of a wrong label", "train_noisy", SHARE),
    Measure("phantom_rate", "gives a wrong label it was never taught (control)", "validation", SHARE),
    Measure(
        "counterfactual_memorization",
        "memorization above that control",
        "train_noisy, validation",
        DIFFERENCE,
        title="memorization",
        column=4,
    ),
)
# The same of held-out questions unlike those trained; only reports of tasks that set some apart have it.
OOD = Measure(
    "validation_accuracy_ood",
    "right on held-out questions unlike those trained (the split ood)",
    "ood",
    SHARE,
    True,
    title="out of distribution",
)
RESERVED = frozenset({*(measure.name for measure in (*HEADLINE, OOD)), "noise_transfer", "twin_validation_accuracy"})
OF_NOISE = ("memorization_rate", "noisy_true_rate", "phantom_rate", "counterfactual_memorization")
# Held-out questions on which whatever must be chosen is chosen; a curve of training and no metric of the report.
SELECTION = Measure("selection_accuracy", "right on held-out questions kept for choices", "selection", SHARE, True)
