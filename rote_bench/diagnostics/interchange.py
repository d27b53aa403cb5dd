"""Is the intermediate result used? Swap it between examples and see whether the answer becomes the one it implies.

The part of the residual stream that carries the intermediate result (the span that LEACE would remove) is taken from
another example; everything else stays. If the model reasons through it, the answer changes to the one that the task
itself gives for the swapped value ("modify the intermediate step to elicit an alternative answer", Du et al., 2025;
interchange interventions: Geiger et al., 2021). On memorised questions it is asked whether the wrong label gives way to
that answer, or stays. Controls: random subspaces of the same rank and variance, and, for the label that stays, another
example whose intermediate result is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from ..measures import SHARE, Measure
from ..statistics import Estimate, cluster_codes, proportion, with_draws, within
from . import Details, Diagnostic, NotApplicable, Records, Result, levels

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ..interventions import Edit
    from ..linear import Eraser
    from ..subject import Subject, View

Hits: TypeAlias = "NDArray[np.bool_]"
Levels: TypeAlias = "dict[str, list[float | None]]"
LARGEST_SHARE = 0.34
FEWEST = 10  # pairs
DRAWS = 5  # random subspaces at the chosen layer; one at others, where they decide nothing
# Metric -> what is asked of which examples, and the column of records that holds what came of it.
FOUND = {
    "interchange_accuracy": ("validation", "implied", "swapped"),
    "interchange_control": ("validation", "implied", "random"),
    "interchange_memorization": ("train_noisy", "implied", "swapped"),
    "interchange_memorization_control": ("train_noisy", "implied", "random"),
    "interchange_kept_label": ("train_noisy", "label", "swapped"),
    "interchange_kept_label_control": ("train_noisy", "label of same", "swapped"),
}


@dataclass(frozen=True)
class InterchangeOptions:
    """What is swapped.

    Attributes:
        intermediate: the intermediate result; the task's first when empty.
        fit_examples: clean training examples from which its subspace is fitted.
        examples: largest number of examples of each kind.
    """

    intermediate: str = ""
    fit_examples: int = field(default=4096, metadata={"min": 10})
    examples: int = field(default=512, metadata={"min": 2})


class Interchange(Diagnostic[InterchangeOptions]):
    """Swapping an intermediate result between examples, by layer."""

    name = "interchange"
    version = 3
    description = "whether swapping the intermediate result makes the model give the answer that it implies"
    metrics: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "interchange_accuracy",
            "answers that follow another example's intermediate result, swapped in",
            "validation",
            SHARE,
        ),
        Measure("interchange_control", "the same for random subspaces", "validation", SHARE),
        Measure(
            "interchange_memorization",
            "answers to memorised questions that follow another example's intermediate result, swapped in",
            "train_noisy",
            SHARE,
        ),
        Measure("interchange_memorization_control", "the same for random subspaces", "train_noisy", SHARE),
        Measure("interchange_kept_label", "wrong labels that are still given then", "train_noisy", SHARE),
        Measure(
            "interchange_kept_label_control",
            "wrong labels still given when another example with the same intermediate result is swapped in",
            "train_noisy",
            SHARE,
        ),
    )
    Options: ClassVar[type] = InterchangeOptions
    passes = (30, 19)
    needs_noise = False

    def run(self, subject: Subject) -> Result:
        import torch

        support = subject.anatomy().supports("block")
        if not support.ok:
            raise NotApplicable(f"the model's blocks could not be proved: {support.detail}")
        fit = subject.more_clean(self.options.fit_examples)
        known = list(fit.labelled.examples[0].intermediates)
        name = self.options.intermediate or (known[0] if known else "")
        if name not in known:
            raise NotApplicable(f"the task has no intermediate result {name!r}" if name else "the task has none")
        rank, width = len(subject.task.values(name)) - 1, subject.anatomy().width
        if rank > LARGEST_SHARE * width:
            raise NotApplicable(f"{name} spans up to {rank} of {width} directions: swapping it would swap nearly all")
        limit, held = self.options.examples, (subject.selection, subject.validation)
        pairs = {view.name: _pairs(subject, view, view, name, limit) for view in held}
        if any(len(each.rows) < FEWEST for each in pairs.values()):
            raise NotApplicable("too few pairs of examples imply a changed answer")
        noisy, without = subject.noisy, None
        if len(noisy) == 0:
            without = "no noisy labels at this noise rate"
        else:
            pairs["noisy"] = _pairs(subject, noisy, subject.validation, name, limit)
            pairs["same"] = _same(subject, noisy, subject.validation, name, limit)
            if min(len(pairs["noisy"].rows), len(pairs["same"].rows)) < FEWEST:
                without = "too few pairs of memorised and held-out questions"
        views = [*held, *([noisy] if without is None else [])]
        places = [place for place in fit.places if all(place in view.places for view in views)]
        at = {view.name: torch.stack([view.places[place] for place in places], 1) for view in (fit, *held)}
        spaces = _spaces(subject, subject.states(fit, at[fit.name]), fit, places, name)
        donors = {view.name: list(subject.states(view, at[view.name])) for view in held}
        whole = [(layer, space["concept"]) for layer, space in enumerate(spaces)]

        def tried(view: View, key: str, wanted: Sequence[tuple[int, Mapping[str, Eraser]]]) -> dict[str, Hits]:
            own = donors["selection" if key == "selection" else "validation"]
            return _swapped(subject, view, pairs[key], [_Swap(at, places, own[at], space) for at, space in wanted])

        chosen_by = tried(subject.selection, "selection", whole)["implied"][:, 1:]
        best = int(chosen_by.mean(0).argmax())
        counts = [DRAWS if layer == best else 1 for layer in range(len(spaces))]
        ways = [*whole, *((at, spaces[at][f"random {k}"]) for at, count in enumerate(counts) for k in range(count))]
        tables = [
            _Table("validation", "implied", "validation", tried(subject.validation, "validation", ways)["implied"])
        ]
        if without is None:
            hits = tried(noisy, "noisy", ways)
            tables += [_Table("train_noisy", asked, "noisy", hits[asked]) for asked in ("implied", "label")]
            tables.append(_Table("train_noisy", "label of same", "same", tried(noisy, "same", whole)["label"]))
        records = _records(subject, tables, pairs, best, counts)
        details = {
            "intermediate": name,
            "layers": list(range(1, len(spaces) + 1)),
            "chosen_layer": best + 1,
            "chosen_by": chosen_by.mean(0).tolist(),
            "draws": counts,
            "pairs": {key: len(each.rows) for key, each in pairs.items()},
            "without_memorized": without,
            "lines": _lines(subject, tables, pairs, counts),
            "variance_moved": {
                way: [float(np.mean([e.variance for e in each[kind].values()])) for each in spaces]
                for way, kind in (("concept", "concept"), ("random", "random 0"))
            },
        }
        return Result(self._estimates(details, records), details, records)

    def _estimates(self, details: Details, records: Records) -> dict[str, Estimate]:
        """The shares at the chosen layer, from what is kept of each example."""
        out, at = {}, details["chosen_layer"] - 1
        rows = list(zip(records["split"], records["asked"], strict=True))
        for metric, (split, asked, column) in FOUND.items():
            chosen = [i for i, row in enumerate(rows) if row == (split, asked)]
            if not chosen:
                out[metric] = Estimate.missing(details["without_memorized"])
                continue
            clusters = cluster_codes([records["group"][i] for i in chosen])
            hits = np.array([records[column][i] for i in chosen], dtype=float)
            out[metric] = proportion(hits[:, at], clusters) if column == "swapped" else _over_draws(hits, clusters)
        return out

    def implied(self, details: Details, records: Records) -> Mapping[str, Estimate | float | None]:
        if records:
            return self._estimates(details, records)
        at, lines = details["chosen_layer"] - 1, details["lines"]
        return {
            metric: lines[split][asked][column]["value"][at] if split in lines else None
            for metric, (split, asked, column) in FOUND.items()
        }

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """How often a swapped intermediate result decides the answer, and how often a wrong label stays."""
        from ..report import figures

        lines, layers = details["lines"], details["layers"]
        at = min(max(round(details["chosen_layer"]), 1), len(layers)) - 1
        name = details["intermediate"].replace("_", " ")
        shown = [
            ("validation", "implied", "swapped", "answers that follow the swapped-in result", figures.TRUE, "-", "o"),
            ("validation", "implied", "random", "the same, random directions swapped", figures.GREY, ":", "s"),
            ("train_noisy", "implied", "swapped", "", figures.TRUE, "-", "o"),
            ("train_noisy", "implied", "random", "", figures.GREY, ":", "s"),
            ("train_noisy", "label", "swapped", "wrong labels still given", figures.MEMORISED, "-", "o"),
            ("train_noisy", "label of same", "swapped", "the same, an equal result swapped in", "#E69F00", "--", "s"),
        ]
        splits = [split for split in ("validation", "train_noisy") if split in lines]
        with figures.drawing(path, len(splits), 4.6 * len(splits) + (1.8 if len(splits) == 1 else 0), 4.8) as (
            figure,
            axes,
        ):
            for split, ax in zip(splits, axes, strict=True):
                for of, asked, way, text, color, dash, marker in shown:
                    if of == split:
                        figures.line(ax, layers, lines[of][asked][way], color, text, dash, marker)
                figures.panel(ax, "held-out questions" if split == "validation" else "memorised questions")
                figures.layer_ticks(ax, layers, "swapped after layer")
                figures.shares(ax)
            axes[0].set_ylabel("share of questions")
            handles = [h for ax in axes for h, text in zip(*ax.get_legend_handles_labels(), strict=True) if text]
            figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)

            def share(split: str, asked: str, way: str) -> str:
                return figures.percent(lines[split][asked][way]["value"][at])

            text = (
                f"With another question's intermediate result ({name}) put in after layer {at + 1},"
                f" {share('validation', 'implied', 'swapped')} of held-out answers follow it"
                f" ({share('validation', 'implied', 'random')} with random directions)"
            )
            if "train_noisy" in lines:
                text += (
                    f"; of memorised questions {share('train_noisy', 'implied', 'swapped')} follow it"
                    f" and {share('train_noisy', 'label', 'swapped')} keep their wrong label"
                    f" ({share('train_noisy', 'label of same', 'swapped')} with an equal result)"
                )
            figures.title(figure, text)
        return True


@dataclass(frozen=True)
class _Pairs:
    """Rows of a view, the row that each takes the intermediate result from, and the answers implied."""

    rows: list[int]
    sources: list[int]
    implied: list[str]


@dataclass(frozen=True)
class _Table:
    """What was asked of the pairs of a split, and (n, 1 + swaps) whether it was given, by the intact model first."""

    split: str
    asked: str
    pairs: str
    hits: Hits

    def swapped(self, layers: int) -> Hits:
        """(n, layers) under the concept's swap."""
        return self.hits[:, 1 : 1 + layers]

    def random(self, counts: Sequence[int]) -> list[Hits]:
        """By layer, (n, draws) under swaps of random subspaces; empty where there were none."""
        drawn = self.hits[:, 1 + len(counts) :]
        return np.split(drawn, np.cumsum(counts)[:-1], 1) if drawn.shape[1] else []


