"""Does memorization ride on the reasoning? Erase the intermediate result and see who suffers.

LEACE and INLP remove an intermediate result from the residual stream after each layer, in the forward pass, at every
position from the first on at which it can be read. Both held-out accuracy and memorization are compared with the loss
under a random erasure of equal rank that takes away as much variance, and under the erasure of an irrelevant concept
with as many classes. If memorization were a look-up beside the reasoning, only the former would fall (Du et al., 2025).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from ..measures import Measure
from ..statistics import Estimate, bootstrap_method, cluster_codes, from_draws, quotient, resampled_means
from . import Details, Diagnostic, NotApplicable, Records, Result, lowest, too_low

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ..interventions import Edit
    from ..linear import Eraser
    from ..subject import Subject, View

_Change: TypeAlias = "tuple[int, Sequence[str], Mapping[str, Eraser]]"  # the layer, where, and erasers by place
METHODS = ("leace", "inlp", "random", "irrelevant")
LARGEST_SHARE = 0.34
# What is asked of which examples: kind -> split and answer.
ASKED = {
    "validation": ("validation", "true"),
    "selection": ("selection", "true"),
    "memorized": ("train_noisy", "label"),
    "recovered": ("train_noisy", "true"),
}


@dataclass(frozen=True)
class ErasureOptions:
    """What is erased and how much is measured.

    Attributes:
        intermediates: intermediate results erased together; the task's first when empty.
        fit_examples: clean training examples to fit on.
        examples: largest number of examples of each kind to measure on.
        inlp_rounds: classifiers that INLP projects out one after the other.
    """

    intermediates: tuple[str, ...] = ()
    fit_examples: int = field(default=4096, metadata={"min": 10})
    examples: int = field(default=512, metadata={"min": 2})
    inlp_rounds: int = field(default=2, metadata={"min": 1})


class Erasure(Diagnostic[ErasureOptions]):
    """LEACE and INLP of an intermediate result at each layer, with matched controls."""

    name = "erasure"
    version = 2
    description = "what erasing the intermediate result does to generalization and to memorization"
    metrics: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "reasoning_reliance_memorization",
            "memorization lost by erasing the intermediate result, beyond a random erasure",
            "train_noisy",
        ),
        Measure(
            "reasoning_reliance_validation",
            "held-out accuracy lost by the same erasure, beyond a random one",
            "validation",
        ),
    )
    Options: ClassVar[type] = ErasureOptions
    passes = (32, 19)

    def run(self, subject: Subject) -> Result:
        import torch

        from ..interventions import layers_together

        if len(subject.noisy) == 0:
            raise NotApplicable("no noisy labels at this noise rate")
        if not subject.anatomy().supports("block").ok:
            raise NotApplicable("the model's blocks could not be proved")
        fit = subject.more_clean(self.options.fit_examples)
        names = concept_names(fit, self.options.intermediates)
        counts = [len(subject.task.values(name)) for name in names]
        rank, width = sum(counts) - len(counts), subject.anatomy().width
        if rank > LARGEST_SHARE * width:
            raise NotApplicable(
                f"{' and '.join(names)} span up to {rank} of {width} directions: erasing them would erase nearly all"
            )
        anatomy = subject.anatomy()
        measured = {m: [] for m in METHODS}  # type: dict[str, list[dict[str, NDArray[np.float64]]]]
        layers: list[dict[str, Any]] = []
        changes: list[_Change] = []
        at = torch.stack([*fit.places.values()], 1)
        together = layers_together(len(METHODS) * at.shape[1] * width**2)
        for layer, states in enumerate(subject.states(fit, at)):
            where, erasers, readable = fit_layer(subject, states, layer, fit, names, self.options)
            layers.append({"positions": where, **readable})
            changes += [(layer, where, erasers[method]) for method in METHODS]
            if len(changes) == len(METHODS) * together or layer + 1 == anatomy.n_layers:
                intact, *erased = _outcomes(subject, self.options.examples, changes)
                for k, method in enumerate(METHODS):
                    measured[method] += erased[k :: len(METHODS)]
                changes.clear()
        details = _details(subject, fit, intact, measured, layers, names)
        records = _records(subject, fit, intact, measured, names)
        return Result(self._estimates(details, records), details, records)

    def _estimates(self, details: Details, records: Records) -> dict[str, Estimate]:
        """What memorization and held-out accuracy lose at the chosen layer."""
        rng, out = self.rng(self.name), {}
        for name, key, what in (
            ("memorization", "memorized", "the intact model's memorization"),
            ("validation", "validation", "the intact model's held-out accuracy"),
        ):
            found = zip(records["split"], records["asked"], strict=True)
            rows = [i for i, each in enumerate(found) if each == ASKED[key]]
            at = details["chosen_layer"] - 1
            hits = np.array(
                [[records["intact"][i], records["leace"][i][at], records["random"][i][at]] for i in rows], dtype=float
            )
            why = too_low(what, details["least"][key])
            out[f"reasoning_reliance_{name}"] = (
                _reliance(hits, cluster_codes([records["group"][i] for i in rows]), rng)
                if why is None
                else Estimate.missing(why, len(rows))
            )
        return out

    def implied(self, details: Details, records: Records) -> Mapping[str, Estimate | float | None]:
        if records:
            return self._estimates(details, records)
        at, methods, intact = details["chosen_layer"] - 1, details["methods"], details["intact"]
        return {
            f"reasoning_reliance_{name}": (methods["random"][key][at] - methods["leace"][key][at]) / intact[key]
            if too_low(key, details["least"][key]) is None
            else None
            for name, key in (("memorization", "memorized"), ("validation", "validation"))
        }

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """Accuracy and memorization under erasure of the intermediate result and under its controls."""
        from ..report import figures

        lines = (
            ("leace", "erased (LEACE)", figures.MEMORISED, "-"),
            ("inlp", "erased (INLP)", "#E69F00", "-"),
            ("random", "random, same rank and variance", figures.GREY, "--"),
            ("irrelevant", "irrelevant concept", figures.GREY, ":"),
        )
        sides = (("validation", "right on held-out questions"), ("memorized", "wrong label still given"))
        with figures.drawing(path, 2, 8.6, 4.2) as (figure, axes):
            for ax, (key, side) in zip(axes, sides, strict=True):
                for method, text, color, dash in lines:
                    values = details["methods"][method][key]
                    ax.plot(details["layers"], values, dash, color=color, marker="o", label=text)
                ax.axhline(details["intact"][key], color="#bbbbbb", linewidth=0.9)
                figures.panel(ax, side)
                figures.layer_ticks(ax, details["layers"], "erased after layer")
                figures.shares(ax)
            axes[0].set_ylabel("share of questions")
            figures.legend(figure, axes[0])
            erased = " and ".join(details["intermediates"]).replace("_", " ")
            figures.title(figure, f"Erasing {erased} from the residual stream")
        return True


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


def fit_layer(
    subject: Subject, states: Tensor, layer: int, fit: View, names: Sequence[str], options: ErasureOptions
) -> tuple[list[str], dict[str, dict[str, Eraser]], dict[str, Any]]:
    """Erasers of one layer for every position from the first at which the concept can be read.

    Args:
        states: (n, positions, width) outputs of the layer's block.

    Returns:
        The positions, method -> position -> eraser, and what a probe reads before and after LEACE.
    """
    import torch

    from ..linear import fit_inlp, fit_leace, fit_probes, fit_random, one_hot, readable_from

    places = list(fit.places)
    device = states.device
    classes = {n: torch.tensor(fit.intermediate(n, subject.task.values(n)), device=device) for n in names}
    counts = {n: len(subject.task.values(n)) for n in names}
    targets = {n: (classes[n], counts[n]) for n in names}
    readable = readable_from(states, dict(fit.places), targets)
    chosen, half = readable.places, len(states) // 2
    concept = torch.cat([one_hot(classes[n], counts[n]) for n in names], 1)
    rng = subject.rng(f"erasure-{layer}")
    unrelated = _unrelated(fit, sum(counts.values()), rng)
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    erasers: dict[str, dict[str, Eraser]] = {method: {} for method in METHODS}
    after = 0.0
    for name in chosen:
        x = states[:, places.index(name)]
        leace = fit_leace(x, concept)
        erasers["leace"][name] = leace
        erasers["inlp"][name] = fit_inlp(x, concept, options.inlp_rounds)
        erasers["random"][name] = fit_random(x, leace, generator)
        erasers["irrelevant"][name] = fit_leace(x, one_hot(unrelated.to(device), int(unrelated.max()) + 1))
        erased = leace(x)[:, None]
        again = fit_probes(erased[:half], {n: (classes[n][:half], counts[n]) for n in names})
        left = [(again.predict(erased[half:], n)[:, 0] == classes[n][half:]).double().mean() for n in names]
        after = max(after, float(torch.stack(left).mean()))
    mean_rank = float(np.mean([e.rank for e in erasers["leace"].values()]))
    variance = {m: float(np.mean([e.variance for e in erasers[m].values()])) for m in METHODS}
    facts = {
        "probe_before": max(float(readable.accuracy[places.index(n)]) for n in chosen),
        "probe_after": after,
        "chance": readable.chance,
        "rank": mean_rank,
        "variance_removed": variance,
    }
    return chosen, erasers, facts


def _unrelated(view: View, count: int, rng: np.random.Generator) -> Tensor:
    """An irrelevant concept: a random class for each value of the task's first surface feature."""
    import torch

    examples = view.labelled.examples
    feature = next(iter(examples[0].features), None)
    classes: dict[str, int] = {}
    keys = [e.features[feature] if feature else e.prompt for e in examples]
    drawn = [classes.setdefault(k, int(rng.integers(count))) for k in keys]
    return torch.tensor(np.unique(drawn, return_inverse=True)[1])


