"""Do the clean task and the memorised labels run on the same heads and units?

Nodes are attention heads and MLP units. Each node's importance is the integrated gradient of a logit lead along the
straight line from its mean activation to its own, layer by layer (Sundararajan et al., 2017; node-level EAP-IG, Hanna
et al., 2024). A circuit is the smallest share of nodes that keeps most of the lead when all others are set to their
mean. Overlap is compared at matched faithfulness, against random circuits and against the two halves of one task; and
because overlap is no substitute for faithfulness, each circuit is also run on the other task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..measures import Measure
from ..statistics import Estimate, cluster_codes, mean
from . import LEAST, Details, Diagnostic, NotApplicable, Records, Result

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ..interventions import Edit, Intact, Site
    from ..models.anatomy import Anatomy
    from ..subject import Subject, View

FITTED = 256  # clean examples, at the most, from which mean activations come
SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.85)
TASKS = ("clean", "memorization")
LEADS = {"clean": "the true answer", "memorization": "the wrong label"}


@dataclass(frozen=True)
class CircuitsOptions:
    """How circuits are found and scored.

    Attributes:
        examples: examples on which circuits are found, and as many on which they are scored.
        steps: points of each integral.
        faithfulness: the part of the lead that a circuit must keep.
    """

    examples: int = field(default=128, metadata={"min": 4})
    steps: int = field(default=6, metadata={"min": 1})
    faithfulness: float = field(default=0.8, metadata={"above": 0, "max": 1})


@dataclass(frozen=True)
class _Problem:
    """Inputs of one task with the two tokens whose lead is measured, at one position each, and their clusters.

    ``used`` is (n, length) and false on padding.
    """

    groups: list[str]
    ids: Tensor
    used: Tensor
    position: Tensor
    wanted: Tensor
    other: Tensor

    def part(self, rows: slice) -> _Problem:
        tensors = (self.ids, self.used, self.position, self.wanted, self.other)
        return _Problem(self.groups[rows], *(tensor[rows] for tensor in tensors))

    def repeated(self, times: int) -> _Problem:
        """All rows, and all of them again, so many times."""
        tensors = (self.ids, self.used, self.position, self.wanted, self.other)
        return _Problem(self.groups * times, *(tensor.repeat(times, *[1] * (tensor.ndim - 1)) for tensor in tensors))

    @property
    def columns(self) -> Tensor:
        """(columns,) the token indices at which leads are measured, in order."""
        import torch

        columns: Tensor = torch.unique(self.position)
        return columns

    def lead(self, logits: Tensor) -> Tensor:
        """(n,) logit of the wanted token minus that of the other, from logits (n, columns, vocabulary)."""
        import torch

        index = torch.arange(len(self.ids), device=logits.device)
        at = logits[index, torch.searchsorted(self.columns, self.position)].float()
        return at[index, self.wanted] - at[index, self.other]


class Circuits(Diagnostic[CircuitsOptions]):
    """Circuits of the clean task and of memorization, their overlap and cross-faithfulness."""

    name = "circuits"
    version = 6
    description = "whether the clean task and the memorised labels share heads and units"
    metrics: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "circuit_sharing",
            "overlap of both circuits between chance (0) and two halves of one task (1)",
            "validation, train_noisy",
            interval="a property of two circuits, not a mean over examples",
        ),
        Measure("cross_faithfulness_memorization", "memorization kept by the clean task's circuit", "train_noisy"),
        Measure("cross_faithfulness_clean", "the clean task kept by memorization's circuit", "validation"),
        Measure("cross_faithfulness_random", "memorization kept by a random circuit of that size", "train_noisy"),
    )
    Options: ClassVar[type] = CircuitsOptions
    passes = (300, 100)

    def run(self, subject: Subject) -> Result:
        if len(subject.noisy) == 0:
            raise NotApplicable("no noisy labels at this noise rate")
        anatomy = subject.anatomy()
        kinds = [kind for kind in ("heads", "units") if anatomy.supports(kind).ok]
        if not kinds:
            raise NotApplicable("neither heads nor MLP units could be proved")
        problems = {"clean": _problem(subject.validation), "memorization": _problem(subject.noisy)}
        half = min(self.options.examples, *(len(problem.ids) // 2 for problem in problems.values()))
        if half < 2:
            raise NotApplicable("too few examples to find circuits on one half and score them on the other")
        scored = {task: problem.part(slice(half, 2 * half)) for task, problem in problems.items()}
        details: dict[str, Any] = {"shares": list(SHARES), "steps": self.options.steps, "snapshots": {}}
        details["groups"] = {task: problem.groups for task, problem in scored.items()}
        found_on = {task: problem.part(slice(half)) for task, problem in problems.items()}
        for snapshot, one in subject.anatomies.items():
            details["snapshots"][snapshot] = _compare(subject, one, kinds, found_on, scored, self.options)
        return Result(self.implied(details, {}), details)

    def implied(self, details: Details, records: Records) -> Mapping[str, Estimate]:
        final, groups = details["snapshots"]["post_memorization"], details["groups"]
        lead = final["lead"]
        metrics = {"circuit_sharing": _ratio(final, len(groups["clean"]) + len(groups["memorization"]))}
        for name, key, task in (
            ("memorization", "clean_on_memorization", "memorization"),
            ("clean", "memorization_on_clean", "clean"),
            ("random", "random", "memorization"),
        ):
            level = mean(final["cross"][key], cluster_codes(groups[task]))
            reason = f"{LEADS[task]} does not lead, so that no circuit can keep its lead"
            metrics[f"cross_faithfulness_{name}"] = level if lead[task] > 0 else Estimate.missing(reason, level.n)
        return metrics

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """Faithfulness of each task's circuit by size, and circuits run on the other task."""
        from ..report import figures

        snapshots, colors = details["snapshots"], {"clean": figures.HELD_OUT, "memorization": figures.MEMORISED}
        diamonds = (
            ("clean_on_memorization", "clean", figures.MEMORISED, "memorization in the clean task's circuit"),
            ("memorization_on_clean", "memorization", figures.HELD_OUT, "clean task in memorization's circuit"),
            ("random", "clean", figures.GREY, "memorization in a random circuit"),
        )
        with figures.drawing(path, len(snapshots), 4.4 * len(snapshots) + 0.6, 4.2) as (figure, axes):
            for ax, (name, part) in zip(axes, snapshots.items(), strict=True):
                for task, text in (("clean", "clean task"), ("memorization", "memorization")):
                    curve = part["faithfulness"][task]
                    ax.plot(details["shares"], curve, "o-", color=colors[task], label=f"{text}, own circuit")
                for key, of, color, text in diamonds:
                    level = sum(part["cross"][key]) / len(part["cross"][key])
                    at = [part["share"][of]]
                    ax.plot(at, [level], "D", color=color, markersize=8, markerfacecolor="white", label=text)
                ax.set_xscale("log")
                ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
                text = (
                    f"{figures.SNAPSHOT_NAMES.get(name, name)}: overlap {part['iou']:.2f}\n(random circuits"
                    f" {part['iou_random']:.2f}, two halves of one task {part['iou_split_half']:.2f})"
                )
                figures.panel(ax, text, size=9.5)
                ax.set_xlabel("share of heads and units kept")
            axes[0].set_ylabel("part of the logit lead kept")
            figures.legend(figure, axes[0], 2)
            figures.title(figure, "Circuits of the clean task and of memorization")
        return True


