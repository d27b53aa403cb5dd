"""How many heads and MLP units hold the memorised labels? Mean-ablation in order of importance.

Importance is the attribution of the label's lead over the true answer, (mean - activation) times gradient, summed over
positions and averaged over memorised examples (Nanda, 2023). Units are ablated to their mean over the task's own
clean examples, more and more of them, until memorization is halved; a random order is the control. A look-up table
would need few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..measures import SHARE, Measure
from ..statistics import Estimate, wilson
from . import Details, Diagnostic, NotApplicable, Records, Result, too_low

if TYPE_CHECKING:
    from torch import Tensor

    from ..encoding import Encoded
    from ..interventions import Edit, Site
    from ..models.anatomy import Anatomy
    from ..subject import Subject

FITTED = 256  # examples, at the most, from which means and importances come
SHARES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75)


@dataclass(frozen=True)
class AblationOptions:
    """How much is measured.

    Attributes:
        examples: largest number of examples of each kind; means and importances come from 256 of them at the most.
        kept: share of the intact held-out accuracy that must survive.
    """

    examples: int = field(default=384, metadata={"min": 2})
    kept: float = field(default=0.95, metadata={"above": 0, "max": 1})


class Ablation(Diagnostic[AblationOptions]):
    """Mean-ablation of heads and MLP units by importance for memorization."""

    name = "ablation"
    version = 4
    description = "the smallest share of heads or MLP units that holds half of the memorised labels"
    metrics: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "distributedness_k50",
            "smallest share of heads or units whose removal halves memorization alone",
            "train_noisy, validation",
            SHARE,
            interval="one of a few shares that are tried, not a mean over examples",
        ),
    )
    Options: ClassVar[type] = AblationOptions
    passes = (2, 23)

    def run(self, subject: Subject) -> Result:
        if len(subject.noisy) == 0:
            raise NotApplicable("no noisy labels at this noise rate")
        anatomy = subject.anatomy()
        kinds = [kind for kind in ("heads", "units") if anatomy.supports(kind).ok]
        if not kinds:
            raise NotApplicable("neither heads nor MLP units could be proved")
        details: dict[str, Any] = {"shares": list(SHARES), "kinds": {}}
        (details["intact"],) = _levels(subject, self.options, [{}])
        details["examples"] = {
            view.name: min(self.options.examples, len(view)) for view in (subject.noisy, subject.validation)
        }
        rng = subject.rng(self.name)
        for kind in kinds:
            groups = _groups(anatomy, kind)
            means = _means(subject, kind)
            scores = _importance(subject, kind, groups, means, self.options.examples)
            order = np.argsort(-scores, kind="stable")
            curves = {}
            for way, ranking in (("by_importance", order), ("random", rng.permutation(len(order)))):
                counts = [max(1, round(share * len(ranking))) for share in SHARES]
                of_count = {count: _edits(groups, means, ranking[:count]) for count in counts}
                levels = dict(zip(of_count, _levels(subject, self.options, [*of_count.values()]), strict=True))
                curves[way] = {key: [levels[count][key] for count in counts] for key in details["intact"]}
            details["kinds"][kind] = {"count": len(order), **curves}
        details["k50"] = self._smallest(details)
        return Result(self.implied(details, {}), details)

    def _smallest(self, details: Details) -> dict[str, float | None]:
        """The smallest share of each kind that is enough."""
        return {
            kind: _k50(curves["by_importance"], details["intact"], self.options.kept)
            for kind, curves in details["kinds"].items()
        }

    def implied(self, details: Details, records: Records) -> Mapping[str, Estimate]:
        n, shares = sum(details["examples"].values()), self._smallest(details).values()
        known = [share for share in shares if share is not None]
        why = _too_little(details)
        if why is not None:
            # On no examples: that nothing is found is no evidence where nothing can be.
            estimate = Estimate.missing(why)
        elif known:
            estimate = Estimate(min(known), None, None, None, n)
        else:
            reason = "no share of heads or units halves memorization and spares held-out accuracy: fully distributed"
            estimate = Estimate.missing(reason, n)
        return {"distributedness_k50": estimate}

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """Accuracy and memorization as more heads or units are set to their mean."""
        from ..report import figures

        kinds = {"heads": "attention heads", "units": "MLP units"}
        lines = (
            ("validation_accuracy", "right on held-out questions", figures.HELD_OUT),
            ("memorization_rate", "wrong label still given", figures.MEMORISED),
        )
        with figures.drawing(path, len(details["kinds"]), 4.4 * len(details["kinds"]) + 0.6, 4.2) as (figure, axes):
            for ax, (kind, curves) in zip(axes, details["kinds"].items(), strict=True):
                for way, dash, suffix in (("by_importance", "-", ""), ("random", ":", ", random order")):
                    for key, text, color in lines:
                        ax.plot(details["shares"], curves[way][key], dash, color=color, label=text + suffix)
                ax.set_xscale("log")
                ax.xaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
                figures.panel(ax, f"{kinds[kind]} ({curves['count']})")
                ax.set_xlabel("share set to its mean")
                figures.shares(ax)
            axes[0].set_ylabel("share of questions")
            figures.legend(figure, axes[0], 2)
            figures.title(figure, "Removing what matters most for memorization")
        return True


def _too_little(details: Details) -> str | None:
    """Why there is nothing to halve or to spare."""
    for view, key, what in (
        ("noisy", "memorization_rate", "the intact model's memorization"),
        ("validation", "validation_accuracy", "the intact model's held-out accuracy"),
    ):
        n = int(details["examples"][view])
        why = too_low(what, wilson(round(details["intact"][key] * n), n).ci_low or 0.0)
        if why is not None:
            return why
    return None


def _k50(curve: Mapping[str, list[float]], intact: Mapping[str, float], kept: float) -> float | None:
    """The smallest share at which memorization is at most half and held-out accuracy at least ``kept`` of intact.

    None where there is nothing to halve or to spare.
    """
    if not all(intact.values()):
        return None
    for share, memory, accuracy in zip(SHARES, curve["memorization_rate"], curve["validation_accuracy"], strict=True):
        if memory <= 0.5 * intact["memorization_rate"] and accuracy >= kept * intact["validation_accuracy"]:
            return share
    return None


def _groups(anatomy: Anatomy, kind: str) -> list[tuple[Site, slice]]:
    """Every head as a slice of its projection's input, or every MLP unit as a slice of one."""
    from ..interventions import Site

    out = []
    for layer in range(anatomy.n_layers):
        weight = anatomy.input_width(layer, kind)
        step = weight // (anatomy.structure.n_heads or 1) if kind == "heads" else 1
        out += [(Site(layer, kind), slice(start, start + step)) for start in range(0, weight, step)]
    return out


