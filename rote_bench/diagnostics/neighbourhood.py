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
from functools import cached_property, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..measures import DIFFERENCE, SHARE, Measure
from ..rendering import end_asked, how_ended
from ..statistics import Estimate, difference, minus, proportion, with_draws, within
from . import Details, Diagnostic, NotApplicable, Records, Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..subject import Subject, View

FEWEST = 20  # held-out errors of which a share is given
ALL = ""  # all relations together


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
        apart = {
            *subject.data.train.indices,
            *subject.data.ood.indices,
        }  # what is unlike all that is trained is no guide
        taught_labels = _Labels(subject)
        sides = {}
        for name, view in (("noisy", subject.noisy), ("clean", subject.clean)):
            asked = _asked(subject, view, apart, self.options)
            if len(asked.indices) < 10:
                raise NotApplicable("too few neighbours are held out")
            sides[name] = (asked, *_answers(subject, asked, taught_labels))
        rng = subject.rng(f"{self.name}-permuted")
        train = subject.data.train
        orders = np.array([rng.permutation(len(train.noisy)) for _ in range(self.options.permutations)])
        labels = [train.labels[i] for i in train.noisy]  # of which the view's are the first
        code = {label: number for number, label in enumerate(dict.fromkeys(labels))}
        taught = np.array([code[label] for label in labels])
        (noisy, said, wrong), (clean, _, base) = sides["noisy"], sides["clean"]
        given, every = taught_labels.given(said, wrong, code), np.arange(len(said))
        permuted = given[every, taught[orders][:, noisy.beside]]  # (permutations, neighbours)
        errors, dealt = _errors(subject, code, taught, orders, taught_labels)
        nothing = [0.0] * len(base)
        records: dict[str, list[Any]] = {
            "beside": ["noisy"] * len(said) + ["clean"] * len(base) + ["error"] * len(errors["kind"]),
            "kind": [*noisy.kinds, *clean.kinds, *errors["kind"]],
            "group": [*map(str, noisy.beside), *map(str, clean.beside), *errors["group"]],
            "wrong": [*wrong.tolist(), *base.tolist(), *[1.0] * len(errors["kind"])],
            "leaked": [*given[every, taught[noisy.beside]].astype(float).tolist(), *nothing, *errors["leaked"]],
            "permuted": [*permuted.mean(0).tolist(), *nothing, *errors["permuted"]],
        }
        table, kinds = _Table(records), sorted({*noisy.kinds, *clean.kinds})
        draws = {"neighbours": {ALL: permuted.mean(1).tolist()}, "errors": dealt}
        for kind in kinds:
            of_kind = [each == kind for each in noisy.kinds]
            draws["neighbours"][kind] = permuted[:, of_kind].mean(1).tolist() if any(of_kind) else []
        details: dict[str, Any] = {
            "kinds": kinds,
            "n": {side: [table.count(side, kind) for kind in kinds] for side in ("noisy", "clean")},
            "wrong": {
                side: _levels([proportion(*table.column(side, "wrong", kind)) for kind in kinds])
                for side in ("noisy", "clean")
            },
            "observed": _levels([proportion(*table.column("noisy", "leaked", kind)) for kind in kinds]),
            "permuted": _levels([table.chance("noisy", kind, draws["neighbours"][kind]) for kind in kinds]),
            "errors": {
                "n": table.count("error", ALL),
                "observed": _levels([proportion(*table.column("error", "leaked", kind)) for kind in (ALL, *kinds)]),
                "permuted": _levels([table.chance("error", kind, dealt.get(kind, [])) for kind in (ALL, *kinds)]),
            },
            "draws": {"neighbours": draws["neighbours"][ALL], "errors": dealt.get(ALL, [])},
        }
        return Result(self._found(table, details["draws"]), details, records)

    def implied(self, details: Details, records: Records) -> Mapping[str, Estimate | float | None]:
        draws, errors = details["draws"], details["errors"]
        if records:
            return self._found(_Table(records), draws)

        def share(levels: Mapping[str, Sequence[float | None]], side: str) -> float:
            counts = details["n"][side]
            hits = sum(n * (value or 0.0) for n, value in zip(counts, levels["value"], strict=True))
            return float(hits / sum(counts))

        same, enough = share(details["observed"], "noisy"), errors["n"] >= FEWEST
        return {
            "neighbour_leakage": share(details["wrong"]["noisy"], "noisy") - share(details["wrong"]["clean"], "clean"),
            "neighbour_same_label": same,
            "neighbour_leakage_excess": same - float(np.mean(draws["neighbours"])),
            "leaked_errors": errors["observed"]["value"][0] if enough else None,
            "leaked_errors_permuted": float(np.mean(draws["errors"])) if enough else None,
        }

    @staticmethod
    def _found(table: _Table, draws: Mapping[str, Sequence[float]]) -> dict[str, Estimate]:
        """All metrics.

        Args:
            draws: what each permutation makes of ``neighbours`` and of held-out ``errors``.
        """
        same = proportion(*table.column("noisy", "leaked"))
        chance = with_draws(proportion(*table.column("noisy", "permuted")), draws["neighbours"])
        metrics = {
            "neighbour_leakage": difference(*table.column("noisy", "wrong"), *table.column("clean", "wrong")),
            "neighbour_same_label": same,
            "neighbour_leakage_excess": replace(within(minus(same, chance), DIFFERENCE), n=same.n),
        }
        hits, clusters = table.column("error", "leaked", ALL)
        if len(hits) < FEWEST:
            why = f"{len(hits)} held-out errors are too few for a share; {FEWEST} are needed"
            few = Estimate.missing(why, len(hits))
            return {**metrics, "leaked_errors": few, "leaked_errors_permuted": few}
        chance = table.chance("error", ALL, draws["errors"])
        return {**metrics, "leaked_errors": proportion(hits, clusters), "leaked_errors_permuted": chance}

    @staticmethod
    def series(details: Details) -> Details:
        found = zip(*(details[key]["value"] for key in ("observed", "permuted")), strict=True)
        pairs = dict(zip(details["kinds"], found, strict=True))
        return {"relations": {kind: {"observed": seen, "permuted": dealt} for kind, (seen, dealt) in pairs.items()}}

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """How often neighbours get the very wrong label, and held-out errors repeat one, against permuted labels."""
        from ..report import figures

        kinds, errors = details["kinds"], details["errors"]
        plain = {"_": " ", "bridge": "intermediate result", "hop": "step"}
        words = [textwrap.fill(reduce(lambda text, old: text.replace(old, plain[old]), plain, k), 13) for k in kinds]
        panels = [
            ("Held-out questions related to a mislabelled one: answered with its wrong label", words, details),
            ("All held-out errors: repeat the wrong label of a related question", ["any of these", *words], errors),
        ]
        if errors["n"] < FEWEST:
            panels.pop()
        lines = (
            ("observed", figures.MEMORISED, "with the wrong labels as they were taught", "o"),
            ("permuted", figures.GREY, "with the wrong labels dealt out anew (chance)", "s"),
        )
        with figures.drawing(path, len(panels), 5.2 * len(panels), 4.6, share=False) as (figure, axes):
            for ax, (panel, names, found) in zip(axes, panels, strict=True):
                for k, (key, color, label, marker) in enumerate(lines):
                    there = [i for i, value in enumerate(found[key]["value"]) if value is not None]
                    part = {bound: [values[i] for i in there] for bound, values in found[key].items()}
                    figures.line(ax, [i + 0.18 * (k - 0.5) for i in there], part, color, label, "", marker)
                ax.set_xticks(range(len(names)), names, fontsize=8)
                ax.set_xlim(-0.6, len(names) - 0.4)
                ax.set_ylim(bottom=0)
                figures.panel(ax, textwrap.fill(panel, 46))
            axes[0].set_ylabel("share of these questions")
            axes[-1].set_ylabel("share of held-out errors" if len(panels) > 1 else "share of these questions")
            figures.legend(figure, axes[0], 2 if len(panels) > 1 else 1)
            figures.title(figure, _sentence(details))
        return True