def _pairs(subject: Subject, view: View, donor: View, name: str, limit: int) -> _Pairs:
    """A random example of the donor's for each whose intermediate result implies another answer than all that the
    example has: the true one and, if it was taught another, the label."""
    rng = subject.rng(f"interchange-{view.name}")
    examples, labels, others = view.labelled.examples, view.labelled.labels, donor.labelled.examples
    rows, sources, implied = [], [], []
    for row in range(min(limit, len(examples))):
        taken = {examples[row].answer, *([labels[row]] if view.name == "noisy" else [])}
        for source in rng.integers(len(others), size=8).tolist():
            answer = subject.task.answer_if(examples[row], name, others[source].intermediates[name])
            if answer is not None and answer not in taken:
                rows.append(row)
                sources.append(source)
                implied.append(answer)
                break
    return _Pairs(rows, sources, implied)


def _same(subject: Subject, view: View, donor: View, name: str, limit: int) -> _Pairs:
    """A random example of the donor's with the same intermediate result for each."""
    rng = subject.rng("interchange-same")
    having: dict[str, list[int]] = {}
    for source, example in enumerate(donor.labelled.examples):
        having.setdefault(example.intermediates[name], []).append(source)
    examples = view.labelled.examples[:limit]
    rows = [row for row, example in enumerate(examples) if example.intermediates[name] in having]
    sources = [int(rng.choice(having[examples[row].intermediates[name]])) for row in rows]
    return _Pairs(rows, sources, [examples[row].answer for row in rows])


