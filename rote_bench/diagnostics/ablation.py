"""How many heads and MLP units hold the memorised labels? Mean-ablation in order of importance.

Importance is how far the label's lead over the true answer falls on memorised examples: for a head when it alone is set
to its mean over the task's clean examples (Michel et al., 2019), for one of many units to first order, (mean -
activation) times gradient, summed over positions (Nanda, 2023). More and more of them are set to their mean until
memorization of these same examples is halved: a table with an entry for each label has no part that matters for labels
on which it was not ranked. Random orders are the control. A look-up table would need few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..measures import SHARE, Measure
from ..statistics import Estimate, mean, t_quantile
from . import Details, Diagnostic, NotApplicable, Records, Result, levels, too_low

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ..encoding import Encoded
    from ..interventions import Edit, Site
    from ..models.anatomy import Anatomy
    from ..subject import Subject

FITTED = 256  # clean examples, at the most, from which means come
ALONE = 4096  # runs of one example, at the most, in which heads are removed one by one
SHARES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75)  # of units
HEADS = (1, 2, 3)  # and doublings of the last two, up to three quarters of all
ORDERS = 20
KINDS = {"heads": "attention heads", "units": "MLP units"}
KEYS = {"noisy": "memorization_rate", "validation": "validation_accuracy"}
METHOD = "least and greatest number by the intervals of both curves"


@dataclass(frozen=True)
class AblationOptions:
    """How much is measured.

    Attributes:
        examples: largest number of examples of each kind.
        control_examples: wrong labels, at the most, on which random orders are tried.
        kept: share of the intact held-out accuracy that must survive.
    """

    examples: int = field(default=384, metadata={"min": 2})
    control_examples: int = field(default=48, metadata={"min": 2})
    kept: float = field(default=0.95, metadata={"above": 0, "max": 1})


class Ablation(Diagnostic[AblationOptions]):
    """Mean-ablation of heads and MLP units by importance for memorization, and in random orders."""

    name = "ablation"
    version = 5
    description = "the smallest number of heads or MLP units that holds half of the memorised labels"
    metrics: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "distributedness_k50",
            "smallest share of heads or units whose removal halves memorization alone",
            "train_noisy, validation",
            SHARE,
            interval=False,
        ),
        *(
            Measure(
                f"k50_{kind}",
                f"smallest number of {what} whose removal halves memorization alone",
                "train_noisy, validation",
                interval=False,
            )
            for kind, what in KINDS.items()
        ),
    )
    Options: ClassVar[type] = AblationOptions
    passes = (3, 31)

    def run(self, subject: Subject) -> Result:
        noisy, held = subject.noisy, subject.validation
        if len(noisy) == 0:
            raise NotApplicable("no noisy labels at this noise rate")
        anatomy = subject.anatomy()
        kinds = [kind for kind in KINDS if anatomy.supports(kind).ok]
        if not kinds:
            raise NotApplicable(f"neither heads nor MLP units could be proved: {anatomy.supports('heads').detail}")
        most, control = self.options.examples, self.options.control_examples
        parts = {"noisy": noisy.taught.rows(slice(most)), "validation": held.true.rows(slice(most))}
        parts["others"] = noisy.taught.rows(slice(most, most + control))
        clusters = {"noisy": noisy.clusters[:most], "validation": held.clusters[:most]}
        clusters["others"] = noisy.clusters[most : most + control]
        few = parts["noisy"].rows(slice(control))

        def curve(view: str, changes: Sequence[Mapping[Site, Edit]]) -> tuple[NDArray[np.bool_], dict[str, Any]]:
            hits = _hits(subject, parts[view], changes)
            return hits, levels(hits, clusters[view])

        details: dict[str, Any] = {"examples": {view: len(parts[view]) for view in KEYS}}
        details["control_examples"] = len(few)
        whole = {view: curve(view, [{}]) for view in KEYS}
        details["intact"] = {key: whole[view][1] for view, key in KEYS.items()}
        right = whole["validation"][0][:, 0]
        details["kinds"] = {}
        rng = subject.rng(self.name)
        for kind in kinds:
            groups = _groups(anatomy, kind)
            means = _means(subject, kind)
            order = np.argsort(-_importance(subject, kind, groups, means, most), kind="stable")
            numbers = _numbers(kind, len(order))

            def removed(ranking: Any, groups: Any = groups, means: Any = means, at: Any = numbers) -> list[Any]:
                return [_edits(groups, means, ranking[:k]) for k in at]

            found = {key: curve(view, removed(order)) for view, key in KEYS.items()}
            # Of the held-out questions that the whole model answers: the same ones, so that few are enough to tell.
            kept = levels(found["validation_accuracy"][0][right], clusters["validation"][right])
            # Whether the ranking also holds for labels on which it was not made.
            others = curve("others", removed(order))[1] if len(parts["others"]) else None
            drawn = np.array([_hits(subject, few, removed(rng.permutation(len(order)))) for _ in range(ORDERS)])
            details["kinds"][kind] = {
                "count": len(order),
                "numbers": numbers,
                "by_importance": {key: line for key, (_, line) in found.items()},
                "accuracy_kept": kept,
                "on_other_labels": others,
                "random": _spread(drawn, clusters["noisy"][: len(few)]),
                # The mean over the numbers tried, which lie about evenly on a logarithmic scale.
                "area": {
                    "by_importance": float(found["memorization_rate"][0][: len(few)].mean()),
                    "random": drawn.mean((1, 2)).tolist(),
                },
            }
        return Result(self.implied(details, {}), details)

    def implied(self, details: Details, records: Records) -> Mapping[str, Estimate]:
        n, why = sum(details["examples"].values()), _too_little(details)
        out, shares = {}, []
        for kind, what in KINDS.items():
            found = details["kinds"].get(kind)
            if why is not None or found is None:
                # On no examples: that nothing is found is no evidence where nothing can be.
                out[f"k50_{kind}"] = Estimate.missing(why or f"{what} could not be proved")
                continue
            ends = _k50(found, details["intact"], self.options.kept)
            out[f"k50_{kind}"] = _number(
                ends, f"no number of {what} halves memorization and spares held-out accuracy", n
            )
            shares.append([None if end is None else end / found["count"] for end in ends])
        if why is not None:
            return {"distributedness_k50": Estimate.missing(why), **out}
        least = [min((end for end in ends if end is not None), default=None) for ends in zip(*shares, strict=True)]
        reason = "no share of heads or units halves memorization and spares held-out accuracy"
        return {"distributedness_k50": _number(least, reason, n), **out}

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """Accuracy and memorization as more heads or units are set to their mean."""
        from ..report import figures

        kinds = details["kinds"]
        with figures.drawing(path, len(kinds), 4.6 * len(kinds) + 0.8, 4.4) as (figure, axes):
            for ax, (kind, found) in zip(axes, kinds.items(), strict=True):
                numbers, by = found["numbers"], found["by_importance"]
                figures.line(
                    ax,
                    numbers,
                    by["validation_accuracy"],
                    figures.HELD_OUT,
                    "right on held-out questions, most important removed",
                )
                figures.line(
                    ax,
                    numbers,
                    by["memorization_rate"],
                    figures.MEMORISED,
                    "wrong label still given, most important removed",
                )
                text = f"wrong label still given, random order (mean and range of {ORDERS})"
                figures.line(ax, numbers, found["random"], figures.GREY, text, "--", "")
                ax.set_xscale("log")
                ticks = [k for k in numbers if kind == "heads" or k in numbers[::2]]
                ax.set_xticks(ticks, [f"{k:,}" for k in ticks])
                ax.minorticks_off()
                figures.panel(ax, f"{KINDS[kind]} ({found['count']:,} in all)")
                ax.set_xlabel(f"number of {KINDS[kind]} switched off (set to their mean)")
                figures.shares(ax)
            axes[0].set_ylabel("share of questions")
            figures.legend(figure, axes[0], 1)
            figures.title(figure, _sentence(details))
        return True


def _sentence(details: Details) -> str:
    """What is left without the most important few, and without as many random ones."""
    from ..report.figures import percent

    said = []
    for kind, found in details["kinds"].items():
        few = max(1, min(2, found["count"] // 8)) if kind == "heads" else 0.05 * found["count"]
        place = max((i for i, k in enumerate(found["numbers"]) if k <= round(few)), default=0)
        memory = [levels["value"][place] for levels in (found["by_importance"]["memorization_rate"], found["random"])]
        own, random = (percent(share) for share in memory)
        number = f"{found['numbers'][place]:,} of {found['count']:,} {KINDS[kind]}"
        said.append(f"the most important {number} {own} of the wrong labels are left ({random} without as many random)")
    return "Without " + ", without ".join(said)


def _numbers(kind: str, count: int) -> list[int]:
    """How many are removed, one number after the other."""
    if kind == "units":
        return sorted({max(1, round(share * count)) for share in SHARES})
    numbers = list(HEADS)
    while numbers[-2] * 2 <= 0.75 * count:
        numbers.append(numbers[-2] * 2)
    return [k for k in numbers if k <= max(1, 0.75 * count)]


def _spread(drawn: NDArray[np.bool_], clusters: NDArray[np.int64]) -> dict[str, list[float]]:
    """Means over orders and the range of all, from hits (orders, n, numbers).

    ``reach_of_mean`` is that of a 95 % interval of the mean, t over orders and the jackknife over examples together.
    """
    orders, examples = drawn.mean(1), [mean(column, clusters) for column in drawn.mean(0).T]
    of_orders = t_quantile(len(orders) - 1) * orders.std(0, ddof=1) / np.sqrt(len(orders))
    of_examples = np.array([1.0 if e.ci_high is None or e.value is None else e.ci_high - e.value for e in examples])
    reach = np.minimum(np.hypot(of_orders, of_examples), 1.0)
    ends = {"value": orders.mean(0), "ci_low": orders.min(0), "ci_high": orders.max(0), "reach_of_mean": reach}
    return {key: line.tolist() for key, line in ends.items()}


def _too_little(details: Details) -> str | None:
    """Why there is nothing to halve or to spare."""
    for key, what in (
        ("memorization_rate", "the intact model's memorization"),
        ("validation_accuracy", "the intact model's held-out accuracy"),
    ):
        why = too_low(what, details["intact"][key]["ci_low"][0] or 0.0)
        if why is not None:
            return why
    return None


def _k50(found: Mapping[str, Any], intact: Mapping[str, Any], kept: float) -> tuple[int | None, int | None, int | None]:
    """The smallest number that leaves at most half of memorization and ``kept`` of held-out accuracy.

    By the values; the smallest that may, by the favourable ends of both intervals; the smallest that surely does, by
    the unfavourable ones. None where no number does.
    """
    memory, held = (found["by_importance"][key] for key in ("memorization_rate", "validation_accuracy"))
    half = 0.5 * intact["memorization_rate"]["value"][0]
    least = kept * intact["validation_accuracy"]["value"][0]

    def first(of_memory: str, of_held: str) -> int | None:
        rows = zip(found["numbers"], memory[of_memory], held[of_held], strict=True)
        return next((int(number) for number, m, h in rows if m <= half and h >= least), None)

    return first("value", "value"), first("ci_low", "ci_high"), first("ci_high", "ci_low")


def _number(ends: Sequence[float | None], reason: str, n: int) -> Estimate:
    """The number, the smallest that there may be and the smallest that surely does, as an estimate."""
    value, low, high = ends
    if value is None:
        return Estimate.missing(reason, n)
    if low is None or high is None:
        why = "no number that was tried halves memorization for sure"
        return Estimate(value, None, None, None, n, reason_if_no_interval=why)
    return Estimate(value, low, high, METHOD, n)


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
) -> NDArray[np.float64]:
    """(groups,) the fall of the label's lead over the true answer when a group goes to its mean.

    Of heads as it is when each goes alone, of units to first order.

    Args:
        limit: the first so many wrong labels at the most.
    """
    import torch

    from ..encoding import first_difference
    from ..evaluation import batches
    from ..interventions import Intact, capture_with_gradient, run

    noisy, anatomy = subject.noisy, subject.anatomy()
    limit = min(limit, len(noisy))
    if kind == "heads":
        limit = max(1, min(limit, ALONE // len(groups)))
    falls = np.zeros(len(groups))
    scores = {site: torch.zeros_like(mean) for site, mean in means.items()}
    for rows in batches(limit, subject.batch_size):
        true = noisy.true.rows(rows)
        position, y, label = first_difference(true, noisy.taught.rows(rows))
        index = torch.arange(len(true), device=position.device)
        columns, column = torch.unique(position, return_inverse=True)

        def lead(logits: Tensor, at: tuple[Tensor, ...] = (index, column, y, label)) -> Tensor:
            row, place, own, other = at
            return (logits[row, place, other] - logits[row, place, own]).sum()

        if kind == "heads":
            with torch.inference_mode():
                intact = Intact(anatomy, true.input_ids, columns=columns)
                for i in range(len(groups)):
                    changed = run(anatomy, true.input_ids, _edits(groups, means, np.array([i])), intact)
                    falls[i] += float(lead(intact.logits) - lead(changed))
            continue
        _, pairs = capture_with_gradient(anatomy, true.input_ids, list(means), lead, columns=columns)
        for site, (activation, gradient) in pairs.items():  # padding has no gradient
            scores[site] += ((activation.float() - means[site]) * gradient.float()).sum((0, 1))
    return falls if kind == "heads" else np.array([float(scores[site][part].sum()) for site, part in groups])


def _edits(groups: list[tuple[Site, slice]], means: Mapping[Site, Tensor], chosen: Any) -> dict[Site, Edit]:
    import torch

    from ..interventions import ablate

    units: dict[Site, list[int]] = {}
    for i in chosen.tolist():
        site, part = groups[i]
        units.setdefault(site, []).extend(range(part.start, part.stop))
    return {site: ablate(means[site], torch.tensor(index, device=means[site].device)) for site, index in units.items()}


def _hits(subject: Subject, encoded: Encoded, changes: Sequence[Mapping[Site, Edit]]) -> NDArray[np.bool_]:
    """(n, changes) whether the answer is given under each change."""
    import torch

    from ..evaluation import batches
    from ..interventions import Intact, run

    anatomy = subject.anatomy()
    hits: list[Tensor] = []
    with torch.inference_mode():
        for rows in batches(len(encoded), subject.batch_size):
            part = encoded.rows(rows)
            intact = Intact(anatomy, part.input_ids, columns=part.scored)
            given = [part.correct(run(anatomy, part.input_ids, edits, intact), intact.columns) for edits in changes]
            hits.append(torch.stack(given, 1))
    return np.asarray(torch.cat(hits).cpu().numpy())