def _means(subject: Subject, kind: str) -> dict[Site, Tensor]:
    """Mean input of each projection over the positions of clean training examples."""
    from ..interventions import Site, mean_states

    anatomy = subject.anatomy()
    sites = [Site(layer, kind) for layer in range(anatomy.n_layers)]
    return mean_states(anatomy, subject.clean.true.rows(slice(FITTED)), sites, batch_size=subject.batch_size)


def _importance(
    subject: Subject, kind: str, groups: list[tuple[Site, slice]], means: Mapping[Site, Tensor], limit: int
) -> Any:
    """(groups,) the first-order fall of the label's lead over the true answer when a group goes to its mean."""
    import torch

    from ..encoding import first_difference
    from ..evaluation import batches
    from ..interventions import capture_with_gradient

    noisy = subject.noisy
    scores = {site: torch.zeros_like(mean) for site, mean in means.items()}
    for rows in batches(min(limit, len(noisy), FITTED), subject.batch_size):
        true = noisy.true.rows(rows)
        position, y, label = first_difference(true, noisy.taught.rows(rows))
        index = torch.arange(len(true), device=position.device)
        columns, column = torch.unique(position, return_inverse=True)

        def lead(logits: Tensor, at: tuple[Tensor, ...] = (index, column, y, label)) -> Tensor:
            row, place, own, other = at
            return (logits[row, place, other] - logits[row, place, own]).sum()

        _, pairs = capture_with_gradient(subject.anatomy(), true.input_ids, list(means), lead, columns=columns)
        for site, (activation, gradient) in pairs.items():  # padding has no gradient
            scores[site] += ((activation.float() - means[site]) * gradient.float()).sum((0, 1))
    return np.array([float(scores[site][part].sum()) for site, part in groups])


def _edits(groups: list[tuple[Site, slice]], means: Mapping[Site, Tensor], chosen: Any) -> dict[Site, Edit]:
    import torch

    from ..interventions import ablate

    units: dict[Site, list[int]] = {}
    for i in chosen.tolist():
        site, part = groups[i]
        units.setdefault(site, []).extend(range(part.start, part.stop))
    return {site: ablate(means[site], torch.tensor(index, device=means[site].device)) for site, index in units.items()}


def _levels(
    subject: Subject, options: AblationOptions, changes: Sequence[Mapping[Site, Edit]]
) -> list[dict[str, float]]:
    """Held-out accuracy and memorization under each change."""

    def shares(encoded: Encoded) -> list[float]:
        import torch

        from ..evaluation import batches
        from ..interventions import Intact, run

        anatomy = subject.anatomy()
        hits: list[list[Tensor]] = [[] for _ in changes]
        with torch.inference_mode():
            for rows in batches(min(options.examples, len(encoded)), subject.batch_size):
                part = encoded.rows(rows)
                intact = Intact(anatomy, part.input_ids, columns=part.scored)
                for edits, found in zip(changes, hits, strict=True):
                    found.append(part.correct(run(anatomy, part.input_ids, edits, intact), intact.columns))
        return [float(torch.cat(found).double().mean()) for found in hits]

    held, memorized = shares(subject.validation.true), shares(subject.noisy.taught)
    return [
        {"validation_accuracy": accuracy, "memorization_rate": rate}
        for accuracy, rate in zip(held, memorized, strict=True)
    ]