def _spaces(
    subject: Subject, states: Iterable[Tensor], fit: View, names: Sequence[str], name: str
) -> list[dict[str, dict[str, Eraser]]]:
    """By layer, the concept's subspace and random ones, for every position from the first that reads it.

    Args:
        states: by layer, (n, positions, width) outputs of the block at the places named.
    """
    import torch

    from ..linear import Whitened, one_hot, readable_from

    values = subject.task.values(name)
    classes = torch.from_numpy(fit.intermediate(name, values)).to(fit.true.input_ids.device)
    places = {place: fit.places[place] for place in names}
    out = []
    for layer, of_layer in enumerate(states):
        chosen = readable_from(of_layer, places, {name: (classes, len(values))}).places
        generator = torch.Generator().manual_seed(int(subject.rng(f"interchange-{layer}").integers(2**31)))
        spaces: dict[str, dict[str, Eraser]] = {"concept": {}, **{f"random {k}": {} for k in range(DRAWS)}}
        for place in chosen:
            at = Whitened(of_layer[:, names.index(place)])
            spaces["concept"][place] = at.leace(one_hot(classes, len(values)))
            for k in range(DRAWS):
                spaces[f"random {k}"][place] = at.random(spaces["concept"][place], generator)
        out.append(spaces)
    return out