def _outcomes(subject: Subject, limit: int, changes: Sequence[_Change]) -> list[dict[str, NDArray[np.float64]]]:
    """Correctness per example, by kind, of the intact model and then under each change."""
    import torch

    from ..evaluation import alike, batches, scored
    from ..interventions import Intact, Site, run

    anatomy = subject.anatomy()
    asked = (
        (subject.validation, {"validation": subject.validation.true}),
        (subject.selection, {"selection": subject.selection.true}),
        (subject.noisy, {"memorized": subject.noisy.taught, "recovered": subject.noisy.true}),
    )
    hits: list[dict[str, list[Tensor]]] = [{kind: [] for kind in ASKED} for _ in range(1 + len(changes))]
    with torch.inference_mode():
        for view, encodings in asked:
            for rows in batches(min(limit, len(view)), subject.batch_size):
                places = {name: at[rows] for name, at in view.places.items()}
                for group in alike({kind: encoded.rows(rows) for kind, encoded in encodings.items()}):
                    ids = next(iter(group.values())).input_ids
                    intact = Intact(anatomy, ids, columns=scored([*group.values()]))
                    edits: list[dict[Site, Edit]] = [
                        {Site(layer, "block"): _at_positions({name: places[name] for name in where}, erasers)}
                        for layer, where, erasers in changes
                    ]
                    for found, edit in zip(hits, [{}, *edits], strict=True):
                        logits = run(anatomy, ids, edit, intact)
                        for kind, part in group.items():
                            found[kind].append(part.correct(logits, intact.columns).double().cpu())
    return [{kind: torch.cat(parts).numpy() for kind, parts in found.items()} for found in hits]


