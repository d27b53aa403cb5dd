"""What would the nearest training questions answer, their wrong labels included?

A yardstick without a network, for accuracy on V and for what wrong labels cost there: whoever does no better may have
looked the answers up. The distance is the task's own (``Task.nearest``).

Source: the nearest-neighbour rule of Cover and Hart (1967), which repeats a wrong label as often as it meets one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..measures import SHARE, Measure
from ..statistics import Estimate, cluster_codes, proportion
from ..tasks.hooks import nearest
from . import Details, Diagnostic, NotApplicable, Records, Result

if TYPE_CHECKING:
    from ..subject import Subject

NEIGHBOURS = (1, 3, 5)


@dataclass(frozen=True)
class NearestOptions:
    """How much is measured.

    Attributes:
        examples: largest number of held-out questions.
    """

    examples: int = field(default=10_000, metadata={"min": 2})


class Nearest(Diagnostic[NearestOptions]):
    """Accuracy on V of a vote over the k nearest training questions."""

    name = "nearest"
    version = 2
    description = "what the nearest training questions, wrong labels included, would answer"
    metrics: ClassVar[tuple[Measure, ...]] = tuple(
        Measure(
            f"nearest_neighbour_{k}",
            "held-out questions that the nearest training question answers right"
            if k == 1
            else f"held-out questions that a vote of the {k} nearest training questions answers right",
            "validation",
            SHARE,
        )
        for k in NEIGHBOURS
    )
    Options: ClassVar[type] = NearestOptions
    passes = (3, 0)
    needs_noise = False

    def run(self, subject: Subject) -> Result:
        train, held = subject.data.train, subject.data.validation
        held = held.take(range(min(self.options.examples, len(held))))
        found = nearest(subject.task, train.indices, train.labels, held.indices, max(NEIGHBOURS))
        if found is None:
            raise NotApplicable("the task has no distance between its questions, or too many of them to compare")
        near = [[train.labels[i] for i in row if i >= 0] for row in found.tolist()]
        records: dict[str, list[Any]] = {
            "index": list(held.indices),
            "group": [e.group for e in held.examples],
            "answer": [e.answer for e in held.examples],
            **{f"vote_{k}": [vote(labels[:k]) for labels in near] for k in NEIGHBOURS},
        }
        metrics = {f"nearest_neighbour_{k}": self._right(records, k) for k in NEIGHBOURS}
        right = {str(k): metrics[f"nearest_neighbour_{k}"].value for k in NEIGHBOURS}
        bounds = ("value", "ci_low", "ci_high")
        lines = {bound: [getattr(metrics[f"nearest_neighbour_{k}"], bound) for k in NEIGHBOURS] for bound in bounds}
        return Result(metrics, {"right": right, "levels": lines}, records)

    def implied(self, details: Details, records: Records) -> Mapping[str, Estimate | float]:
        right = {f"nearest_neighbour_{k}": float(details["right"][str(k)]) for k in NEIGHBOURS}
        return {f"nearest_neighbour_{k}": self._right(records, k) for k in NEIGHBOURS} if records else right

    def _right(self, records: Records, k: int) -> Estimate:
        """The share of right votes."""
        hits = [given == answer for given, answer in zip(records[f"vote_{k}"], records["answer"], strict=True)]
        return proportion(hits, cluster_codes(records["group"]))

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """Accuracy of the vote, by the number of neighbours."""
        from ..report import figures

        levels = details["levels"]
        with figures.drawing(path, 1, 5.6, 3.6) as (figure, (ax,)):
            places = list(range(len(NEIGHBOURS)))
            figures.line(ax, places, levels, figures.HELD_OUT, "right answers of the vote", "")
            for place, value in zip(places, levels["value"], strict=True):
                ax.annotate(f"{value:.3f}", (place + 0.07, value), va="center", fontsize=9)
            ax.set_xticks(places, ["the nearest", *(f"{k} nearest" for k in NEIGHBOURS[1:])])
            ax.set_xlim(-0.5, len(places) - 0.3)
            figures.shares(ax, "right on held-out questions")
            ax.set_xlabel("training questions that vote, with the labels they were taught")
            one, five = figures.percent(levels["value"][0]), figures.percent(levels["value"][-1])
            figures.title(
                figure,
                f"Without any model the nearest training question answers {one} of the held-out ones right,"
                f" a vote of the {NEIGHBOURS[-1]} nearest {five}",
            )
        return True


def vote(labels: Sequence[str]) -> str:
    """The most common label, of equally common ones the nearest; none where there are no neighbours."""
    return Counter(labels).most_common(1)[0][0] if labels else ""
