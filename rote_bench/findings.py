"""The paper's claims, of one report and of several, each decided by a rule that was fixed before any number was seen.

A claim is replicated when its whole interval lies on the side that the paper says, not replicated when the whole
interval lies on the other side or a control does as well, and inconclusive between the two. "Not replicated" is a
normal outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from .measures import SHARE, Measure
from .report.record import Finding, Metric, Report, Verdict
from .report.schedules import equal_schedules
from .statistics import Estimate, across_seeds

SOURCE = "Du et al., 2025"
REPLICATED: Verdict = "replicated"
NOT_REPLICATED: Verdict = "not_replicated"
INCONCLUSIVE: Verdict = "inconclusive"
NOT_APPLICABLE: Verdict = "not_applicable"
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

FEW = 0.05  # heads or units that are a small share of all
BENIGN = 0.2  # of a held-out answer, which a wrong label may cost at the most
SOLVED = MEMORISED = 0.9
UNREGULARISED, RANDOM_LABELS = "unregularised", "random_labels"

# What several cells give and no single report does.
ACROSS: tuple[Measure, ...] = (
    Measure(
        "noise_transfer",
        "what a wrong label costs of a held-out answer, against the same cell without noise",
        "validation",
        higher_is_better=False,
        interval=False,
        title="noise transfer",
        column=1,
    ),
    Measure(
        "twin_validation_accuracy",
        "right on held-out questions in the same cell without noise",
        "validation",
        SHARE,
        True,
        interval=False,
    ),
)

Metrics = Mapping[str, Metric]
Rule = Callable[[Metrics], Verdict]


@dataclass(frozen=True)
class Claim:
    """A claim and the rule that decides it.

    Attributes:
        id: the name in the report.
        claim: the claim in one sentence.
        evidence: the metrics that decide it; without every one of them the claim is not applicable.
        rule: from those metrics to a verdict.
        without_value: whether a metric that has no value decides too, as when nothing was found.
    """

    id: str
    claim: str
    evidence: tuple[str, ...]
    rule: Rule
    without_value: bool = False
    source: str = SOURCE

    def decide(self, metrics: Metrics) -> Finding:
        """The verdict on a report's metrics."""
        known = [metrics[name] for name in self.evidence if name in metrics]
        there = [m for m in known if self.without_value or m.value is not None]
        verdict = self.rule(metrics) if len(there) == len(self.evidence) else NOT_APPLICABLE
        return Finding(self.id, self.claim, self.source, verdict, None, self.evidence)


def _value(metric: Metric) -> float:
    assert metric.value is not None  # or the claim is not applicable
    return float(metric.value)


def _low(metric: Metric | Estimate) -> float:
    found = metric.value if metric.ci_low is None else metric.ci_low
    assert found is not None
    return float(found)


def _high(metric: Metric | Estimate) -> float:
    found = metric.value if metric.ci_high is None else metric.ci_high
    assert found is not None
    return float(found)


def above(metric: Metric, threshold: float) -> Verdict:
    """Replicated when the interval lies above a threshold, not replicated when it lies at or below it."""
    if _low(metric) > threshold:
        return REPLICATED
    return NOT_REPLICATED if _high(metric) <= threshold else INCONCLUSIVE


def above_control(metric: Metric, control: Metric) -> Verdict:
    """Replicated when the interval lies above the control's, not replicated when it lies at or below it."""
    if _low(metric) > _high(control):
        return REPLICATED
    return NOT_REPLICATED if _high(metric) <= _low(control) else INCONCLUSIVE


def all_of(*verdicts: Verdict) -> Verdict:
    """Replicated when every part is, not replicated when any part is not."""
    if NOT_REPLICATED in verdicts:
        return NOT_REPLICATED
    return REPLICATED if all(v == REPLICATED for v in verdicts) else INCONCLUSIVE


def _lens_crosses(m: Metrics) -> Verdict:
    """The true answer leads at some layer, and the noisy label takes over at a later one."""
    clean, override = m["clean_label_depth"], m["override_depth"]
    if _high(clean) < _low(override):
        return REPLICATED
    return NOT_REPLICATED if _value(clean) >= _value(override) else INCONCLUSIVE


