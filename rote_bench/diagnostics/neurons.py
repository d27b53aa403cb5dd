"""Do memorised labels come from outlying use of existing heuristics?

MLP units are classified before memorization by the simple input patterns on which they are most active (Nikankin et
al., 2025): the share of a unit's top examples that fit the pattern, as a lift over how common the pattern is, against
a null in which examples are permuted. Then the same units are followed to the model after memorization. Nearly every
unit of a small model follows some pattern, so that those which follow one best are compared with others of the same
layer, as active and as large, which follow none as well: do they shift more on mislabelled examples? And does putting
back the units that shift most undo memorization, more than putting back others like them?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..dissociation import Hits, areas, levels_over_draws
from ..matching import concentration, followed, matched_bins, permuted_within
from ..measures import Measure
from ..statistics import (
    Estimate,
    bootstrap_method,
    cluster_codes,
    from_draws,
    mean,
    quotient,
    resampled_means,
)
from . import Details, Diagnostic, NotApplicable, Records, Result, levels, lowest, too_low

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..interventions import Site
    from ..models.anatomy import Anatomy
    from ..subject import Subject, View

PRE, POST = "pre_memorization", "post_memorization"
NOISY, CLEAN, HELD = "train_noisy", "train_clean", "validation"
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
ORDERS = 5  # random ones, of units like those that shift most
PERMUTATIONS = 200  # of lifts among like units
SILENT = 0.01  # of the median spread of a layer's units, below which a unit counts as silent
TENTHS = 10
PUT_BACK = 256  # examples, at the most, on which units are put back
FORM = ("value", "ci_low", "ci_high")


@dataclass(frozen=True)
class NeuronsOptions:
    """How units are classified.

    Attributes:
        examples: examples on which units are classified and followed.
        top: most active examples of each unit that are looked at.
    """

    examples: int = field(default=768, metadata={"min": 20})
    top: int = field(default=40, metadata={"min": 5})


class Neurons(Diagnostic[NeuronsOptions]):
    """Heuristic units before memorization, and what becomes of them."""

    name = "neurons"
    version = 5
    description = "whether memorization shifts units that already were heuristics"
    metrics: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "heuristic_shift",
            "how much more heuristic units shift on mislabelled than on clean examples",
            "train_noisy, train_clean",
        ),
        Measure(
            "heuristic_shift_concentration",
            "shift of the units that follow a pattern best over that of units like them that do not",
            "train_noisy",
        ),
        Measure(
            "unit_patch_dissociation",
            "undoing memorization by most shifted units, beyond random units like them",
            "validation, train_noisy",
        ),
    )
    Options: ClassVar[type] = NeuronsOptions
    passes = (8, 12)

    def run(self, subject: Subject) -> Result:
        support = subject.anatomy().supports("units")
        if not support.ok:
            raise NotApplicable(f"MLP units could not be proved: {support.detail}")
        if PRE not in subject.anatomies:
            raise NotApplicable(subject.without_pre)
        if len(subject.noisy) == 0:
            raise NotApplicable("no noisy labels at this noise rate")
        before, after = subject.anatomies[PRE], subject.anatomies[POST]
        n = min(self.options.examples, len(subject.noisy), len(subject.clean))
        fit = subject.more_clean(self.options.examples)
        activations = _activations(subject, before, fit, self.options.examples)
        found = followed(activations, *_patterns(subject, fit, len(activations)), self.options.top, self.rng("neurons"))
        layer = np.repeat(np.arange(before.n_layers), before.input_width(0, "units"))
        live = _live(activations, layer)
        bins = matched_bins(layer, [(activations > 0).mean(0), np.sqrt(np.square(activations).mean(0))], live)
        noisy, clean = (
            np.abs(_activations(subject, after, view, n) - _activations(subject, before, view, n))
            for view in (subject.noisy, subject.clean)
        )
        order = np.argsort(-(noisy.mean(0) - clean.mean(0)), kind="stable")
        patched = _patch_units(subject, before, after, order, bins)
        sd = np.where(live, activations.std(0), 1)
        classified = found.classified & live
        of_example: dict[str, NDArray[np.float64] | None] = {"high": None, "low": None}
        null: list[float] = []
        told: dict[str, Any] = {}
        if len(found.lift):
            weights = concentration(found.lift, bins)
            told = {
                name: {"units": int((w > 0).sum()), "lift": float(found.lift @ w)}
                for name, w in (("high", weights.high), ("low", weights.low))
            }
            of_example = {
                "high": np.asarray((noisy / sd) @ weights.high, dtype=float),
                "low": np.asarray((noisy / sd) @ weights.low, dtype=float),
            }
            shift = (noisy / sd).mean(0)
            moved = [shift[permuted_within(bins, self.rng(f"neurons-null-{i}"))] for i in range(PERMUTATIONS)]
            null = [float(q) for q in quotient(np.stack(moved) @ weights.high, np.stack(moved) @ weights.low)]
            null = [q for q in null if np.isfinite(q)]
        records = _records(subject, n, (noisy, clean), classified, of_example, patched)
        details = {
            "arithmetic": subject.task.arithmetic,
            "least": _least(subject, patched),
            "units": len(live),
            "silent": int((~live).sum()),
            "classified": int(classified.sum()),
            "families": found.counted(classified),
            "compared": told,
            "null": null,
            "shift_over_clean": {
                name: float(noisy[:, chosen].sum() / max(1e-12, clean[:, chosen].sum())) if chosen.any() else None
                for name, chosen in (("classified", classified), ("others", ~classified), ("all", live | True))
            },
            "tenths": _by_lift(subject, found.lift, live, noisy / sd, clean / sd),
            "shares": list(SHARES),
            "patching": _levels(subject, patched, self.rng("neurons-levels")),
        }
        metrics = self._estimates(details, records)
        one = metrics["heuristic_shift_concentration"]
        details["concentration"] = {key: [getattr(one, key)] for key in FORM}
        return Result(metrics, details, records)

    def _estimates(self, details: Details, records: Records) -> dict[str, Estimate]:
        """All metrics, from what is kept of every example."""
        n = sum(split == NOISY for split in records["split"])
        why = _too_little(details["least"])
        if why is not None:
            return {measure.name: Estimate.missing(why, n) for measure in self.metrics}
        held, noisy = (_patched(records, split) for split in (HELD, NOISY))
        both = areas(held, noisy, self.rng("neurons-area"))
        return {
            "heuristic_shift": _shift(records, details["classified"], self.rng("neurons-shift")),
            "heuristic_shift_concentration": _concentration(
                records, details["null"], self.rng("neurons-concentration")
            ),
            "unit_patch_dissociation": both.excess(("by_shift", "random")),
        }

    def implied(self, details: Details, records: Records) -> Mapping[str, Estimate | float | None]:
        if records:
            return self._estimates(details, records)
        if _too_little(details["least"]) is not None:
            return dict.fromkeys(measure.name for measure in self.metrics)
        patching = details["patching"]
        intact = {key: patching["by_shift"][key]["value"][0] for key in ("validation", "memorized")}

        def area(way: str, start: int) -> float:
            held, noisy = (
                np.asarray(patching[way][key]["value"][start:], dtype=float) / intact[key]
                for key in ("validation", "memorized")
            )
            return float((held - noisy).mean())

        return {"unit_patch_dissociation": area("by_shift", 1) - area("random", 0)}

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """How much units shift by how well they follow a pattern, which patterns, and what putting units back does."""
        from ..report import figures

        patching, tenths = details["patching"], details["tenths"]
        kinds = (
            ("validation", "right on held-out questions", figures.HELD_OUT),
            ("memorized", "wrong label still given", figures.MEMORISED),
        )
        with figures.drawing(path, 3 if tenths else 1, 13.2 if tenths else 6.4, 4.6, share=False) as (figure, axes):
            for key, text, color in kinds:
                most, random = patching["by_shift"][key], patching["random"][key]
                figures.line(axes[0], [0.0, *details["shares"]], most, color, text)
                figures.line(axes[0], details["shares"], random, color, f"{text}, random units like them", "--", "")
            axes[0].set_xlabel("share of MLP units put back, most shifted first")
            figures.shares(axes[0], "share of questions")
            figures.panel(axes[0], f"Units put back, beside {ORDERS} random orders")
            if tenths:
                for kind, text, color in (
                    ("noisy", "on mislabelled questions", figures.MEMORISED),
                    ("clean", "on clean training questions", figures.CLEAN),
                ):
                    figures.line(axes[1], range(1, TENTHS + 1), tenths[kind], color, text)
                axes[1].set_ylim(bottom=0)
                axes[1].set_xticks(range(1, TENTHS + 1))
                axes[1].set_xlabel("tenth of units, those that follow a pattern best last")
                axes[1].set_ylabel("mean shift, in units' own spread")
                axes[1].legend(frameon=False, fontsize=9, loc="lower left")
                figures.panel(axes[1], "How far units shift")
                families = details["families"] or {"none": 0}
                names = [name.replace("_", " ") for name in families]
                axes[2].barh(names[::-1], list(families.values())[::-1], color=figures.CLEAN)
                axes[2].set_xlabel("units that follow a pattern of the kind best")
                figures.panel(axes[2], f"{details['classified']} of {details['units']} units follow some pattern")
            figures.legend(figure, axes[0], 2)
            figures.title(figure, _result(details))
        return True


def _result(details: Details) -> str:
    """What was found, in a sentence."""
    value, low, high = (details["concentration"][key][0] for key in FORM)
    if value is None:
        return "Units from before memorization, put back into the model after it"
    interval = "" if low is None or high is None else f" (95 % interval {low:.2f} to {high:.2f}; 1: as far)"
    return (
        "On mislabelled questions the tenth of MLP units that follow known patterns best shift"
        f" {value:.2f} times as far as like units that follow them less{interval}"
    )


def _sites(anatomy: Anatomy) -> list[Site]:
    from ..interventions import Site

    return [Site(layer, "units") for layer in range(anatomy.n_layers)]


def _activations(subject: Subject, anatomy: Anatomy, view: View, n: int) -> NDArray[np.float32]:
    """(n, layers * units) activations, averaged over the positions that predict the answer."""
    import torch

    from ..encoding import IGNORED
    from ..evaluation import batches
    from ..interventions import capture

    sites = _sites(anatomy)
    out = []
    with torch.inference_mode():
        for rows in batches(min(n, len(view)), subject.batch_size):
            part = view.true.rows(rows)
            _, found = capture(anatomy, part.input_ids, sites, columns=part.scored)
            wanted = (part.targets != IGNORED).unsqueeze(-1)
            out.append(torch.cat([(found[s] * wanted).sum(1) / wanted.sum(1) for s in sites], -1).float().cpu())
    return torch.cat(out).numpy()


def _patterns(subject: Subject, view: View, n: int) -> tuple[NDArray[np.float32], list[str]]:
    """(n, patterns) which of the task's input patterns each example has, and their names; neither rare nor common."""
    examples = view.labelled.examples[:n]
    has = [set(subject.task.heuristics(e)) for e in examples]
    names = sorted(set().union(*has))
    table = np.array([[name in own for name in names] for own in has], dtype=np.float32).reshape(n, len(names))
    common = (table.mean(0) >= 2 / n) & (table.mean(0) <= 0.5)
    return table[:, common], [name for name, ok in zip(names, common, strict=True) if ok]


