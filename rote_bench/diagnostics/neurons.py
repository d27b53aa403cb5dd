"""Do memorised labels come from outlying use of existing heuristics?

MLP units are classified before memorization by the simple input patterns on which they are most active (Nikankin et
al., 2025): the share of a unit's top examples that fit the pattern, as a lift over how common the pattern is, against
a null in which examples are permuted. Then the same units are followed to the model after memorization: how much do
they shift on mislabelled examples, compared with clean ones, and does putting back the units that shift most undo
memorization?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..measures import Measure
from ..statistics import Estimate, bootstrap_method, from_draws, quotient, resampled_means
from . import Details, Diagnostic, NotApplicable, Records, Result, lowest, too_low

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ..encoding import Encoded
    from ..interventions import Site
    from ..models.anatomy import Anatomy
    from ..subject import Subject, View

PRE, POST = "pre_memorization", "post_memorization"
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True)
class NeuronsOptions:
    """How units are classified.

    Attributes:
        examples: examples on which units are classified and followed.
        top: most active examples of each unit that are looked at.
        lift: how much more common a pattern must be among them than among all.
    """

    examples: int = field(default=768, metadata={"min": 20})
    top: int = field(default=40, metadata={"min": 5})
    lift: float = field(default=2.0, metadata={"above": 1})


class Neurons(Diagnostic[NeuronsOptions]):
    """Heuristic units before memorization, and what becomes of them."""

    name = "neurons"
    version = 4
    description = "whether memorization shifts units that already were heuristics"
    metrics: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "heuristic_shift",
            "how much more heuristic units shift on mislabelled than on clean examples",
            "train_noisy, train_clean",
        ),
        Measure(
            "heuristic_shift_concentration",
            "share of that shift in heuristic units over their share of all units",
            "train_noisy",
            interval="a property of all units, not a mean over examples",
        ),
        Measure(
            "unit_patch_dissociation",
            "undoing memorization by most shifted units, beyond random units",
            "validation, train_noisy",
        ),
    )
    Options: ClassVar[type] = NeuronsOptions
    passes = (8, 5)

    def run(self, subject: Subject) -> Result:
        if PRE not in subject.anatomies:
            raise NotApplicable(subject.without_pre)
        if len(subject.noisy) == 0:
            raise NotApplicable("no noisy labels at this noise rate")
        support = subject.anatomy().supports("units")
        if not support.ok:
            raise NotApplicable(f"MLP units could not be proved: {support.detail}")
        before, after = subject.anatomies[PRE], subject.anatomies[POST]
        n = min(self.options.examples, len(subject.noisy), len(subject.clean))
        fit = subject.more_clean(self.options.examples)
        family, classified = _classify(subject, before, fit, self.options)
        shifts = {
            view.name: _activations(subject, after, view, n) - _activations(subject, before, view, n)
            for view in (subject.noisy, subject.clean)
        }
        noisy, clean = np.abs(shifts["noisy"]), np.abs(shifts["clean"])
        ratio = noisy.mean(0).sum() / max(1e-12, clean.mean(0).sum())
        metrics: dict[str, Estimate] = {}
        share_units = float(classified.mean())
        if classified.any():
            metrics["heuristic_shift"] = _shift(noisy[:, classified], clean[:, classified], subject)
            of_shift = float(noisy.mean(0)[classified].sum() / max(1e-12, noisy.mean(0).sum()))
            enrichment = Estimate.missing("no unit moves on mislabelled examples", n)
            if noisy.any():
                enrichment = Estimate(of_shift / share_units, None, None, None, n)
        else:
            enrichment = Estimate.missing("no unit follows a pattern above its null")
            metrics["heuristic_shift"], of_shift = enrichment, 0.0
        metrics["heuristic_shift_concentration"] = enrichment
        order = np.argsort(-(noisy.mean(0) - clean.mean(0)), kind="stable")
        patched = _patch_units(subject, before, after, order)
        metrics["unit_patch_dissociation"] = _area(subject, patched)
        least = _least(subject, patched)
        why = _too_little(least)
        if why is not None:
            metrics = {name: Estimate.missing(why, n) for name in metrics}
        signed = shifts["noisy"].mean(0) - shifts["clean"].mean(0)
        details = {
            "arithmetic": subject.task.arithmetic,
            "least": least,
            "units": len(classified),
            "classified": int(classified.sum()),
            "families": family,
            "mean_shift": {
                "noisy": float(noisy.mean()),
                "clean": float(clean.mean()),
                "noisy_over_clean": float(ratio),
                "signed_difference_classified": float(signed[classified].mean()) if classified.any() else None,
            },
            "share_of_shift_in_classified": of_shift,
            "shares": list(SHARES),
            "patching": {way: {k: [float(v.mean()) for v in rows[k]] for k in rows} for way, rows in patched.items()},
        }
        return Result(metrics, details)

    def implied(self, details: Details, records: Records) -> Mapping[str, float | None]:
        if _too_little(details["least"]) is not None:
            return dict.fromkeys(("heuristic_shift", "heuristic_shift_concentration", "unit_patch_dissociation"))
        share = details["classified"] / details["units"]
        patching = details["patching"]

        def area(way: str) -> float:
            held, noisy = (np.asarray(patching[way][key], dtype=float) for key in ("validation", "memorized"))
            return float((held[1:] / held[0] - noisy[1:] / noisy[0]).mean())

        shifted, random = area("by_shift"), area("random")
        moved = share and details["mean_shift"]["noisy"]
        concentration = details["share_of_shift_in_classified"] / share if moved else None
        return {
            "heuristic_shift_concentration": concentration,
            "unit_patch_dissociation": shifted - random,
        }

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """What putting back the units that shifted most does, and which families of patterns units follow."""
        from ..report import figures

        lines = (
            ("validation", "right on held-out questions", figures.HELD_OUT),
            ("memorized", "wrong label still given", figures.MEMORISED),
        )
        with figures.drawing(path, 2, 9.2, 4.2, share=False) as (figure, (left, right)):
            for way, dash, suffix in (("by_shift", "-", ""), ("random", ":", ", random units")):
                for key, text, color in lines:
                    values = details["patching"][way][key]
                    left.plot([0.0, *details["shares"]], values, dash, color=color, label=text + suffix)
            left.set_xlabel("share of MLP units put back, most shifted first")
            figures.shares(left, "share of questions")
            families = details["families"] or {"none": 0}
            total = max(1, details["units"])
            right.barh(list(families)[::-1], [n / total for n in families.values()][::-1], color=figures.CLEAN)
            right.set_xlabel("share of units that follow a pattern")
            figures.panel(right, f"{details['classified']} of {details['units']} units")
            figures.legend(figure, left, 2)
            figures.title(figure, "Units before memorization, put back after it")
        return True


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


def _classify(
    subject: Subject, anatomy: Anatomy, fit: View, options: NeuronsOptions
) -> tuple[dict[str, int], NDArray[np.bool_]]:
    """Number of units per family of patterns, and (units,) whether a unit follows any pattern above the null.

    The null permutes which example has which patterns and takes, over all patterns, the largest lift of each unit.
    """
    activations = _activations(subject, anatomy, fit, options.examples)
    n = len(activations)
    names = sorted({h for e in fit.labelled.examples[:n] for h in subject.task.heuristics(e)})
    index = {name: i for i, name in enumerate(names)}
    fits: NDArray[np.float32] = np.zeros((n, len(names)), dtype=np.float32)
    for row, e in enumerate(fit.labelled.examples[:n]):
        for h in subject.task.heuristics(e):
            fits[row, index[h]] = 1
    common = (fits.mean(0) >= 2 / n) & (fits.mean(0) <= 0.5)
    fits, kept = fits[:, common], [name for name, ok in zip(names, common, strict=True) if ok]
    if not kept:
        return {}, np.zeros(activations.shape[1], dtype=bool)
    top = np.argsort(-activations, axis=0)[: options.top].T
    prevalence = fits.mean(0)
    # A pattern must also cover enough of the top examples that a lift is no accident of a rare pattern.
    spread = np.sqrt(prevalence * (1 - prevalence) / options.top)

    def scores(table: NDArray[np.float32]) -> NDArray[np.float64]:
        z: NDArray[np.float64] = (table[top].mean(1) - prevalence) / spread
        return z

    rng = subject.rng("neurons")
    null = np.concatenate([scores(fits[rng.permutation(n)]).max(1) for _ in range(5)])
    observed = scores(fits)
    best = observed.argmax(1)
    lift = fits[top].mean(1)[np.arange(len(best)), best] / prevalence[best]
    active = activations.std(0) > 1e-6
    classified: NDArray[np.bool_] = (observed.max(1) > np.quantile(null, 0.99)) & (lift >= options.lift) & active
    families: dict[str, int] = {}
    for unit in np.flatnonzero(classified):
        name = kept[best[unit]].partition(":")[0]
        families[name] = families.get(name, 0) + 1
    return dict(sorted(families.items(), key=lambda item: -item[1])), classified


def _shift(noisy: NDArray[np.float64], clean: NDArray[np.float64], subject: Subject) -> Estimate:
    """Mean absolute shift of classified units on mislabelled examples over that on clean ones, minus 1."""
    rng = subject.rng("neurons-shift")
    a, b = noisy.mean(1), clean.mean(1)
    if not b.mean() > 0:
        reason = "the classified units do not move on clean examples, so that nothing can be compared with them"
        return Estimate.missing(reason, len(a) + len(b))
    draws = quotient(resampled_means(a, np.arange(len(a)), rng), resampled_means(b, np.arange(len(b)), rng))
    value = a.mean() / b.mean() - 1
    return from_draws(value, draws - 1, "parametric bootstrap over examples", len(a) + len(b))


def _patch_units(
    subject: Subject, before: Anatomy, after: Anatomy, order: NDArray[np.int64]
) -> dict[str, dict[str, list[NDArray[np.float64]]]]:
    """Per share of units put back, correctness on V and memorization on D_n; units by shift and in random order."""
    shuffled = subject.rng("neurons-order").permutation(order)
    out: dict[str, dict[str, list[NDArray[np.float64]]]] = {}
    for way, ranking in (("by_shift", order), ("random", shuffled)):
        chosen = [ranking[: round(share * len(ranking))] for share in (0.0, *SHARES)]
        out[way] = {
            "validation": _hits(subject, before, after, subject.validation.true, chosen),
            "memorized": _hits(subject, before, after, subject.noisy.taught, chosen),
        }
    return out


def _hits(
    subject: Subject,
    before: Anatomy,
    after: Anatomy,
    encoded: Encoded,
    chosen: Sequence[NDArray[np.int64]],
    limit: int = 256,
) -> list[NDArray[np.float64]]:
    """For each choice of units, (n,) correctness when they are put back."""
    import torch

    from ..evaluation import batches
    from ..interventions import Intact, capture, replace_units, run

    sites = _sites(after)
    width, device = after.input_width(0, "units"), encoded.input_ids.device
    by_site = [
        {s: torch.tensor(np.sort(each[each // width == i] % width), device=device) for i, s in enumerate(sites)}
        for each in chosen
    ]
    out: list[list[Tensor]] = [[] for _ in chosen]
    with torch.inference_mode():
        for rows in batches(min(limit, len(encoded)), subject.batch_size):
            part = encoded.rows(rows)
            _, states = capture(before, part.input_ids, sites, columns=part.scored)
            intact = Intact(after, part.input_ids, columns=part.scored)
            for units, hits in zip(by_site, out, strict=True):
                edits = {s: replace_units(states[s], index) for s, index in units.items() if len(index)}
                logits = run(after, part.input_ids, edits, intact)
                hits.append(part.correct(logits, intact.columns).double().cpu())
    return [torch.cat(hits).numpy() for hits in out]


def _least(subject: Subject, patched: Mapping[str, Mapping[str, list[NDArray[np.float64]]]]) -> dict[str, float]:
    """Lower bounds of what the intact model does."""
    intact = {key: rows[0] for key, rows in patched["by_shift"].items()}
    clusters = {"validation": subject.validation.clusters, "memorized": subject.noisy.clusters}
    return {key: lowest(hits, clusters[key][: len(hits)]) for key, hits in intact.items()}


def _too_little(least: Mapping[str, float]) -> str | None:
    """Why nothing is said of what changed: the intact model did not learn, or did not memorise."""
    held, memory = "the intact model's held-out accuracy", "the intact model's memorization"
    return too_low(held, least["validation"]) or too_low(memory, least["memorized"])


def _area(subject: Subject, patched: Mapping[str, Mapping[str, list[NDArray[np.float64]]]]) -> Estimate:
    """Mean over shares of relative accuracy kept minus relative memorization kept, by shift minus in random order."""
    rng = subject.rng("neurons-area")
    held, noisy = (
        np.stack([*patched["by_shift"][k], *patched["random"][k][1:]], 1) for k in ("validation", "memorized")
    )
    k = len(SHARES)

    def area(v: NDArray[np.float64], m: NDArray[np.float64]) -> NDArray[np.float64]:
        kept = quotient(v[..., 1:], v[..., :1]) - quotient(m[..., 1:], m[..., :1])
        out: NDArray[np.float64] = kept[..., :k].mean(-1) - kept[..., k:].mean(-1)
        return out

    clusters = subject.validation.clusters[: len(held)], subject.noisy.clusters[: len(noisy)]
    draws = area(resampled_means(held, clusters[0], rng), resampled_means(noisy, clusters[1], rng))
    value = area(held.mean(0), noisy.mean(0))
    return from_draws(value, draws, bootstrap_method(*clusters), len(held) + len(noisy))