def _ratio(final: Mapping[str, Any], n: int) -> Estimate:
    """The overlap between what chance gives and what two halves of one task give; circuits were found on n examples."""
    behind = next((LEADS[task] for task, lead in final["lead"].items() if lead <= 0), None)
    if behind is not None:
        return Estimate.missing(f"{behind} does not lead, so that it has no circuit", n)
    overlap, random, halves = final["iou"], final["iou_random"], final["iou_split_half"]
    if halves - random <= LEAST:
        return Estimate.missing("the circuits of two halves of one task hardly overlap more than random ones", n)
    return Estimate((overlap - random) / (halves - random), None, None, None, n)


def _compare(
    subject: Subject,
    anatomy: Anatomy,
    kinds: list[str],
    finding: Mapping[str, _Problem],
    scoring: Mapping[str, _Problem],
    options: CircuitsOptions,
) -> dict[str, Any]:
    """Find each task's circuit on one half of its examples and score both on the other half of both tasks."""
    nodes = _Nodes(subject, anatomy, kinds)
    found: dict[str, NDArray[np.float64]] = {}
    error: dict[str, float] = {}
    halves: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    for task, problem in finding.items():
        half = len(problem.ids)
        quarter = half // 2
        first, gap_a = nodes.importance(problem.part(slice(0, quarter)), options.steps)
        second, gap_b = nodes.importance(problem.part(slice(quarter, half)), options.steps)
        halves[task], found[task], error[task] = (first, second), first + second, max(gap_a, gap_b)
    sizes = {task: [nodes.top(found[task], s) for s in SHARES] for task in TASKS}
    curves = {t: nodes.faithfulness(scoring[t], sizes[t]).mean(1).tolist() for t in TASKS}
    resampled = {t: nodes.faithfulness(scoring[t], sizes[t], resample=True).mean(1).tolist() for t in TASKS}
    share = {
        t: next((s for s, f in zip(SHARES, curves[t], strict=True) if f >= options.faithfulness), SHARES[-1])
        for t in TASKS
    }
    chosen = {task: nodes.top(found[task], share[task]) for task in TASKS}
    size = {task: int(chosen[task].sum()) for task in TASKS}
    split = [_iou(nodes.top(a, share[t]), nodes.top(b, share[t])) for t, (a, b) in halves.items()]
    both = size["clean"] * size["memorization"] / nodes.count
    rng = subject.rng("circuits")
    shuffled = rng.permutation(chosen["clean"])
    kept = nodes.faithfulness(scoring["memorization"], [chosen["clean"], shuffled])
    (back,) = nodes.faithfulness(scoring["clean"], [chosen["memorization"]])
    return {
        "lead": {task: float(nodes.leads(problem, [None]).mean()) for task, problem in scoring.items()},
        "faithfulness": curves,
        "faithfulness_resample": resampled,
        "share": share,
        "nodes": nodes.count,
        "integration_error": error,
        "iou": _iou(chosen["clean"], chosen["memorization"]),
        "iou_random": both / (size["clean"] + size["memorization"] - both),
        "iou_split_half": float(np.mean(split)),
        "cross": {
            "clean_on_memorization": kept[0].tolist(),
            "memorization_on_clean": back.tolist(),
            "random": kept[1].tolist(),
        },
    }