def _live(activations: NDArray[np.float32], layer: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(units,) whether a unit's activation differs between examples as those of its layer do."""
    spread = activations.std(0)
    usual = np.array([np.median(spread[layer == i]) for i in range(int(layer.max()) + 1)])[layer]
    return np.asarray(spread > np.maximum(1e-6, SILENT * usual))


def _by_lift(
    subject: Subject,
    lift: NDArray[np.float64],
    live: NDArray[np.bool_],
    noisy: NDArray[np.float64],
    clean: NDArray[np.float64],
) -> dict[str, dict[str, list[float | None]]]:
    """Mean shifts of each tenth of units, from the lowest lift to the highest, with intervals over examples."""
    units = np.flatnonzero(live)
    if len(lift) == 0 or len(units) < TENTHS:
        return {}
    parts = np.array_split(units[np.argsort(lift[units], kind="stable")], TENTHS)
    out = {}
    for name, shifts, view in (("noisy", noisy, subject.noisy), ("clean", clean, subject.clean)):
        each = [mean(shifts[:, part].mean(1), view.clusters[: len(shifts)]) for part in parts]
        out[name] = {key: [getattr(one, key) for one in each] for key in FORM}
    return out


Patched = Mapping[str, Mapping[str, "NDArray[np.float64]"]]  # way -> examples -> (n, orders, shares), from share 0


def _patch_units(
    subject: Subject, before: Anatomy, after: Anatomy, order: NDArray[np.int64], bins: NDArray[np.int64]
) -> Patched:
    """Correctness on V and memorization on D_n with units put back by shift, and in random orders of units like them.

    In a random order every unit is replaced by one of its bin, so that any first units are as many of each bin.
    """
    from ..patching import with_units

    rng = subject.rng("neurons-order")
    orders = [order, *(permuted_within(bins, rng)[order] for _ in range(ORDERS))]
    counts = [round(share * len(order)) for share in SHARES]
    chosen = [order[:0], *(ranking[:count] for ranking in orders for count in counts)]
    found = {}
    for name, encoded in ((HELD, subject.validation.true), (NOISY, subject.noisy.taught)):
        some = encoded.rows(slice(PUT_BACK))
        hits = np.stack(with_units(before, after, some, chosen, batch_size=subject.batch_size), 1)
        found[name] = hits[:, 0], hits[:, 1:].reshape(len(hits), len(orders), len(counts))
    return {
        "intact": {name: intact[:, None, None] for name, (intact, _) in found.items()},
        "by_shift": {name: each[:, :1] for name, (_, each) in found.items()},
        "random": {name: each[:, 1:] for name, (_, each) in found.items()},
    }


def _clusters(subject: Subject, patched: Patched) -> dict[str, NDArray[np.int64]]:
    views = {HELD: subject.validation, NOISY: subject.noisy}
    return {name: view.clusters[: len(patched["intact"][name])] for name, view in views.items()}


def _levels(subject: Subject, patched: Patched, rng: np.random.Generator) -> dict[str, Any]:
    """Way -> what is asked -> levels by share, those by shift from share 0 on."""
    out: dict[str, Any] = {"by_shift": {}, "random": {}}
    clusters = _clusters(subject, patched)
    for name, key in ((HELD, "validation"), (NOISY, "memorized")):
        whole = np.concatenate([patched["intact"][name], patched["by_shift"][name]], 2)
        out["by_shift"][key] = levels(whole[:, 0], clusters[name])
        out["random"][key] = levels_over_draws(patched["random"][name], clusters[name], rng)
    return out


def _least(subject: Subject, patched: Patched) -> dict[str, float]:
    """Lower bounds of what the intact model does."""
    clusters = _clusters(subject, patched)
    names = (("validation", HELD), ("memorized", NOISY))
    return {key: lowest(patched["intact"][name][:, 0, 0], clusters[name]) for key, name in names}


def _too_little(least: Mapping[str, float]) -> str | None:
    """Why nothing is said of what changed: the intact model did not learn, or did not memorise."""
    held, memory = "the intact model's held-out accuracy", "the intact model's memorization"
    return too_low(held, least["validation"]) or too_low(memory, least["memorized"])


def _records(
    subject: Subject,
    n: int,
    shifts: tuple[NDArray[np.float32], NDArray[np.float32]],
    classified: NDArray[np.bool_],
    of_example: Mapping[str, NDArray[np.float64] | None],
    patched: Patched,
) -> dict[str, list[Any]]:
    """A row for each example: how far units shift on it, and whether its answer is given with units put back."""
    columns = ("shift_classified", "shift_high", "shift_low", "intact", "by_shift", "random")
    out: dict[str, list[Any]] = {name: [] for name in ("split", "index", "group", *columns)}
    views = ((NOISY, subject.noisy), (CLEAN, subject.clean), (HELD, subject.validation))
    for name, view in views:
        values: dict[str, list[Any]] = {column: [] for column in columns}
        if name != HELD and classified.any():
            own = shifts[0 if name == NOISY else 1]
            values["shift_classified"] = own[:, classified].mean(1, dtype=float).tolist()
        if name == NOISY:
            values |= {f"shift_{k}": each.tolist() for k, each in of_example.items() if each is not None}
        if name != CLEAN:
            values["intact"] = (patched["intact"][name][:, 0, 0] > 0).tolist()
            values["by_shift"] = (patched["by_shift"][name][:, 0] > 0).tolist()
            values["random"] = (patched["random"][name] > 0).tolist()
        for i in range(max(map(len, values.values()))):
            out["split"].append(name)
            out["index"].append(view.labelled.indices[i])
            out["group"].append(view.labelled.examples[i].group)
            for column, each in values.items():
                out[column].append(each[i] if i < len(each) else None)
    return out


def _column(records: Records, split: str, name: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What a column holds of one split, and the clusters of its examples."""
    rows = [i for i, s in enumerate(records["split"]) if s == split and records[name][i] is not None]
    values = np.array([records[name][i] for i in rows], dtype=float)
    return values, cluster_codes([records["group"][i] for i in rows])


def _patched(records: Records, split: str) -> Hits:
    intact, clusters = _column(records, split, "intact")
    most, random = (_column(records, split, name)[0] for name in ("by_shift", "random"))
    return Hits(intact, {"by_shift": most[:, None], "random": random}, clusters)


def _shift(records: Records, classified: int, rng: np.random.Generator) -> Estimate:
    """Mean absolute shift of classified units on mislabelled examples over that on clean ones, minus 1."""
    (a, of_noisy), (b, of_clean) = (_column(records, split, "shift_classified") for split in (NOISY, CLEAN))
    n = len(a) + len(b)
    if not classified:
        return Estimate.missing("no unit follows a pattern above its null", n)
    if not b.mean() > 0:
        reason = "the classified units do not move on clean examples, so that nothing can be compared with them"
        return Estimate.missing(reason, n)
    draws = quotient(resampled_means(a, of_noisy, rng), resampled_means(b, of_clean, rng))
    return from_draws(a.mean() / b.mean() - 1, draws - 1, bootstrap_method(of_noisy, of_clean), n)


def _concentration(records: Records, null: Sequence[float], rng: np.random.Generator) -> Estimate:
    """Mean shift of the units of the highest lift over that of units like them.

    Draws over examples are divided by draws of the null, in which lifts are permuted among like units: the interval
    holds 1 where another choice of units could well have given as much.
    """
    (high, clusters), (low, _) = (_column(records, NOISY, name) for name in ("shift_high", "shift_low"))
    if len(high) == 0:
        return Estimate.missing("the task names no patterns that units could follow")
    if not null or not low.mean() > 0:
        return Estimate.missing("there are no units to compare with that shift on mislabelled examples", len(high))
    means = resampled_means(np.stack([high, low], 1), clusters, rng)
    ratio = quotient(means[:, 0], means[:, 1]) / rng.choice(np.asarray(null, dtype=float), len(means))
    method = f"{bootstrap_method(clusters)}, over a permutation of lifts among like units"
    return from_draws(high.mean() / low.mean(), ratio, method, len(high))