@dataclass(frozen=True)
class _Swap:
    """What one run swaps: after which layer, in which space at each place, from which states (n, names, width)."""

    layer: int
    names: Sequence[str]
    donors: Tensor
    spaces: Mapping[str, Eraser]

    def edit(self, view: View, rows: Tensor, sources: Tensor) -> Edit:
        """At each place of some rows, what the source has in the space."""
        import torch

        index = torch.arange(len(rows), device=rows.device)

        def edit(state: Tensor) -> Tensor:
            changed = state.clone()
            for place, space in self.spaces.items():
                own = view.places[place][rows]
                here = state[index, own].float()
                moved = space.part(self.donors[sources, self.names.index(place)] - here)
                changed[index, own] = (here + moved).to(state.dtype)
            return changed

        return edit


def _swapped(subject: Subject, view: View, pairs: _Pairs, swaps: Sequence[_Swap]) -> dict[str, Hits]:
    """(pairs, 1 + swaps) whether the answer is the implied one, and the label: of the intact model and of each swap."""
    import torch

    from ..encoding import encode
    from ..evaluation import alike, batches, scored
    from ..interventions import Intact, Site, run

    anatomy = subject.anatomy()
    examples = view.labelled.take(pairs.rows)
    asked = {"implied": encode(subject.tokenizer, examples.examples, pairs.implied).to(subject.device)}
    if view.name == "noisy":
        asked["label"] = encode(subject.tokenizer, examples.examples, examples.labels).to(subject.device)
    rows = torch.tensor(pairs.rows, device=asked["implied"].input_ids.device)
    sources = torch.tensor(pairs.sources, device=rows.device)
    hits: dict[str, list[Tensor]] = {kind: [] for kind in asked}
    with torch.inference_mode():
        for part in batches(len(rows), subject.batch_size):
            for group in alike({kind: encoded.rows(part) for kind, encoded in asked.items()}):
                ids = next(iter(group.values())).input_ids
                intact = Intact(anatomy, ids, columns=scored([*group.values()]))
                edits: list[dict[Site, Edit]] = [
                    {Site(swap.layer, "block"): swap.edit(view, rows[part], sources[part])} for swap in swaps
                ]
                given = [run(anatomy, ids, edit, intact) for edit in [{}, *edits]]
                for kind, encoded in group.items():
                    found = [encoded.correct(logits, intact.columns).cpu() for logits in given]
                    hits[kind].append(torch.stack(found, 1))
    return {kind: torch.cat(parts).numpy() for kind, parts in hits.items()}


def _over_draws(hits: NDArray[Any], clusters: NDArray[np.int64]) -> Estimate:
    """The share of hits (n, draws), mean over draws, with the spread of both."""
    found = proportion(hits.mean(1), clusters)
    return within(with_draws(found, hits.mean(0)), SHARE) if hits.shape[1] > 1 else found


def _asked_view(subject: Subject, table: _Table) -> View:
    return subject.validation if table.split == "validation" else subject.noisy


def _lines(
    subject: Subject, tables: Sequence[_Table], pairs: Mapping[str, _Pairs], counts: Sequence[int]
) -> dict[str, dict[str, dict[str, Levels]]]:
    """Split -> what was asked -> intact, swapped and random: shares by layer with their intervals."""
    out: dict[str, dict[str, dict[str, Levels]]] = {}
    for table in tables:
        clusters = _asked_view(subject, table).clusters[pairs[table.pairs].rows]
        of_table: dict[str, Levels] = {
            "intact": levels(np.repeat(table.hits[:, :1], len(counts), 1), clusters),
            "swapped": levels(table.swapped(len(counts)), clusters),
        }
        if drawn := [_over_draws(each, clusters) for each in table.random(counts)]:
            of_table["random"] = {key: [getattr(e, key) for e in drawn] for key in ("value", "ci_low", "ci_high")}
        out.setdefault(table.split, {})[table.asked] = of_table
    return out


def _records(
    subject: Subject, tables: Sequence[_Table], pairs: Mapping[str, _Pairs], chosen: int, counts: Sequence[int]
) -> dict[str, list[Any]]:
    """A row for each pair and answer that was asked for; random swaps at the chosen layer."""
    rows: list[dict[str, Any]] = []
    for table in tables:
        view, found, drawn = _asked_view(subject, table), pairs[table.pairs], table.random(counts)
        for i, (row, source) in enumerate(zip(found.rows, found.sources, strict=True)):
            example = view.labelled.examples[row]
            rows.append(
                {
                    "split": table.split,
                    "index": view.labelled.indices[row],
                    "group": example.group,
                    "prompt": example.prompt,
                    "donor": subject.validation.labelled.indices[source],
                    "asked": table.asked,
                    "expected": found.implied[i] if table.asked == "implied" else view.labelled.labels[row],
                    "intact": bool(table.hits[i, 0]),
                    "swapped": table.swapped(len(counts))[i].tolist(),
                    "random": drawn[chosen][i].tolist() if drawn else None,
                }
            )
    return {column: [row[column] for row in rows] for column in rows[0]}
