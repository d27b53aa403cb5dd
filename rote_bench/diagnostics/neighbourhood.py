"""Look-up or distributed? Does a memorised label leak to the questions related to it?

Related questions are one step away or alike in what is computed, as the task says: one digit changed; the same
intermediate result with the same second relation. A look-up table leaves them alone. Memorization that shifts what the
model computes makes mistakes beside a mislabelled question, and gives the very wrong label that was taught there.

By chance it gives that label too where it is wrong anyway. So all is compared with the same wrong labels permuted over
the mislabelled questions: which labels there are, which questions are mislabelled and what the model says stay as they
are, and only who was taught what changes (a permutation test as of Fisher, 1935).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..measures import DIFFERENCE, SHARE, Measure
from ..statistics import Estimate, cluster_codes, difference, minus, over_draws, proportion
from . import Details, Diagnostic, NotApplicable, Records, Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..subject import Subject, View

FEWEST = 20  # held-out errors of which a share is given


@dataclass(frozen=True)
class NeighbourhoodOptions:
    """How much is measured.

    Attributes:
        examples: largest number of mislabelled, and of clean, examples whose neighbours are asked.
        per_kind: neighbours of each kind asked for each example.
        permutations: of the wrong labels over the mislabelled examples.
    """

    examples: int = field(default=384, metadata={"min": 2})
    per_kind: int = field(default=2, metadata={"min": 1})
    permutations: int = field(default=40, metadata={"min": 20})


@dataclass
class _Asked:
    """Held-out neighbours: their pool index, the kind, the position of the example that they stand beside."""

    indices: list[int]
    kinds: list[str]
    beside: list[int]


class Neighbourhood(Diagnostic[NeighbourhoodOptions]):
    """Wrong labels given to related questions, against the same labels permuted."""

    name = "neighbourhood"
    version = 3
    description = "whether memorised labels leak to related questions"
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
        ),
        Measure(
            "neighbour_leakage_excess",
            "the same minus what it is with the wrong labels permuted",
            "held-out neighbours",
            DIFFERENCE,
            higher_is_better=False,
        ),
        Measure(
            "leaked_errors",
            "held-out errors that repeat a wrong label taught to a related training question",
            "validation",
            SHARE,
        ),
        Measure("leaked_errors_permuted", "the same with the wrong labels permuted", "validation", SHARE),
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
        rng = subject.rng(f"{self.name}-permuted")
        orders = [rng.permutation(len(subject.data.train.noisy)) for _ in range(self.options.permutations)]
        errors, error_draws = _errors(subject, orders)
        (noisy, said, wrong), (clean, _, base) = sides["noisy"], sides["clean"]
        # The view holds the first of all mislabelled examples; permuted over all, each may get any other's label.
        labels = [subject.data.train.labels[i] for i in subject.data.train.noisy]
        code = {label: number for number, label in enumerate(dict.fromkeys(labels))}
        taught = np.array([code[label] for label in labels])
        given, every = _given(said, wrong, code), np.arange(len(said))
        permuted = given[every, taught[np.array(orders)][:, noisy.beside]]  # (permutations, neighbours)
        nothing = [0.0] * len(clean.kinds)
        records: dict[str, list[Any]] = {
            "beside": ["noisy"] * len(said) + ["clean"] * len(base) + ["error"] * len(errors["group"]),
            "kind": [*noisy.kinds, *clean.kinds, *[""] * len(errors["group"])],
            "group": [*map(str, noisy.beside), *map(str, clean.beside), *errors["group"]],
            "wrong": [*wrong.tolist(), *base.tolist(), *[1.0] * len(errors["group"])],
            "leaked": [*given[every, taught[noisy.beside]].astype(float).tolist(), *nothing, *errors["leaked"]],
            "permuted": [*permuted.mean(0).tolist(), *nothing, *errors["permuted"]],
        }
        kinds = sorted({*noisy.kinds, *clean.kinds})
        of_kind = [np.array([each == kind for each in noisy.kinds]) for kind in kinds]
        metrics = self._found(records, permuted.mean(1).tolist(), error_draws)
        details: dict[str, Any] = {
            "kinds": {kind: {side: _column(records, side, "wrong", kind)[0].size for side in sides} for kind in kinds},
            "observed": _levels([proportion(*_column(records, "noisy", "leaked", kind)) for kind in kinds]),
            "permuted": _levels(
                [_chance(records, kind, permuted[:, rows]) for kind, rows in zip(kinds, of_kind, strict=True)]
            ),
            "wrong": {
                side: _levels([proportion(*_column(records, side, "wrong", kind)) for kind in kinds]) for side in sides
            },
            "draws": {"neighbours": permuted.mean(1).tolist(), "errors": error_draws},
            "held_out": {"errors": len(errors["group"]), "leaked": int(sum(errors["leaked"]))},
        }
        return Result(metrics, details, records)

    def implied(self, details: Details, records: Records) -> Mapping[str, Estimate | float | None]:
        draws, held = details["draws"], details["held_out"]
        if records:
            return self._found(records, draws["neighbours"], draws["errors"])

        def share(levels: Mapping[str, Sequence[float | None]], side: str) -> float:
            counts = [kind[side] for kind in details["kinds"].values()]
            hits = sum(n * (value or 0.0) for n, value in zip(counts, levels["value"], strict=True))
            return float(hits / sum(counts))

        same, enough = share(details["observed"], "noisy"), held["errors"] >= FEWEST
        return {
            "neighbour_leakage": share(details["wrong"]["noisy"], "noisy") - share(details["wrong"]["clean"], "clean"),
            "neighbour_same_label": same,
            "neighbour_leakage_excess": same - float(np.mean(draws["neighbours"])),
            "leaked_errors": held["leaked"] / held["errors"] if enough else None,
            "leaked_errors_permuted": float(np.mean(draws["errors"])) if enough else None,
        }

    @staticmethod
    def _found(records: Records, by_chance: Sequence[float], of_errors: Sequence[float]) -> dict[str, Estimate]:
        """All metrics.

        Args:
            by_chance, of_errors: what each permutation makes of neighbours and of held-out errors.
        """
        same = proportion(*_column(records, "noisy", "leaked"))
        chance = over_draws(*_column(records, "noisy", "permuted"), by_chance)
        metrics = {
            "neighbour_leakage": difference(*_column(records, "noisy", "wrong"), *_column(records, "clean", "wrong")),
            "neighbour_same_label": same,
            "neighbour_leakage_excess": replace(_within(minus(same, chance), -1.0), n=same.n),
        }
        hits, clusters = _column(records, "error", "leaked")
        if len(hits) < FEWEST:
            why = f"{len(hits)} held-out errors are too few for a share; {FEWEST} are needed"
            few = Estimate.missing(why, len(hits))
            return {**metrics, "leaked_errors": few, "leaked_errors_permuted": few}
        again = over_draws(*_column(records, "error", "permuted"), of_errors)
        return {**metrics, "leaked_errors": proportion(hits, clusters), "leaked_errors_permuted": _within(again, 0.0)}

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """How often neighbours get the very wrong label, by relation, and the same with the labels permuted."""
        from ..report import figures

        there = [i for i, value in enumerate(details["observed"]["value"]) if value is not None]
        if not there:
            return False
        panels = (
            (
                "get the very wrong label that the related question was taught",
                (details["observed"], figures.MEMORISED, "as the labels were taught", "o"),
                (details["permuted"], figures.GREY, "with the wrong labels dealt out anew (chance)", "s"),
            ),
            (
                "are answered wrong, whatever the answer",
                (details["wrong"]["noisy"], figures.MEMORISED, "beside a mislabelled question", "^"),
                (details["wrong"]["clean"], figures.HELD_OUT, "beside a correctly labelled question", "v"),
            ),
        )
        words = [kind.replace("_", " ").replace("bridge", "intermediate result") for kind in details["kinds"]]
        shown = [textwrap.fill(words[i], 14) for i in there]
        with figures.drawing(path, 2, 10.0, 4.8, share=False) as (figure, axes):
            for ax, (panel, *lines) in zip(axes, panels, strict=True):
                for k, (levels, color, label, marker) in enumerate(lines):
                    at = [place + 0.18 * (k - 0.5) for place in range(len(there))]
                    part = {key: [values[i] for i in there] for key, values in levels.items()}
                    figures.line(ax, at, part, color, label, "", marker)
                ax.set_xticks(range(len(there)), shown, fontsize=8)
                ax.set_xlim(-0.6, len(there) - 0.4)
                ax.set_ylim(bottom=0)
                figures.panel(ax, textwrap.fill(panel, 44))
            axes[0].set_ylabel("share of related held-out questions")
            named = [pair for ax in axes for pair in zip(*ax.get_legend_handles_labels(), strict=True)]
            handles, labels = zip(*named, strict=True)
            figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
            figures.title(figure, _sentence(details))
        return True


def _sentence(details: Details) -> str:
    from ..report.figures import percent

    counts = [kind["noisy"] for kind in details["kinds"].values()]
    hits = sum(n * (value or 0.0) for n, value in zip(counts, details["observed"]["value"], strict=True))
    share, chance = hits / sum(counts), float(np.mean(details["draws"]["neighbours"]))
    told = (
        f"Of held-out questions related to a mislabelled one {percent(share)} get its wrong label, {percent(chance)} by"
        " chance"
    )
    held = details["held_out"]
    if held["errors"] < FEWEST:
        return told
    again = float(np.mean(details["draws"]["errors"]))
    return (
        f"{told}. Of all {held['errors']} held-out errors {percent(held['leaked'] / held['errors'])} repeat a related"
        f" wrong label, {percent(again)} by chance"
    )


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


def _answers(subject: Subject, view: View, asked: _Asked) -> tuple[list[str], NDArray[np.float64]]:
    """What the model says to each neighbour, and whether that is wrong; a question that stands twice is asked once."""
    from ..encoding import encode
    from ..evaluation import decode

    longest: dict[int, str] = {}  # it is asked for as many words as the longest label has
    for index, row in zip(asked.indices, asked.beside, strict=True):
        label = view.labelled.labels[row]
        longest[index] = max(longest.get(index, ""), label, key=lambda text: len(text.split()))
    examples = [subject.task.example(i) for i in longest]
    answers = (None, list(longest.values()))
    both = [encode(subject.tokenizer, examples, each, named=False).to(subject.device) for each in answers]
    texts, (right, _) = decode(subject.anatomy().model, subject.tokenizer, both, batch_size=subject.batch_size)
    place = {index: number for number, index in enumerate(longest)}
    at = [place[index] for index in asked.indices]
    return [texts[i] for i in at], 1 - right.double().numpy()[at]


def _given(said: Sequence[str], wrong: NDArray[np.float64], labels: Mapping[str, int]) -> NDArray[np.bool_]:
    """(said, labels) whether an answer is wrong and begins with the label: nothing tells a model where to stop."""
    answers = {text: number for number, text in enumerate(dict.fromkeys(said))}
    table = np.zeros((len(answers), len(labels)), dtype=bool)
    for text, row in answers.items():
        words = text.split()
        begun = (labels.get(" ".join(words[:end])) for end in range(1, len(words) + 1))
        table[row, [number for number in begun if number is not None]] = True
    out: NDArray[np.bool_] = table[[answers[text] for text in said]] & (wrong > 0)[:, None]
    return out


def _errors(subject: Subject, orders: Sequence[NDArray[np.int64]]) -> tuple[dict[str, list[Any]], list[float]]:
    """Every held-out error: does it repeat a wrong label taught to a related question, and with labels permuted?

    Returns:
        Columns of the errors (``group``, ``leaked``, and ``permuted``, the share of permutations), and the share of
        errors in each permutation.
    """
    answers, train = subject.answers("validation"), subject.data.train
    place = {train.indices[i]: number for number, i in enumerate(train.noisy)}
    labels = [train.labels[i] for i in train.noisy]
    code = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    taught = np.array([code[label] for label in labels])
    dealt = taught[np.array(orders)]
    rows = np.flatnonzero(~answers.right)
    given = _given([answers.texts[i] for i in rows.tolist()], np.ones(len(rows)), code)
    leaked, permuted = np.zeros(len(rows)), np.zeros((len(orders), len(rows)))
    examples = answers.view.labelled.examples
    for k, row in enumerate(rows.tolist()):
        pools = subject.task.neighbours(examples[row]).values()
        related = sorted({place[i] for pool in pools for i in pool if i in place})
        if related:
            leaked[k] = given[k, taught[related]].any()
            permuted[:, k] = given[k, dealt[:, related]].any(1)
    columns = {
        "group": [examples[row].group for row in rows.tolist()],
        "leaked": leaked.tolist(),
        "permuted": permuted.mean(0).tolist(),
    }
    return columns, permuted.mean(1).tolist() if len(rows) else [0.0] * len(orders)


def _column(
    records: Records, beside: str, column: str, kind: str | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A column of what was asked beside mislabelled or clean examples, or of held-out errors, and the clusters."""
    sides, kinds = records["beside"], records["kind"]
    rows = [i for i, side in enumerate(sides) if side == beside and (kind is None or kinds[i] == kind)]
    return np.array([records[column][i] for i in rows], dtype=float), cluster_codes([records["group"][i] for i in rows])


def _chance(records: Records, kind: str, draws: NDArray[np.bool_]) -> Estimate:
    values, clusters = _column(records, "noisy", "permuted", kind)
    return _within(over_draws(values, clusters, draws.mean(1)), 0.0) if len(values) else Estimate.missing("none asked")


def _within(found: Estimate, least: float) -> Estimate:
    """The estimate of a share, or of a difference of shares, whose interval ends where they do."""
    if found.ci_low is None or found.ci_high is None:
        return found
    return replace(found, ci_low=max(least, found.ci_low), ci_high=min(1.0, found.ci_high))


def _levels(found: Sequence[Estimate]) -> dict[str, list[float | None]]:
    return {key: [getattr(each, key) for each in found] for key in ("value", "ci_low", "ci_high")}
