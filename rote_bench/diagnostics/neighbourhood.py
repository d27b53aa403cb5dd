"""Look-up or distributed? Does a memorised label leak to the examples next to it?

Neighbours are held-out examples one step away: one digit changed; the same bridge with another relation; the same
relations of another entity. A look-up table leaves them alone. Memorization that shifts what the model computes makes
more mistakes beside a mislabelled example than beside a clean one, or gives the very same wrong label there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..measures import DIFFERENCE, SHARE, Measure
from ..statistics import Estimate, difference
from . import Details, Diagnostic, NotApplicable, Records, Result

if TYPE_CHECKING:
    from ..subject import Subject, View


@dataclass(frozen=True)
class NeighbourhoodOptions:
    """How much is measured.

    Attributes:
        examples: largest number of mislabelled, and of clean, examples whose neighbours are asked.
        per_kind: neighbours of each kind asked for each example.
    """

    examples: int = field(default=384, metadata={"min": 2})
    per_kind: int = field(default=2, metadata={"min": 1})


@dataclass
class _Asked:
    """Held-out neighbours: their pool index, the kind, the position of the example that they stand beside."""

    indices: list[int]
    kinds: list[str]
    beside: list[int]


class Neighbourhood(Diagnostic[NeighbourhoodOptions]):
    """Errors beside mislabelled examples against errors beside clean ones."""

    name = "neighbourhood"
    version = 2
    description = "whether a memorised label leaks to the examples next to it"
    metrics: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "neighbour_leakage",
            "errors beside mislabelled examples minus errors beside clean ones",
            "held-out neighbours",
            DIFFERENCE,
            higher_is_better=False,
        ),
        Measure(
            "neighbour_same_label",
            "neighbours answered with the very same wrong label",
            "held-out neighbours",
            SHARE,
            higher_is_better=False,
            interval="a level beside the difference, which has one",
        ),
    )
    Options: ClassVar[type] = NeighbourhoodOptions
    passes = (18, 0)

    def run(self, subject: Subject) -> Result:
        if len(subject.noisy) == 0:
            raise NotApplicable("no noisy labels at this noise rate")
        if not subject.task.neighbours(subject.noisy.labelled.examples[0]):
            raise NotApplicable("the task defines no neighbours")
        trained = set(subject.data.train.indices)
        sides = {}
        for name, view in (("noisy", subject.noisy), ("clean", subject.clean)):
            asked = _asked(subject, view, trained, self.options)
            if len(asked.indices) < 10:
                raise NotApplicable("too few neighbours are held out")
            sides[name] = (asked, *_answers(subject, view, asked))
        kinds = sorted({kind for asked, _, _ in sides.values() for kind in asked.kinds})
        by_kind: dict[str, Any] = {}
        for kind in kinds:
            row: dict[str, Any] = {}
            for name, (asked, wrong, leaked) in sides.items():
                of_kind = np.array([k == kind for k in asked.kinds])
                for what, hits in (("error", wrong), ("same_label", leaked)):
                    row[f"{what}_beside_{name}"] = float(hits[of_kind].mean()) if of_kind.any() else None
                row[f"n_{name}"] = int(of_kind.sum())
            by_kind[kind] = row
        (noisy, wrong, leaked), (clean, base, _) = sides["noisy"], sides["clean"]
        metrics = {
            "neighbour_leakage": difference(wrong, noisy.beside, base, clean.beside),
            "neighbour_same_label": Estimate(float(leaked.mean()), None, None, None, len(leaked)),
        }
        return Result(metrics, {"kinds": by_kind})

    def implied(self, details: Details, records: Records) -> Mapping[str, Estimate | float]:
        kinds = details["kinds"].values()
        asked = {side: sum(kind[f"n_{side}"] for kind in kinds) for side in ("noisy", "clean")}

        def mean(what: str, side: str) -> float:
            hits = sum(kind[f"{what}_beside_{side}"] * kind[f"n_{side}"] for kind in kinds if kind[f"n_{side}"])
            return float(hits / asked[side])

        return {
            "neighbour_leakage": mean("error", "noisy") - mean("error", "clean"),
            "neighbour_same_label": Estimate(mean("same_label", "noisy"), None, None, None, asked["noisy"]),
        }

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """Errors beside mislabelled and beside clean examples, by kind of neighbour."""
        from ..report import figures

        kinds = details["kinds"]
        bars = (
            ("error_beside_noisy", figures.MEMORISED, "wrong beside a mislabelled example"),
            ("error_beside_clean", figures.HELD_OUT, "wrong beside a clean one"),
            ("same_label_beside_noisy", figures.GREY, "gives the neighbour's wrong label"),
        )
        with figures.drawing(path, 1, 1.6 * len(kinds) + 3.0, 4.0) as (figure, (ax,)):
            for k, (key, color, text) in enumerate(bars):
                at = [i + 0.25 * (k - 1) for i in range(len(kinds))]
                ax.bar(at, [row[key] or 0.0 for row in kinds.values()], 0.24, color=color, label=text, zorder=2 + k)
            ax.set_xticks(range(len(kinds)), [name.replace("_", " ") for name in kinds])
            ax.set_ylabel("share of held-out neighbours")
            figures.legend(figure, ax, 2)
            figures.title(figure, "Does a memorised label leak to its neighbours?")
        return True


def _asked(subject: Subject, view: View, trained: set[int], options: NeighbourhoodOptions) -> _Asked:
    rng = subject.rng(f"neighbours-{view.name}")
    asked = _Asked([], [], [])
    for row in range(min(options.examples, len(view))):
        for kind, pool in subject.task.neighbours(view.labelled.examples[row]).items():
            held_out = [i for i in pool if i not in trained]
            for k in rng.permutation(len(held_out))[: options.per_kind].tolist():
                asked.indices.append(held_out[k])
                asked.kinds.append(kind)
                asked.beside.append(row)
    return asked


def _answers(subject: Subject, view: View, asked: _Asked) -> tuple[Any, Any]:
    """Per neighbour: is the answer wrong, and is it the label of the example that it stands beside?"""
    from ..encoding import encode
    from ..evaluation import matches

    examples = [subject.task.example(i) for i in asked.indices]
    labels = [view.labelled.labels[row] for row in asked.beside]
    true = encode(subject.tokenizer, examples, named=False)
    taught = encode(subject.tokenizer, examples, labels, named=False)
    right, same = matches(subject.anatomy().model, [true, taught], batch_size=subject.batch_size)
    fair = np.array([label != e.answer for label, e in zip(labels, examples, strict=True)])
    return 1 - right.double().numpy(), same.double().numpy() * fair
