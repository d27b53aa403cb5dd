"""Do the clean task and the memorised labels run on the same heads and units?

Nodes are attention heads and MLP units, ranked by the integrated gradient of a logit lead (``nodes``). A circuit is the
given share of nodes that rank highest, all others set to their mean. Each task's circuit is found on one half of its
examples and run on the other half of both tasks, beside random circuits that have as many heads and as many units in
each layer: overlap is no substitute for faithfulness.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..measures import Measure
from ..statistics import (
    Estimate,
    bootstrap_method,
    cluster_codes,
    from_draws,
    interval,
    mean,
    quotient,
    resampled_means,
    with_draws,
)
from . import LEAST, Details, Diagnostic, NotApplicable, Records, Result

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ..nodes import Nodes, Problem
    from ..subject import Subject

    Circuit = NDArray[np.bool_]

FITTED = 256  # clean examples, at the most, from which mean activations come
SHARES = (0.05, 0.1, 0.2, 0.5)
FEW = 32  # examples, at the most, on which random circuits are run that decide no metric
TASKS = ("clean", "memorization")
LEADS = {"clean": "the true answer", "memorization": "the wrong label"}
PRE, POST = "pre_memorization", "post_memorization"
COMPARED = ("cross_faithfulness_random", "cross_faithfulness_excess", "circuit_sharing")  # with other circuits


@dataclass(frozen=True)
class CircuitsOptions:
    """How circuits are found and scored.

    Attributes:
        examples: examples on which circuits are found, and as many on which they are scored.
        steps: points of each integral, where so few are enough.
        faithfulness: the part of the lead that circuits must keep on the half they were found on; the smallest size
            at which both do is that of the metrics.
        draws: random circuits of each size.
    """

    examples: int = field(default=128, metadata={"min": 4})
    steps: int = field(default=6, metadata={"min": 1})
    faithfulness: float = field(default=0.8, metadata={"above": 0, "max": 1})
    draws: int = field(default=20, metadata={"min": 20})


class Circuits(Diagnostic[CircuitsOptions]):
    """Circuits of the clean task and of memorization, each run on both, against matched random circuits."""

    name = "circuits"
    version = 8
    description = "whether the clean task and the memorised labels share heads and units"
    metrics: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "circuit_sharing",
            "memorization in the clean task's circuit, from a matched random circuit (0) to its own (1)",
            "train_noisy",
            interval=False,
        ),
        Measure("cross_faithfulness_memorization", "memorization kept by the clean task's circuit", "train_noisy"),
        Measure("cross_faithfulness_clean", "the clean task kept by memorization's circuit", "validation"),
        Measure(
            "cross_faithfulness_random",
            "memorization kept by a random circuit with as many heads and units in each layer",
            "train_noisy",
        ),
        Measure(
            "cross_faithfulness_excess",
            "memorization kept by the clean task's circuit, beyond a random circuit on the same examples",
            "train_noisy",
        ),
    )
    Options: ClassVar[type] = CircuitsOptions
    passes = (300, 100)

    def run(self, subject: Subject) -> Result:
        from ..nodes import Nodes, problem_of, top

        if len(subject.noisy) == 0:
            raise NotApplicable("no noisy labels at this noise rate")
        anatomy = subject.anatomy()
        kinds = [kind for kind in ("heads", "units") if anatomy.supports(kind).ok]
        if not kinds:
            raise NotApplicable(f"neither heads nor MLP units could be proved: {anatomy.supports('heads').detail}")
        problems = {"clean": problem_of(subject.validation), "memorization": problem_of(subject.noisy)}
        half = min(self.options.examples, *(len(problem.ids) // 2 for problem in problems.values()))
        if half < 2:
            raise NotApplicable("too few examples to find circuits on one half and score them on the other")
        finding = {task: problem.part(slice(half)) for task, problem in problems.items()}
        scoring = {task: problem.part(slice(half, 2 * half)) for task, problem in problems.items()}
        clean = subject.clean.true.rows(slice(FITTED))
        nodes = Nodes(subject.anatomy(), kinds, clean, subject.batch_size)
        scores, halves, gaps = {}, {}, {}
        for task, problem in finding.items():
            parts = (problem.part(slice(half // 2)), problem.part(slice(half // 2, half)))
            (first, gap), (second, other) = (nodes.importance(part, self.options.steps) for part in parts)
            scores[task], halves[task], gaps[task] = first + second, (first, second), max(gap, other)
        found = {task: [top(scores[task], share) for share in SHARES] for task in TASKS}
        details: dict[str, Any] = {
            "shares": list(SHARES),
            "nodes": nodes.count,
            "steps": self.options.steps,
            "draws": self.options.draws,
            "integration_error": gaps,
            "groups": {task: problem.groups for task, problem in scoring.items()},
            "overlap": _overlap(found, [[[top(s, share) for s in halves[t]] for share in SHARES] for t in TASKS]),
            "found_keeps": {t: nodes.faithfulness(finding[t], found[t]).mean(1).tolist() for t in TASKS},
        }
        place = _place(details["found_keeps"], self.options.faithfulness)
        details["place"] = place
        details["reached"] = all(details["found_keeps"][t][place] >= self.options.faithfulness for t in TASKS)
        details["nodes_kept"] = {
            t: [[s.layer, s.part, k] for s, k in zip(nodes.sites, nodes.kept_at(found[t][place]), strict=True)]
            for t in TASKS
        }
        details |= self._scored(nodes, found, scoring, place)
        if PRE in subject.anatomies:
            before = Nodes(subject.anatomy(PRE), kinds, clean, subject.batch_size)
            earlier, _ = before.importance(finding["clean"].part(slice(half // 2)), self.options.steps)
            circuits = [top(earlier, share) for share in SHARES]
            details["lines"]["clean_before_on_memorization"] = _lines(
                nodes.faithfulness(scoring["memorization"], circuits), details["groups"]["memorization"]
            )
        return Result(self.implied(details, {}), details)

    def _scored(
        self,
        nodes: Nodes,
        found: Mapping[str, Sequence[Circuit]],
        scoring: Mapping[str, Problem],
        place: int,
    ) -> dict[str, Any]:
        """How much of each task both tasks' circuits and random ones keep."""
        rng, nothing = self.rng(self.name), np.zeros(nodes.count, dtype=bool)
        groups = {task: problem.groups for task, problem in scoring.items()}
        lines: dict[str, dict[str, Any]] = {"mean": {}, "resample": {}}
        scores: dict[str, list[float]] = {}
        lead, lost = {}, {}
        means: list[float] = []
        for task, other in (("memorization", "clean"), ("clean", "memorization")):
            problem, size = scoring[task], len(SHARES)
            few = problem.part(slice(FEW))
            full, none = nodes.leads(problem, [None, nothing])
            lead[task] = _line([mean(full, cluster_codes(groups[task]))])
            lost[task] = _line([mean(full - none, cluster_codes(groups[task]))])
            random = [[nodes.matched(c, rng) for _ in range(self.options.draws)] for c in found[other]]
            for way, resample in (("mean", False), ("resample", True)):
                kept = nodes.faithfulness(problem, [*found[task], *found[other]], resample=resample)
                lines[way][f"{task}_on_{task}"] = _lines(kept[:size], groups[task])
                lines[way][f"{other}_on_{task}"] = _lines(kept[size:], groups[task])
                of_all = [place] if resample else range(size)
                drawn = {
                    i: nodes.faithfulness(
                        problem if i == place and task == "memorization" and not resample else few,
                        random[i],
                        resample=resample,
                    )
                    for i in of_all
                }
                estimates = [_of_random(k.mean(0), k.mean(1), groups[task][: k.shape[1]]) for k in drawn.values()]
                lines[way][f"random_on_{task}"] = {"at": list(drawn), **_line(estimates)}
                if resample:
                    continue
                scores[f"{other}_on_{task}"] = kept[size + place].tolist()
                if task == "memorization":
                    scores["own"] = kept[place].tolist()
                    scores["random"] = drawn[place].mean(0).tolist()
                    means = drawn[place].mean(1).tolist()
        return {
            "lead": lead,
            "lost": lost,
            "lines": lines["mean"],
            "lines_resample": lines["resample"],
            "scores": scores,
            "random_draws": means,
        }

    def implied(self, details: Details, records: Records) -> Mapping[str, Estimate]:
        scores, clusters = details["scores"], {t: cluster_codes(details["groups"][t]) for t in TASKS}
        memory = clusters["memorization"]
        found = {
            "cross_faithfulness_memorization": mean(scores["clean_on_memorization"], memory),
            "cross_faithfulness_clean": mean(scores["memorization_on_clean"], clusters["clean"]),
            "cross_faithfulness_random": _of_random(
                scores["random"], details["random_draws"], details["groups"]["memorization"]
            ),
            "cross_faithfulness_excess": _excess(scores, details["random_draws"], details["groups"]["memorization"]),
            "circuit_sharing": _sharing(scores, details["random_draws"], memory, self.rng("circuit_sharing")),
        }
        for name, estimate in found.items():
            on = ["clean"] if name == "cross_faithfulness_clean" else ["memorization"]
            why = next((why for task in on if (why := _unsaid(details, task)) is not None), None)
            if why is None and name in COMPARED:
                why = _no_other(scores["clean_on_memorization"], details["random_draws"])
            if why is not None:
                found[name] = Estimate.missing(why, estimate.n)
        return found

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """What each task's circuit, the other task's and random ones keep of it, by size."""
        from ..report import figures

        shares, lines = details["shares"], details["lines"]
        colors = {"memorization": figures.MEMORISED, "clean": figures.HELD_OUT, "random": figures.GREY}
        before = "clean_before_on_memorization"
        names = {
            "memorization": "wrong labels that were memorised",
            "clean": "right answers to held-out questions",
        }
        labels = {
            "clean": "only what matters most for right answers",
            "memorization": "only what matters most for wrong labels",
            "random": "random heads and units, as many in each layer",
        }
        drawn = [value for line in lines.values() for value in line["value"] if value is not None]
        lowest = max(-2.0, min([-0.3, *(value - 0.3 for value in drawn)]))
        with figures.drawing(path, 2, 10.0, 4.6) as (figure, axes):
            for ax, (task, name) in zip(axes, names.items(), strict=True):
                for of, label in labels.items():
                    line = lines[f"{of}_on_{task}"]
                    at = [shares[i] for i in line.get("at", range(len(shares)))]
                    figures.line(ax, at, line, colors[of], label, "--" if of == "random" else "-")
                if task == "memorization" and before in lines:
                    label = "what mattered most for right answers before memorization"
                    figures.line(ax, shares, {"value": lines[before]["value"]}, figures.CLEAN, label, ":")
                ax.set_xscale("log")
                ax.set_xticks(shares, [f"{100 * share:.0f} %" for share in shares])
                ax.minorticks_off()
                ax.set_ylim(lowest, 1.4)
                figures.panel(ax, name)
                ax.set_xlabel(f"share of the {details['nodes']:,} heads and MLP units that keep working")
            axes[0].set_ylabel("how much of the preference for\nthe answer is left (1: all)")
            figures.legend(figure, axes[0], 2)
            figures.title(figure, _sentence(details))
        return True