def _more_than_few(share: Metric) -> Verdict:
    """No value on some examples is evidence: no share of heads or units was enough."""
    if share.value is None and share.n == 0:
        return NOT_APPLICABLE
    return REPLICATED if share.value is None or share.value > FEW else NOT_REPLICATED


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "generalize_then_memorize",
        "The model reaches half of its held-out questions before half of the noisy labels.",
        ("memorization_lag",),
        lambda m: above(m["memorization_lag"], 0.0),
    ),
    Claim(
        "clean_label_first",
        "Before memorising a noisy label the model gives the true answer to that very question.",
        ("early_clean_peak", "phantom_rate"),
        lambda m: above(m["early_clean_peak"], max(_high(m["phantom_rate"]), 0.5)),
    ),
    Claim(
        "both_computed",
        "On memorised questions inner layers hold the true answer, later ones the noisy label.",
        ("clean_label_depth", "override_depth", "latent_clean_retention"),
        lambda m: all_of(_lens_crosses(m), above(m["latent_clean_retention"], 0.0)),
    ),
    Claim(
        "memorization_relies_on_reasoning",
        "Erasing the intermediate result hurts memorization and generalization more than a random erasure does.",
        ("reasoning_reliance_memorization", "reasoning_reliance_validation"),
        lambda m: all_of(
            above(m["reasoning_reliance_memorization"], 0.0), above(m["reasoning_reliance_validation"], 0.0)
        ),
    ),
    Claim(
        "outlier_heuristics",
        "MLP activations from before memorization undo it and spare generalization, and known heuristics shift most.",
        ("patch_dissociation", "heuristic_shift"),
        lambda m: all_of(above(m["patch_dissociation"], 0.0), above(m["heuristic_shift"], 0.0)),
    ),
    Claim(
        "shared_circuits",
        "Memorised labels survive in the circuit of the clean task better than in a random circuit of its size.",
        ("cross_faithfulness_memorization", "cross_faithfulness_random"),
        lambda m: above_control(m["cross_faithfulness_memorization"], m["cross_faithfulness_random"]),
    ),
    Claim(
        "distributed",
        "No small share of heads or units holds the memorised labels.",
        ("distributedness_k50",),
        lambda m: _more_than_few(m["distributedness_k50"]),
        without_value=True,
    ),
)


def decide(metrics: Metrics, claims: Sequence[Claim] = CLAIMS) -> tuple[Finding, ...]:
    """The verdict on every claim that a single report can decide."""
    return tuple(claim.decide(metrics) for claim in claims)


@dataclass(frozen=True)
class AcrossFinding:
    """A claim about a model on a task that several cells decide together.

    Attributes:
        task: with its profile where that is what was looked at.
        noise_rate: None for a claim about several.
        reason: of the verdict, in words.
        estimate: the number behind it, None where there is none.
    """

    task: str
    model: str
    noise_rate: float | None
    id: str
    verdict: Verdict
    reason: str
    estimate: Estimate | None = None


def decide_across(reports: Iterable[Report]) -> list[AcrossFinding]:
    """``benign`` and ``not_regularisation`` for every task, model and noise rate above 0.

    Args:
        reports: of cells that may be brought together wherever task, model and noise rate are the same.
    """
    groups: dict[tuple[str, str], list[Report]] = {}
    for report in reports:
        if report.status == "success":
            groups.setdefault((report.task.name, report.model.name), []).append(report)
    out = []
    for (task, model), members in sorted(groups.items()):
        plain = [r for r in members if r.task.profile not in (UNREGULARISED, RANDOM_LABELS)]
        for label in sorted({r.task.label for r in plain}):
            same = [r for r in plain if r.task.label == label]
            twins = [r for r in same if r.data.noise_rate == 0]
            for rate in sorted({r.data.noise_rate for r in same} - {0}):
                estimate = noise_transfer([r for r in same if r.data.noise_rate == rate], twins)
                out.append(AcrossFinding(label, model, rate, "benign", *_benign(estimate), estimate))
        decided = _not_regularisation(members)
        if decided is not None:
            out.append(AcrossFinding(task, model, None, "not_regularisation", *decided))
    return out