def _iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def _problem(view: View) -> _Problem:
    """The true answer's lead on held-out questions, the noisy label's lead on memorised ones."""
    import torch

    from ..encoding import first_difference

    rows = [
        i for i, (e, x) in enumerate(zip(view.labelled.examples, view.labelled.labels, strict=True)) if x != e.answer
    ]
    index = torch.tensor(rows, device=view.true.input_ids.device)
    true, taught = view.true.rows(index), view.taught.rows(index)
    position, y, label = first_difference(true, taught)
    wanted, other = (label, y) if view.name == "noisy" else (y, label)
    return _Problem([view.labelled.examples[i].group for i in rows], true.input_ids, true.used, position, wanted, other)


def _whole(site: Site) -> Site:
    """The part that a site's projection belongs to."""
    from ..interventions import Site

    return Site(site.layer, {"heads": "mixer", "units": "mlp"}[site.part])


@dataclass(frozen=True)
class _Onward:
    """Runs that go on from values at a site; ``entry`` is that site, or the part whose output is their projection."""

    anatomy: Anatomy
    site: Site
    entry: Site

    def _enter(self, values: Tensor) -> Tensor:
        if self.entry == self.site:
            return values
        entered: Tensor = self.anatomy.module(self.site.layer, self.site.part)(values)
        return entered

    def lead(self, problem: _Problem, values: Tensor, intact: Intact) -> Tensor:
        """(n,) the lead."""
        import torch

        from ..interventions import replace, run

        with torch.no_grad():
            return problem.lead(run(self.anatomy, problem.ids, {self.entry: replace(self._enter(values))}, intact))

    def gradient(self, problem: _Problem, values: Tensor, intact: Intact, n: int) -> Tensor:
        """(rows, length, width) of the summed lead, over n, to the values."""
        import torch

        from ..interventions import capture_with_gradient, replace

        with torch.enable_grad():
            start = values.detach().requires_grad_(True)
            entered = self._enter(start)
        edits = {self.entry: replace(entered.detach())}
        _, pairs = capture_with_gradient(
            self.anatomy, problem.ids, [self.entry], lambda logits: problem.lead(logits).sum() / n, edits, intact
        )
        gradient = pairs[self.entry][1]
        return gradient if self.entry == self.site else torch.autograd.grad(entered, start, gradient)[0]