def _sentence(details: Details) -> str:
    place, lines = details["place"], details["lines"]
    clean, own, random = (lines[f"{of}_on_memorization"]["value"][place] for of in ("clean", "memorization", "random"))
    why = _unsaid(details, "memorization")
    if why is not None:
        return f"Whether wrong labels and right answers share heads and units cannot be said: {why}"
    share = f"{100 * details['shares'][place]:.0f} %"
    return (
        f"The {share} of heads and units that matter most for right answers keep {clean:.2f} of the preference for"
        f" memorised wrong labels, the {share} that matter most for these labels {own:.2f}, random ones"
        f" {random:.2f} (all together: 1)"
    )


def _place(found_keeps: Mapping[str, Sequence[float]], level: float) -> int:
    """Which size the metrics are of: the smallest at which both circuits keep enough where they were found.

    The largest where none does. What a circuit keeps of the other task has no say in it.
    """
    faithful = [min(kept) >= level for kept in zip(*found_keeps.values(), strict=True)]
    return faithful.index(True) if True in faithful else len(faithful) - 1


def _overlap(found: Mapping[str, Sequence[Circuit]], halves: Sequence[Sequence[Sequence[Circuit]]]) -> dict[str, Any]:
    """Intersection over union at each size: of both circuits, of two halves of one task, and of random circuits."""
    sizes = [int(circuit.sum()) for circuit in found["clean"]]
    count = len(found["clean"][0])
    chance = [size**2 / count for size in sizes]
    return {
        "both": [_iou(a, b) for a, b in zip(found["clean"], found["memorization"], strict=True)],
        "two_halves": [float(np.mean([_iou(*pair) for pair in pairs])) for pairs in zip(*halves, strict=True)],
        "random": [both / (2 * size - both) for both, size in zip(chance, sizes, strict=True)],
    }