def with_twins(reports: Iterable[Report], twins: Iterable[Report]) -> list[tuple[Report, Report]]:
    """Every cell with its twin, the cell at noise rate 0 of the same data, init and order seeds and schedule.

    Only where both know their held-out accuracy.
    """
    return [(report, twin) for report, twin in _paired(reports, twins) if equal_schedules(report, twin) is None]


def without_twin(reports: Iterable[Report], twins: Iterable[Report]) -> str:
    """Why a cell has no twin that it could be compared with."""
    reasons = (equal_schedules(report, twin) for report, twin in _paired(reports, twins))
    return next(filter(None, reasons), "no run at noise rate 0 with the same data, init and order seeds")


def _paired(reports: Iterable[Report], twins: Iterable[Report]) -> list[tuple[Report, Report]]:
    by_seeds = {_shared(twin): twin for twin in twins if twin.value("validation_accuracy") is not None}
    known = (r for r in reports if r.value("validation_accuracy") is not None)
    return [(report, by_seeds[_shared(report)]) for report in known if _shared(report) in by_seeds]


def _shared(report: Report) -> tuple[int, int, int]:
    return report.seeds.data, report.seeds.init, report.seeds.order


def transfer(report: Report, twin: Report) -> float:
    """(error on V at rho - error on V at 0) / rho of one pair of cells."""
    clean, noisy = twin.value("validation_accuracy"), report.value("validation_accuracy")
    assert clean is not None and noisy is not None
    return (clean - noisy) / float(report.data.noise_rate)


def noise_transfer(reports: Sequence[Report], twins: Sequence[Report]) -> Estimate:
    """``transfer`` over pairs of equal data, init and order seeds and equal schedules.

    ``twins`` are the same cells at noise rate 0. Near 0 memorization is benign; near 1 every wrong label costs as much
    as it would cost a nearest-neighbour model. A model that never solved the task, or ignored the noise, says nothing.
    """
    if not _all_reach(reports, "counterfactual_memorization", MEMORISED):
        return Estimate.missing("the noise was not memorised, so it cannot be told what memorising it costs")
    if not _all_reach(twins, "validation_accuracy", SOLVED):
        return Estimate.missing("the task was not solved at noise rate 0")
    if len({r.data.noise_rate for r in reports}) > 1:
        raise ValueError("reports of one noise rate are compared at a time")
    values = [transfer(report, twin) for report, twin in with_twins(reports, twins)]
    if not values:
        return Estimate.missing(without_twin(reports, twins))
    return across_seeds(values, np.random.default_rng(0))


def _reaching(reports: Sequence[Report], metric: str, level: float) -> int:
    return sum((report.value(metric) or 0.0) >= level for report in reports)


def _all_reach(reports: Sequence[Report], metric: str, level: float) -> bool:
    return _reaching(reports, metric, level) == len(reports)


def _benign(cost: Estimate) -> tuple[Verdict, str]:
    if cost.value is None:
        return NOT_APPLICABLE, str(cost.reason_if_null)
    verdict = REPLICATED if _high(cost) < BENIGN else NOT_REPLICATED if _low(cost) >= BENIGN else INCONCLUSIVE
    return verdict, f"a wrong label costs {cost.value:.2f} of a held-out answer (benign: below {BENIGN:g})"


def _not_regularisation(members: Sequence[Report]) -> tuple[Verdict, str] | None:
    """Without regularisation the model still generalises, and it fits labels that are all random (Zhang et al., 2016).

    None when no cell of either profile is there.
    """
    free = [r for r in members if r.task.profile == UNREGULARISED and r.data.noise_rate > 0]
    chance = [r for r in members if r.task.profile == RANDOM_LABELS]
    if not free and not chance:
        return None
    if not free or not chance:
        missing = UNREGULARISED if not free else RANDOM_LABELS
        return NOT_APPLICABLE, f"needs a run of the profile {missing} too"
    generalise = _reaching(free, "validation_accuracy", SOLVED)
    memorise, fit = (_reaching(cells, "memorization_rate", MEMORISED) for cells in (free, chance))
    reason = (
        f"without regularisation {generalise} of {len(free)} generalise and {memorise} memorise;"
        f" {fit} of {len(chance)} fit random labels"
    )
    if generalise == len(free) and fit == len(chance):
        return REPLICATED, reason
    return (INCONCLUSIVE if generalise and fit else NOT_REPLICATED), reason