class _Nodes:
    """All heads and units of a model with their mean activations over the task."""

    def __init__(self, subject: Subject, anatomy: Anatomy, kinds: list[str]) -> None:
        from ..interventions import Site, mean_states

        self.anatomy, self.batch_size = anatomy, subject.batch_size
        self.sites = [Site(layer, kind) for layer in range(anatomy.n_layers) for kind in kinds]
        self.sizes = [self._size(site) for site in self.sites]
        self.count = sum(self._count(site) for site in self.sites)
        clean = subject.clean.true.rows(slice(FITTED))
        self.means = mean_states(anatomy, clean, self.sites, batch_size=self.batch_size)

    def _size(self, site: Site) -> int:
        return (
            self.anatomy.input_width(site.layer, "heads") // (self.anatomy.structure.n_heads or 1)
            if site.part == "heads"
            else 1
        )

    def _count(self, site: Site) -> int:
        return self.anatomy.input_width(site.layer, site.part) // self._size(site)

    def importance(self, problem: _Problem, steps: int) -> tuple[NDArray[np.float64], float]:
        """(nodes,) integrated gradients, and the largest gap of completeness at a site, relative to the lead itself."""
        import torch

        from ..evaluation import batches
        from ..interventions import Intact

        n, full = len(problem.ids), 0.0
        scores = {site: np.zeros(self._count(site)) for site in self.sites}
        ablated = dict.fromkeys(self.sites, 0.0)
        for rows in batches(n, max(1, self.batch_size // steps)):
            part = problem.part(rows)
            line = part.repeated(steps)
            with torch.no_grad():
                intact = Intact(self.anatomy, part.ids, [*self.sites, *map(_whole, self.sites)], columns=part.columns)
            along = intact.repeated(steps)
            full += float(part.lead(intact.logits).sum()) / n
            for site, size in zip(self.sites, self.sizes, strict=True):
                own, mean = intact.states[site], self.means[site].to(intact.states[site].dtype)
                shares = (torch.arange(steps, device=own.device, dtype=own.dtype) + 0.5) / steps
                points = mean + shares.view(-1, 1, 1, 1) * (own - mean)
                onward = self._onward(site, intact)
                gradient = onward.gradient(line, points.flatten(0, 1), along, n).float() / steps
                found = gradient.view(steps, *own.shape).sum(0) * (own - mean).float()
                scores[site] += found.sum((0, 1)).reshape(-1, size).sum(1).double().cpu().numpy()
                ablated[site] += float(onward.lead(part, mean.expand_as(own), intact).sum()) / n
        gaps = [
            abs(float(scores[s].sum()) - (full - ablated[s])) / max(abs(full), abs(full - ablated[s]))
            for s in self.sites
        ]
        return np.concatenate(list(scores.values())), max(gaps)

    def _onward(self, site: Site, intact: Intact) -> _Onward:
        """The way on from a site, past its part where that only goes through the projection."""
        import torch

        with torch.no_grad():
            projected = self.anatomy.module(site.layer, site.part)(intact.states[site])
        whole = intact.states[_whole(site)]
        ends = projected.shape == whole.shape and torch.equal(projected, whole)
        return _Onward(self.anatomy, site, _whole(site) if ends else site)

    def top(self, scores: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
        """(nodes,) the given share of nodes with the largest absolute importance."""
        kept = np.zeros(len(scores), dtype=bool)
        kept[np.argsort(-np.abs(scores), kind="stable")[: max(1, round(share * len(scores)))]] = True
        return kept

    def faithfulness(
        self, problem: _Problem, circuits: Sequence[NDArray[np.bool_]], *, resample: bool = False
    ) -> NDArray[np.float64]:
        """(circuits, n) the part of the mean lead that survives when every node outside a circuit is ablated.

        Ablated nodes go to their mean over the task, or with ``resample`` to what they are on another example, which
        leaves them in their usual range.
        """
        import torch

        nothing = np.zeros(self.count, dtype=bool)
        intact, none, *own = self.leads(problem, [None, nothing, *circuits], resample=resample)
        full, floor = intact.mean(), none.mean()
        scale = full - floor
        scale = torch.where(scale.abs() < 1e-6, torch.full_like(scale, 1e-6), scale)
        out: NDArray[np.float64] = ((torch.stack(own) - floor) / scale).double().cpu().numpy()
        return out

    def leads(
        self, problem: _Problem, circuits: Sequence[NDArray[np.bool_] | None], *, resample: bool = False
    ) -> Tensor:
        """(circuits, n) the lead when every node outside a circuit is ablated, or none where there is no circuit."""
        import torch

        from ..evaluation import batches
        from ..interventions import Intact, run

        out: list[Tensor] = []
        with torch.inference_mode():
            for rows in batches(len(problem.ids), self.batch_size):
                part = problem.part(rows)
                away = self._others(problem, rows) if resample else self.means
                intact = Intact(self.anatomy, part.ids, columns=part.columns)
                edits = [{} if kept is None else self._keep(kept, away) for kept in circuits]
                out.append(torch.stack([part.lead(run(self.anatomy, part.ids, edit, intact)) for edit in edits]))
        return torch.cat(out, 1)

    def _others(self, problem: _Problem, rows: slice) -> dict[Site, Tensor]:
        """What nodes are on the example before each of some rows; their means where that example has padding."""
        import torch

        from ..interventions import capture

        before = torch.arange(rows.start, rows.stop, device=problem.ids.device) - 1
        _, found = capture(self.anatomy, problem.ids[before], self.sites, columns=problem.columns)
        used = problem.used[before].unsqueeze(-1)
        return {s: torch.where(used, value, self.means[s].to(value.dtype)) for s, value in found.items()}

    def _keep(self, kept: NDArray[np.bool_], away: Mapping[Site, Tensor]) -> dict[Site, Edit]:
        import torch

        edits: dict[Site, Edit] = {}
        start = 0
        for site, size in zip(self.sites, self.sizes, strict=True):
            width = self.anatomy.input_width(site.layer, site.part)
            part = kept[start : start + width // size]
            start += width // size
            mask = torch.tensor(np.repeat(part, size), device=away[site].device)

            def edit(state: Tensor, mask: Tensor = mask, other: Tensor = away[site]) -> Tensor:
                return torch.where(mask, state, other.to(state.dtype))

            edits[site] = edit
        return edits