def _iou(a: Circuit, b: Circuit) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def _line(estimates: Sequence[Estimate]) -> dict[str, Any]:
    return {key: [getattr(each, key) for each in estimates] for key in ("value", "ci_low", "ci_high")}


def _lines(kept: NDArray[np.float64], groups: Sequence[str]) -> dict[str, Any]:
    """The means of scores (circuits, n) with their intervals."""
    clusters = cluster_codes(groups)
    return _line([mean(row, clusters) for row in kept])


def _of_random(scores: ArrayLike, draws: ArrayLike, groups: Sequence[str]) -> Estimate:
    """What a random circuit keeps, in an interval that holds one more of them.

    Args:
        scores: (n,) the mean over draws for each example, whose clusters give the error over examples.
        draws: (draws,) the mean over examples of each.
    """
    return with_draws(mean(scores, cluster_codes(groups)), draws)


def _excess(scores: Mapping[str, ArrayLike], draws: ArrayLike, groups: Sequence[str]) -> Estimate:
    """What the clean task's circuit keeps beyond random ones, example by example, so that hard examples cancel."""
    cross, random = (np.asarray(scores[key], dtype=float) for key in ("clean_on_memorization", "random"))
    return with_draws(mean(cross - random, cluster_codes(groups)), draws)


def _sharing(
    scores: Mapping[str, ArrayLike], draws: ArrayLike, clusters: NDArray[np.int64], rng: np.random.Generator
) -> Estimate:
    """(cross - random) / (own - random), all of memorization and of one size; random is the mean over draws."""
    data = np.column_stack([scores[key] for key in ("clean_on_memorization", "own", "random")])
    n, (cross, own, random) = len(data), data.mean(0)
    means = np.asarray(draws, dtype=float)
    again = resampled_means(data, clusters, rng)
    error = means.std(ddof=1) / math.sqrt(len(means))
    drawn = again[:, 2] + error * rng.standard_t(len(means) - 1, len(again))
    lowest, _ = interval(again[:, 1] - drawn)
    if lowest <= LEAST:
        return Estimate.missing(
            f"memorization's own circuit keeps {own - random:.3f} more than matched random ones, maybe only"
            f" {lowest:.3f}: nothing is said relative to it",
            n,
        )
    value = (cross - random) / (own - random)
    return from_draws(
        value, quotient(again[:, 0] - drawn, again[:, 1] - drawn), f"{bootstrap_method(clusters)} and draws", n
    )


def _no_other(cross: ArrayLike, draws: ArrayLike) -> str | None:
    """Why nothing can be compared: every random circuit keeps to the last digit what the circuit itself keeps."""
    if not np.allclose(draws, np.asarray(cross, dtype=float).mean(), rtol=0, atol=1e-9):
        return None
    return "there is no other circuit with as many heads and units in each layer than the clean task's own"


def _unsaid(details: Details, task: str) -> str | None:
    """Why no circuit can keep a task's lead."""
    for key, least, what in (
        ("lead", 0.0, f"{LEADS[task]} does not lead for sure, so that no circuit can keep its lead"),
        ("lost", LEAST, f"without heads and units {LEADS[task]} may lead as far as with them"),
    ):
        low = details[key][task]["ci_low"][0]
        if low is None or low <= least:
            return what
    return None
