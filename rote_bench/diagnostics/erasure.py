"""Does memorization ride on the reasoning? Erase the intermediate result and see who suffers.

LEACE removes an intermediate result from the residual stream after each layer, in the forward pass, at every position
from the first on at which it can be read. Any such lesion hurts, and memorised labels are fragile, so the loss is
compared with that under the erasure of a random partition: the surface features that carry the intermediate result,
dealt out to classes of the same sizes that mean nothing. If memorization were a look-up beside the reasoning, held-out
questions alone would lose more by the former (Du et al., 2025). INLP and a random subspace stand beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from ..findings.reliance import not_removed
from ..measures import Measure
from ..statistics import (
    Estimate,
    bootstrap_method,
    cluster_codes,
    from_draws,
    proportion,
    quotient,
    resampled_means,
    with_draws,
)
from . import Details, Diagnostic, NotApplicable, Records, Result, levels, lowest, too_low

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ..encoding import Encoded
    from ..erasing import Control, Erasers
    from ..interventions import Edit
    from ..linear import Eraser
    from ..subject import Subject, View

Hits: TypeAlias = "NDArray[np.bool_]"
_Change: TypeAlias = "tuple[int, Mapping[str, Eraser]]"  # the layer, and the eraser at each place
METHODS = ("leace", "inlp", "random")
LARGEST_SHARE = 0.34
CHOSEN_ON = 256  # examples on which all draws at all layers choose a layer
ELSEWHERE = 5  # draws of the control at layers that were not chosen, where they decide nothing
# What is asked of which examples: kind -> split and answer.
ASKED = {
    "validation": ("validation", "true"),
    "selection": ("selection", "true"),
    "memorized": ("train_noisy", "label"),
    "recovered": ("train_noisy", "true"),
}
RELIANCES = (
    ("memorization", "memorized", "the intact model's memorization"),
    ("validation", "validation", "the intact model's held-out accuracy"),
)


@dataclass(frozen=True)
class ErasureOptions:
    """What is erased and how much is measured.

    Attributes:
        intermediates: intermediate results erased together; the task's first when empty.
        fit_examples: clean training examples to fit on.
        examples: largest number of examples of each kind to measure on.
        draws: random partitions that are erased for comparison.
        inlp_rounds: classifiers that INLP projects out one after the other.
    """

    intermediates: tuple[str, ...] = ()
    fit_examples: int = field(default=4096, metadata={"min": 10})
    examples: int = field(default=512, metadata={"min": 2})
    draws: int = field(default=20, metadata={"min": 2})
    inlp_rounds: int = field(default=2, metadata={"min": 1})


class Erasure(Diagnostic[ErasureOptions]):
    """LEACE of an intermediate result at each layer, beside LEACE of random partitions of what carries it."""

    name = "erasure"
    version = 3
    description = "what erasing the intermediate result does to generalization and to memorization"
    metrics: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "reasoning_reliance_memorization",
            "memorization lost by erasing the intermediate result, beyond the erasure of random partitions",
            "train_noisy",
        ),
        Measure(
            "reasoning_reliance_validation",
            "held-out accuracy lost by the same erasure, beyond the same control",
            "validation",
        ),
        Measure(
            "reasoning_reliance_beyond_size",
            "memorization lost by the same erasure, beyond random directions that take as much variance",
            "train_noisy",
        ),
    )
    Options: ClassVar[type] = ErasureOptions
    passes = (72, 42)

    def run(self, subject: Subject) -> Result:
        from ..erasing import fit_erasers, partition, read_again

        if len(subject.noisy) == 0:
            raise NotApplicable("no noisy labels at this noise rate")
        support = subject.anatomy().supports("block")
        if not support.ok:
            raise NotApplicable(f"the model's blocks could not be proved: {support.detail}")
        fit = subject.more_clean(self.options.fit_examples)
        names = concept_names(fit, self.options.intermediates)
        counts = [len(subject.task.values(name)) for name in names]
        rank, width = sum(counts) - len(counts), subject.anatomy().width
        if rank > LARGEST_SHARE * width:
            raise NotApplicable(
                f"{' and '.join(names)} span up to {rank} of {width} directions: erasing them would erase nearly all"
            )
        control = partition(subject, fit, names, self.options.draws)
        fits = fit_erasers(subject, fit, names, control, self.options.inlp_rounds)
        limit, clusters = self.options.examples, _clusters(subject, self.options.examples)
        changes = [(layer, found.erasers[method]) for layer, found in enumerate(fits) for method in METHODS]
        intact, hits = _tried(subject, ASKED, limit, changes)
        by_layer = {k: {m: found[:, i :: len(METHODS)] for i, m in enumerate(METHODS)} for k, found in hits.items()}
        lines = {
            kind: {
                "intact": levels(np.repeat(intact[kind], len(fits), 1), clusters[kind]),
                **{method: levels(found, clusters[kind]) for method, found in of_kind.items()},
            }
            for kind, of_kind in by_layer.items()
        }
        draws = len(control.classes)
        dealt = _dealt(subject, ("selection",), min(limit, CHOSEN_ON), fits, [draws] * len(fits))
        for kind, found in dealt.items():
            lines[kind]["control"] = _drawn_levels(found, clusters[kind])
        chosen, why = _chosen(lines["selection"])
        counts = [draws if layer == chosen else min(ELSEWHERE, draws) for layer in range(len(fits))]
        dealt |= _dealt(subject, ("validation", "memorized"), limit, fits, counts)
        for kind in ("validation", "memorized") if draws else ():
            lines[kind]["control"] = _drawn_levels(dealt[kind], clusters[kind])
        later, read = read_again(subject, fit, names, chosen, fits[chosen], limit)
        details = {
            "intermediates": list(names),
            "places": list(fit.places),
            "layers": list(range(1, len(fits) + 1)),
            "chosen_layer": chosen + 1,
            "not_removed": why,
            "draws": counts,
            "carriers": [
                {"features": list(c.features), "count": len(c.classes), "told": c.told, "chance": c.chance}
                for c in control.carriers
            ],
            "least": {key: lowest(intact[key][:, 0], clusters[key]) for _, key, _ in RELIANCES},
            "lines": lines,
            "fits": [found.facts for found in fits],
            "read_again": {
                "layers": later,
                "chance": fits[chosen].facts["chance"],
                **{name: levels(hits, clusters["selection"]) for name, hits in read.items()},
            },
        }
        at_chosen = {kind: found[chosen] for kind, found in dealt.items()}
        records = _records(subject, fit, names, control, intact, by_layer, at_chosen)
        return Result(self._estimates(details, records), details, records)

    def _estimates(self, details: Details, records: Records) -> dict[str, Estimate]:
        """What memorization and held-out accuracy lose at the chosen layer."""
        rng, out, at = self.rng(self.name), {}, details["chosen_layer"] - 1
        asked = list(zip(records["split"], records["asked"], strict=True))
        for name, key, what in RELIANCES:
            rows = [i for i, each in enumerate(asked) if each == ASKED[key]]
            why = _missing(details, key, what)
            if why is not None:
                out[f"reasoning_reliance_{name}"] = Estimate.missing(why, len(rows))
                continue
            intact = np.array([records["intact"][i] for i in rows], dtype=float)
            erased = np.array([records["leace"][i][at] for i in rows], dtype=float)
            control = np.array([records["control"][i] for i in rows], dtype=float)
            clusters = cluster_codes([records["group"][i] for i in rows])
            out[f"reasoning_reliance_{name}"] = _reliance(intact, erased, control, clusters, rng)
        _, key, what = RELIANCES[0]
        rows = [i for i, each in enumerate(asked) if each == ASKED[key]]
        why = too_low(what, details["least"][key])
        hits = [[records["intact"][i], records["leace"][i][at], records["random"][i][at]] for i in rows]
        clusters = cluster_codes([records["group"][i] for i in rows])
        out["reasoning_reliance_beyond_size"] = (
            _relative(np.array(hits, dtype=float), clusters, self.rng("beyond size"))
            if why is None
            else Estimate.missing(why, len(rows))
        )
        return out

    def implied(self, details: Details, records: Records) -> Mapping[str, Estimate | float | None]:
        if records:
            return self._estimates(details, records)
        at, lines = details["chosen_layer"] - 1, details["lines"]

        def value(key: str, what: str) -> float | None:
            if _missing(details, key, what) is not None:
                return None
            control, erased, intact = (lines[key][m]["value"][at] for m in ("control", "leace", "intact"))
            return float((control - erased) / intact)

        levels_at = [lines["memorized"][m]["value"][at] for m in ("random", "leace", "intact")]
        known = too_low("memorization", details["least"]["memorized"]) is None
        return {
            **{f"reasoning_reliance_{name}": value(key, what) for name, key, what in RELIANCES},
            "reasoning_reliance_beyond_size": (levels_at[0] - levels_at[1]) / levels_at[2] if known else None,
        }

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """Accuracy and memorization under erasure of the intermediate result and under its controls."""
        from ..report import figures

        shown = (
            ("intact", "nothing erased", figures.GREY, ":", ""),
            ("leace", "the intermediate result erased", figures.MEMORISED, "-", "o"),
            ("control", "random classes of the same questions erased", figures.HELD_OUT, "--", "s"),
            ("random", "random directions erased, as much variance", "#999999", "-.", ""),
            ("inlp", "the intermediate result erased another way (INLP)", "#E69F00", "-", ""),
        )
        at = min(max(round(details["chosen_layer"]), 1), len(details["layers"])) - 1
        sides = (("validation", "held-out questions answered right"), ("memorized", "wrong labels still given"))
        with figures.drawing(path, 2, 9.0, 5.0) as (figure, axes):
            for ax, (key, side) in zip(axes, sides, strict=True):
                for method, text, color, dash, marker in shown:
                    if method in details["lines"][key]:
                        figures.line(ax, details["layers"], details["lines"][key][method], color, text, dash, marker)
                figures.panel(ax, side)
                figures.layer_ticks(ax, details["layers"], "erased after layer")
                figures.shares(ax)
            axes[0].set_ylabel("share of questions")
            figures.legend(figure, axes[0], 2)
            figures.title(figure, _sentence(details, at, figures.percent))
        return True


def _sentence(details: Details, at: int, percent: Any) -> str:
    """What was found at the chosen layer."""

    def share(key: str, method: str) -> str:
        return str(percent(details["lines"][key][method]["value"][at]))

    erased = " and ".join(details["intermediates"]).replace("_", " ")
    text = (
        f"With the intermediate result ({erased}) erased after layer {at + 1}, {share('validation', 'leace')} of"
        f" held-out questions are answered right and {share('memorized', 'leace')} of wrong labels given"
    )
    if "control" not in details["lines"]["validation"]:
        return f"{text}; there is no control to compare with"
    text += f"; with random classes erased, {share('validation', 'control')} and {share('memorized', 'control')}"
    return text if details["not_removed"] is None else f"{text}. The reasoning was not removed: nothing follows"


def concept_names(view: View, wanted: Sequence[str]) -> list[str]:
    """The intermediate results to erase together.

    Raises:
        NotApplicable: when the task has none of that name.
    """
    known = list(view.labelled.examples[0].intermediates)
    if not known:
        raise NotApplicable("the task has no intermediate results")
    missing = [name for name in wanted if name not in known]
    if missing:
        raise NotApplicable(f"the task has no intermediate result {missing[0]!r}; known: {', '.join(known)}")
    return list(wanted) or known[:1]


def _views(subject: Subject) -> dict[str, View]:
    return {"validation": subject.validation, "selection": subject.selection, "train_noisy": subject.noisy}


def _clusters(subject: Subject, limit: int) -> dict[str, NDArray[np.int64]]:
    return {kind: _views(subject)[split].clusters[:limit] for kind, (split, _) in ASKED.items()}


def _tried(
    subject: Subject, kinds: Iterable[str], limit: int, changes: Sequence[_Change]
) -> tuple[dict[str, Hits], dict[str, Hits]]:
    """By kind, whether the answer asked for is given: (n, 1) by the intact model and (n, changes) under each change."""
    import torch

    from ..erasing import at_positions
    from ..evaluation import alike, batches, scored
    from ..interventions import Intact, Site, run

    anatomy = subject.anatomy()
    out: dict[str, list[Tensor]] = {kind: [] for kind in kinds}
    with torch.inference_mode():
        for split, view in _views(subject).items():
            asked = {kind: _encoded(view, ASKED[kind][1]) for kind in out if ASKED[kind][0] == split}
            for rows in batches(min(limit, len(view)), subject.batch_size) if asked else ():
                places = {name: at[rows] for name, at in view.places.items()}
                for group in alike({kind: encoded.rows(rows) for kind, encoded in asked.items()}):
                    ids = next(iter(group.values())).input_ids
                    intact = Intact(anatomy, ids, columns=scored([*group.values()]))
                    edits: list[dict[Site, Edit]] = [
                        {Site(layer, "block"): at_positions(places, erasers)} for layer, erasers in changes
                    ]
                    given = [run(anatomy, ids, edit, intact) for edit in [{}, *edits]]
                    for kind, part in group.items():
                        hits = [part.correct(logits, intact.columns).cpu() for logits in given]
                        out[kind].append(torch.stack(hits, 1))
    found = {kind: torch.cat(parts).numpy() for kind, parts in out.items()}
    return {kind: hits[:, :1] for kind, hits in found.items()}, {kind: hits[:, 1:] for kind, hits in found.items()}


def _encoded(view: View, answer: str) -> Encoded:
    return view.true if answer == "true" else view.taught


def _dealt(
    subject: Subject, kinds: Sequence[str], limit: int, fits: Sequence[Erasers], counts: Sequence[int]
) -> dict[str, list[Hits]]:
    """By kind and layer, (n, draws) hits under the first few draws of the control; nothing where there is none."""
    if not any(counts):
        return {}
    changes = [(layer, each) for layer, found in enumerate(fits) for each in found.drawn[: counts[layer]]]
    _, hits = _tried(subject, kinds, limit, changes)
    return {kind: np.split(found, np.cumsum(counts)[:-1], 1) for kind, found in hits.items()}


def _drawn_levels(hits: Sequence[Hits], clusters: NDArray[np.int64]) -> dict[str, list[float | None]]:
    """The mean over draws by layer, from (n, draws) hits of each, with the spread of examples and of draws."""
    found = [with_draws(proportion(each.mean(1), clusters[: len(each)]), each.mean(0)) for each in hits]
    table = np.array([[each.value, each.ci_low, each.ci_high] for each in found], dtype=float).clip(0, 1)
    out: dict[str, list[float | None]] = dict(zip(("value", "ci_low", "ci_high"), table.T.tolist(), strict=True))
    means = [each.mean(0) for each in hits]
    return {**out, "least": [float(m.min()) for m in means], "most": [float(m.max()) for m in means]}


def _chosen(selection: Mapping[str, Mapping[str, Sequence[Any]]]) -> tuple[int, str | None]:
    """The layer where most is lost beyond the control, among those whose erasure removed the reasoning if there are
    any; and why it did not there, where there is none."""
    whys = [not_removed(selection, layer) for layer in range(len(selection["leace"]["value"]))]
    control = selection["control" if "control" in selection else "intact"]["value"]
    excess = np.subtract(control, selection["leace"]["value"])
    passing = [layer for layer, why in enumerate(whys) if why is None]
    chosen = max(passing or range(len(whys)), key=lambda layer: float(excess[layer]))
    return chosen, whys[chosen]


def _missing(details: Details, key: str, what: str) -> str | None:
    """Why nothing is said of what the erasure took beyond its control."""
    if "control" not in details["lines"][key]:
        erased = " and ".join(details["intermediates"])
        return f"no surface feature decides {erased}, so that there is no random partition to compare with"
    return too_low(what, details["least"][key])


def _reliance(
    intact: NDArray[np.float64],
    erased: NDArray[np.float64],
    control: NDArray[np.float64],
    clusters: NDArray[np.int64],
    rng: np.random.Generator,
) -> Estimate:
    """[drop under erasure - mean drop under its control] / intact, from hits (n,), (n,) and (n, draws)."""

    found = _relative(np.stack([intact, erased, control.mean(1)], 1), clusters, rng)
    return with_draws(found, control.mean(0) / intact.mean())


def _relative(hits: NDArray[np.float64], clusters: NDArray[np.int64], rng: np.random.Generator) -> Estimate:
    """(control - erased) / intact, from hits (n, intact / erased / control), with the interval of the examples."""

    def relative(m: NDArray[np.float64]) -> NDArray[np.float64]:
        return quotient(m[..., 2] - m[..., 1], m[..., 0])

    draws = relative(resampled_means(hits, clusters, rng))
    return from_draws(relative(hits.mean(0)), draws, bootstrap_method(clusters), len(hits))


def _records(
    subject: Subject,
    fit: View,
    names: Sequence[str],
    control: Control,
    intact: Mapping[str, Hits],
    by_layer: Mapping[str, Mapping[str, Hits]],
    at_chosen: Mapping[str, Hits],
) -> dict[str, list[Any]]:
    """A row for each example that erasers were fitted on, and for each example and answer that was asked for."""
    nothing: dict[str, Any] = dict.fromkeys(("intact", *METHODS, "control", "partitions"))
    rows = [
        {**row, **nothing, "partitions": classes.tolist()}
        for row, classes in zip(
            _rows(fit, len(fit), "train_clean", None, fit), control.classes.transpose(2, 0, 1), strict=True
        )
    ]
    for key, (split, asked) in ASKED.items():
        listed = {"intact": intact[key][:, 0].tolist(), **{m: hits.tolist() for m, hits in by_layer[key].items()}}
        if key in at_chosen:
            listed["control"] = [*at_chosen[key].tolist(), *[None] * (len(intact[key]) - len(at_chosen[key]))]
        for i, row in enumerate(_rows(_views(subject)[split], len(intact[key]), split, asked, fit)):
            rows.append({**row, **nothing, **{column: values[i] for column, values in listed.items()}})
    for row in rows:
        row["concept"] = [row["concept"][name] for name in names]
    return {column: [row[column] for row in rows] for column in rows[0]}


def _rows(view: View, n: int, split: str, asked: str | None, fit: View) -> Iterator[dict[str, Any]]:
    """Which examples, what is erased and at which tokens, and what is asked for."""
    places = np.stack([view.places[name].cpu().numpy() for name in fit.places if name in view.places], 1).tolist()
    for i in range(n):
        example, label = view.labelled.examples[i], view.labelled.labels[i]
        yield {
            "split": split,
            "index": view.labelled.indices[i],
            "group": example.group,
            "prompt": example.prompt,
            "concept": example.intermediates,
            "places": places[i],
            "asked": asked,
            "expected": None if asked is None else label if asked == "label" else example.answer,
        }