def _at_positions(positions: Mapping[str, Tensor], erasers: Mapping[str, Eraser]) -> Edit:
    """Erase at each named position with that position's own eraser."""
    import torch

    def edit(state: Tensor) -> Tensor:
        changed = state.clone()
        index = torch.arange(len(state), device=state.device)
        for name, at in positions.items():
            changed[index, at] = erasers[name](state[index, at].float()).to(state.dtype)
        return changed

    return edit


def _details(
    subject: Subject,
    fit: View,
    intact: dict[str, NDArray[np.float64]],
    measured: Mapping[str, Sequence[dict[str, NDArray[np.float64]]]],
    layers: Sequence[Mapping[str, Any]],
    names: Sequence[str],
) -> dict[str, Any]:
    means = {
        m: [{k: float(v.mean()) for k, v in outcome.items()} for outcome in outcomes]
        for m, outcomes in measured.items()
    }
    gaps = [r["selection"] - e["selection"] for e, r in zip(means["leace"], means["random"], strict=True)]
    clusters = {"memorized": subject.noisy.clusters, "validation": subject.validation.clusters}
    return {
        "intermediates": list(names),
        "places": list(fit.places),
        "layers": list(range(1, len(layers) + 1)),
        "chosen_layer": int(np.argmax(gaps)) + 1,
        "intact": {k: float(v.mean()) for k, v in intact.items()},
        "least": {key: lowest(intact[key], found[: len(intact[key])]) for key, found in clusters.items()},
        "selection_n": len(intact["selection"]),
        "methods": {m: {k: [entry[k] for entry in rows] for k in intact} for m, rows in means.items()},
        "fits": [dict(facts) for facts in layers],
    }


def _records(
    subject: Subject,
    fit: View,
    intact: Mapping[str, NDArray[np.float64]],
    measured: Mapping[str, Sequence[Mapping[str, NDArray[np.float64]]]],
    names: Sequence[str],
) -> dict[str, list[Any]]:
    """A row for each example that erasers were fitted on, and for each example and answer that was asked for."""
    views = {"validation": subject.validation, "selection": subject.selection, "train_noisy": subject.noisy}
    rows = [{**row, "intact": None, **dict.fromkeys(METHODS)} for row in _rows(fit, len(fit), "train_clean", None, fit)]
    for key, (split, asked) in ASKED.items():
        hits = {m: np.stack([outcome[key] > 0 for outcome in by_layer], 1) for m, by_layer in measured.items()}
        listed = {"intact": (intact[key] > 0).tolist(), **{m: each.tolist() for m, each in hits.items()}}
        for i, row in enumerate(_rows(views[split], len(intact[key]), split, asked, fit)):
            rows.append({**row, **{column: values[i] for column, values in listed.items()}})
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


def _reliance(hits: NDArray[np.float64], clusters: NDArray[np.int64], rng: np.random.Generator) -> Estimate:
    """[(intact - erased) - (intact - randomly erased)] / intact, from (n, intact / erased / randomly erased)."""

    def relative(m: NDArray[np.float64]) -> NDArray[np.float64]:
        return quotient(m[..., 2] - m[..., 1], m[..., 0])

    draws = relative(resampled_means(hits, clusters, rng))
    return from_draws(relative(hits.mean(0)), draws, bootstrap_method(clusters), len(hits))