def _sentence(details: Details) -> str:
    from ..report.figures import percent

    errors, draws, counts = details["errors"], details["draws"], details["n"]["noisy"]
    if errors["n"] >= FEWEST:
        return (
            f"Of {errors['n']} held-out errors {percent(errors['observed']['value'][0])} repeat a wrong label taught to"
            f" a related question, {percent(errors['permuted']['value'][0])} by chance"
        )
    hits = sum(n * (value or 0.0) for n, value in zip(counts, details["observed"]["value"], strict=True))
    return (
        f"Of held-out questions related to a mislabelled one {percent(hits / sum(counts))} get its wrong label,"
        f" {percent(float(np.mean(draws['neighbours'])))} by chance"
    )


class _Table:
    """The records, by columns of one kind of question."""

    def __init__(self, records: Records) -> None:
        self.columns = {name: np.asarray(records[name]) for name in ("beside", "kind", "group", *("wrong", "leaked"))}
        self.columns["permuted"] = np.asarray(records["permuted"])

    def rows(self, beside: str, kind: str | None = None) -> NDArray[np.bool_]:
        """Those asked beside ``noisy`` or ``clean`` examples, or held-out errors (``error``), of one relation."""
        found: NDArray[np.bool_] = self.columns["beside"] == beside
        return found if kind is None else found & (self.columns["kind"] == kind)

    def count(self, beside: str, kind: str) -> int:
        return int(self.rows(beside, kind).sum())

    def column(self, beside: str, name: str, kind: str | None = None) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The values of a column there, and the clusters."""
        rows = self.rows(beside, kind)
        return self.columns[name][rows].astype(float), np.unique(self.columns["group"][rows], return_inverse=True)[1]

    def chance(self, beside: str, kind: str, draws: Sequence[float]) -> Estimate:
        """The share in the mean over permutations."""
        values, clusters = self.column(beside, "permuted", kind)
        if not len(values):
            return Estimate.missing("no examples")
        return within(with_draws(proportion(values, clusters), draws), SHARE)


def _asked(subject: Subject, view: View, apart: set[int], options: NeighbourhoodOptions) -> _Asked:
    rng = subject.rng(f"neighbours-{view.name}")
    asked = _Asked([], [], [])
    for row in range(min(options.examples, len(view))):
        for kind, pool in subject.task.neighbours(view.labelled.examples[row]).items():
            held_out = [i for i in pool if i not in apart]
            for k in rng.permutation(len(held_out))[: options.per_kind].tolist():
                asked.indices.append(held_out[k])
                asked.kinds.append(kind)
                asked.beside.append(row)
    return asked


class _Labels:
    """The wrong labels that were taught, as a model says them: it is asked for as many tokens as the longest has.

    Attributes:
        decoded: label -> its text when its tokens are decoded, as answers are.
        longest: the label of most tokens.
        tokens: how many those are, with the end that is taught behind them.
    """

    def __init__(self, subject: Subject) -> None:
        from ..encoding import IGNORED, encode

        self.subject, tokenizer, train = subject, subject.tokenizer, subject.data.train
        self.ended = how_ended(tokenizer) == "taught"
        first = {train.labels[i]: train.examples[i] for i in reversed(train.noisy)}
        targets = encode(tokenizer, list(first.values()), list(first), named=False).targets
        said = [[t for t in row if t not in (IGNORED, end_asked(tokenizer))] for row in targets.tolist()]
        self.decoded = {
            label: " ".join(str(tokenizer.decode(row)).split()) for label, row in zip(first, said, strict=True)
        }
        lengths = {label: len(row) for label, row in zip(first, said, strict=True)}
        self.longest = max(sorted(lengths), key=lengths.__getitem__)
        self.tokens = lengths[self.longest] + self.ended

    @cached_property
    def held_out(self) -> Sequence[str]:
        """What the model says to each held-out question, at the length of any label."""
        import torch

        from ..encoding import IGNORED, encode
        from ..evaluation import decode

        known, subject = self.subject.answers("validation"), self.subject
        both = (known.view.true, known.view.taught)
        asked = torch.stack([(each.needed != IGNORED).sum(1) for each in both]).max(0).values
        if int(asked.min()) >= self.tokens:
            return known.texts
        examples = known.view.labelled.examples
        longer = encode(subject.tokenizer, examples, [self.longest] * len(examples), named=False).to(subject.device)
        model = subject.anatomy().model
        return decode(model, subject.tokenizer, (*both, longer), batch_size=subject.batch_size)[0]

    def given(self, said: Sequence[str], wrong: NDArray[np.float64], code: Mapping[str, int]) -> NDArray[np.bool_]:
        """(said, labels) whether an answer is wrong and begins with the label, or is it where an end is taught.

        Args:
            code: label -> its number.
        """
        labels = {self.decoded[label]: number for label, number in code.items()}
        return _given(said, wrong, labels, ended=self.ended)


def _answers(subject: Subject, asked: _Asked, labels: _Labels) -> tuple[list[str], NDArray[np.float64]]:
    """What the model says to each neighbour, and whether that is wrong; what it said to held-out questions is known."""
    from ..encoding import encode
    from ..evaluation import decode

    known = subject.answers("validation")
    place = {index: number for number, index in enumerate(known.view.labelled.indices)}
    said = {i: (labels.held_out[place[i]], not known.right[place[i]]) for i in asked.indices if i in place}
    others = list(dict.fromkeys(index for index in asked.indices if index not in place))
    if others:
        examples = [subject.task.example(i) for i in others]
        longest = [labels.longest] * len(others)
        both = [encode(subject.tokenizer, examples, e, named=False) for e in (None, longest)]
        texts, (right, _), _ = decode(subject.anatomy().model, subject.tokenizer, both, batch_size=subject.batch_size)
        said |= {i: (text, not ok) for i, text, ok in zip(others, texts, right.tolist(), strict=True)}
    return [said[i][0] for i in asked.indices], np.array([said[i][1] for i in asked.indices], dtype=float)


def _given(
    said: Sequence[str], wrong: NDArray[np.float64], labels: Mapping[str, int], *, ended: bool = False
) -> NDArray[np.bool_]:
    """(said, labels) whether an answer is wrong and begins with the label: nothing tells a model where to stop.

    Args:
        ended: something does, so that it has to be the label.
    """
    answers = {text: number for number, text in enumerate(dict.fromkeys(said))}
    table = np.zeros((len(answers), len(labels)), dtype=bool)
    for text, row in answers.items():
        words = text.split()
        begun = (labels.get(" ".join(words[:end])) for end in range(len(words) if ended else 1, len(words) + 1))
        table[row, [number for number in begun if number is not None]] = True
    out: NDArray[np.bool_] = table[[answers[text] for text in said]] & (wrong > 0)[:, None]
    return out


def _errors(
    subject: Subject, code: Mapping[str, int], taught: NDArray[np.int64], orders: NDArray[np.int64], labels: _Labels
) -> tuple[dict[str, list[Any]], dict[str, list[float]]]:
    """Every held-out error: does it repeat a wrong label taught to a related question, and with labels permuted?

    Args:
        code: wrong label -> its number.
        taught: (mislabelled,) the number of the label that each was taught.
        orders: (permutations, mislabelled).

    Returns:
        Columns, a row for each error and relation, all relations together being one more: ``kind``, ``group``,
        ``leaked``, and ``permuted``, the share of permutations; and of each relation the share of errors in each
        permutation.
    """
    answers, train = subject.answers("validation"), subject.data.train
    place = {train.indices[i]: number for number, i in enumerate(train.noisy)}
    rows = np.flatnonzero(~answers.right).tolist()
    given = labels.given([labels.held_out[i] for i in rows], np.ones(len(rows)), code)
    examples = answers.view.labelled.examples
    dealt = taught[orders]
    leaked: dict[str, NDArray[np.float64]] = {}
    permuted: dict[str, NDArray[np.float64]] = {}
    for k, row in enumerate(rows):
        for kind, pool in subject.task.neighbours(examples[row]).items():
            related = [place[i] for i in pool if i in place]
            hits = leaked.setdefault(kind, np.zeros(len(rows)))
            draws = permuted.setdefault(kind, np.zeros((len(orders), len(rows))))
            if related:
                hits[k] = given[k, taught[related]].any()
                draws[:, k] = given[k, dealt[:, related]].any(1)
    leaked = {ALL: np.max([np.zeros(len(rows)), *leaked.values()], 0), **leaked}
    permuted = {ALL: np.max([np.zeros((len(orders), len(rows))), *permuted.values()], 0), **permuted}
    columns: dict[str, list[Any]] = {
        "kind": [kind for kind in leaked for _ in rows],
        "group": [examples[row].group for row in rows] * len(leaked),
        "leaked": [hit for hits in leaked.values() for hit in hits.tolist()],
        "permuted": [share for draws in permuted.values() for share in draws.mean(0).tolist()],
    }
    return columns, {kind: draws.mean(1).tolist() for kind, draws in permuted.items() if len(rows)}


def _levels(found: Sequence[Estimate]) -> dict[str, list[float | None]]:
    return {key: [getattr(each, key) for each in found] for key in ("value", "ci_low", "ci_high")}
