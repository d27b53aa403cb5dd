"""The claims that several cells decide together, and the number behind the first: what a wrong label costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..contrasts import across_seeds
from ..measures import SHARE, Measure
from ..report.record import Metric, Report, Verdict
from ..report.schedules import equal_schedules
from ..statistics import Estimate
from .rules import (
    ENOUGH,
    INCONCLUSIVE,
    NOT_APPLICABLE,
    NOT_REPLICATED,
    REPLICATED,
    Ruling,
    shown,
)

BENIGN, CATASTROPHIC = 0.1, 1.0  # of a held-out answer, that a wrong label costs
OTHER_LIMITS = (0.05, 0.2)  # at which the verdict is told too
LEAST_SEEDS = 3
TWIN_SOLVED = 0.95
SOLVED = MEMORISED = 0.9
NO_TWIN = "no run at noise rate 0 with the same data, init and order seeds"
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
                noisy = [r for r in same if r.data.noise_rate == rate]
                estimate = noise_transfer(noisy, twins)
                ruling = _benign(noisy, twins, estimate)
                out.append(AcrossFinding(label, model, rate, "benign", ruling.verdict, ruling.reason, estimate))
        decided = _not_regularisation(members)
        if decided is not None:
            out.append(AcrossFinding(task, model, None, "not_regularisation", decided.verdict, decided.reason))
    return out


def with_twins(reports: Iterable[Report], twins: Iterable[Report]) -> list[tuple[Report, Report]]:
    """Every cell with its twin, the cell at noise rate 0 of the same data, init and order seeds.

    Only where both know their held-out accuracy.
    """
    by_seeds = {_shared(twin): twin for twin in twins if twin.value("validation_accuracy") is not None}
    known = (r for r in reports if r.value("validation_accuracy") is not None)
    return [(report, by_seeds[_shared(report)]) for report in known if _shared(report) in by_seeds]


def _shared(report: Report) -> tuple[int, int, int]:
    return report.seeds.data, report.seeds.init, report.seeds.order


def transfer(report: Report, twin: Report) -> float:
    """(error on V at rho - error on V at 0) / rho of one pair of cells; rho is the share of labels that are wrong."""
    clean, noisy = twin.value("validation_accuracy"), report.value("validation_accuracy")
    assert clean is not None and noisy is not None
    return (clean - noisy) / report.data.share


def noise_transfer(reports: Sequence[Report], twins: Sequence[Report]) -> Estimate:
    """``transfer`` over pairs of equal data, init and order seeds, trained alike step for step.

    ``twins`` are the same cells at noise rate 0. Near 0 memorization is benign; near 1 every wrong label costs as much
    as it would cost a nearest-neighbour model. A model that never solved the task, or ignored the noise, says nothing.
    """
    if not _all_reach(reports, "counterfactual_memorization", MEMORISED):
        least = min(r.value("counterfactual_memorization") or 0.0 for r in reports)
        return Estimate.missing(
            f"too little was memorised to tell (counterfactual memorization {least:.3f}, below {MEMORISED:g})"
        )
    if not _all_reach(twins, "validation_accuracy", SOLVED):
        least = min((t.value("validation_accuracy") or 0.0 for t in twins), default=0.0)
        return Estimate.missing(
            f"the task was not solved at noise rate 0 (held-out accuracy {least:.3f}, below {SOLVED:g})"
        )
    if len({r.data.noise_rate for r in reports}) > 1:
        raise ValueError("reports of one noise rate are compared at a time")
    pairs = with_twins(reports, twins)
    if not pairs:
        return Estimate.missing(NO_TWIN)
    unequal = next((why for report, twin in pairs if (why := equal_schedules(report, twin)) is not None), None)
    if unequal is not None:
        return Estimate.missing(unequal)
    return across_seeds([transfer(report, twin) for report, twin in pairs])


def _all_reach(reports: Sequence[Report], metric: str, level: float) -> bool:
    return all((report.value(metric) or 0.0) >= level for report in reports)


def _benign(reports: Sequence[Report], twins: Sequence[Report], cost: Estimate) -> Ruling:
    """Whether the whole interval of what a wrong label costs lies below a tenth of a held-out answer."""
    why = _not_comparable(reports, twins)
    if why is None and cost.value is None:
        why = str(cost.reason_if_null)
    if why is not None:
        return Ruling(NOT_APPLICABLE, why)
    if cost.ci_low is None or cost.ci_high is None:
        return Ruling(INCONCLUSIVE, f"what a wrong label costs, {shown(cost)}, has no interval")
    others = ", ".join(f"{_below(cost, limit).replace('_', ' ')} at {limit:g}" for limit in OTHER_LIMITS)
    said = f"a wrong label costs {shown(cost)} of a held-out answer: {_regime(cost.ci_low, cost.ci_high)}"
    return Ruling(_below(cost, BENIGN), f"{said} (limit {BENIGN:g}; {others})")


def _below(cost: Estimate, limit: float) -> Verdict:
    assert cost.ci_low is not None and cost.ci_high is not None
    if cost.ci_high < limit:
        return REPLICATED
    return NOT_REPLICATED if cost.ci_low >= limit else INCONCLUSIVE


def _regime(low: float, high: float) -> str:
    """The regime, or regimes, that an interval lies in (the names: Mallinar et al., 2022)."""
    names = (("benign", low < BENIGN), ("tempered", low <= CATASTROPHIC and high >= BENIGN))
    return " or ".join([*(name for name, there in names if there), *(["catastrophic"] if high > CATASTROPHIC else [])])


def _not_comparable(reports: Sequence[Report], twins: Sequence[Report]) -> str | None:
    """The first precondition of ``benign`` that is not met, in words; no seed is left out to meet it."""
    few = next((why for report in reports if (why := ENOUGH.unmet(report)) is not None), None)
    if few is not None:
        return few
    pairs = with_twins(reports, twins)
    if not pairs:
        return NO_TWIN
    for report, twin in pairs:
        seed, why = report.seeds.label, equal_schedules(report, twin)
        if why is not None:
            return f"seed {seed}: {why}"
        solved, memorised = twin.value("validation_accuracy"), report.metrics.get("counterfactual_memorization")
        if solved is None or solved < TWIN_SOLVED:
            return f"seed {seed}: held-out accuracy is {solved or 0:.3f} at noise rate 0; {TWIN_SOLVED:g} is needed"
        if memorised is None or memorised.ci_low is None or memorised.ci_low < MEMORISED:
            said = "unknown" if memorised is None else shown(memorised)
            return f"seed {seed}: counterfactual memorization is {said}; its lower bound must reach {MEMORISED:g}"
    return _too_few(len(pairs))


def _too_few(seeds: int) -> str | None:
    if seeds >= LEAST_SEEDS:
        return None
    return f"{('no seed', 'one seed', 'two seeds')[seeds]}; three are needed"


def _not_regularisation(members: Sequence[Report]) -> Ruling | None:
    """Without regularisation the model still generalises, and it fits labels that are all random (Zhang et al., 2016).

    None when no cell of either profile is there.
    """
    free = [r for r in members if r.task.profile == UNREGULARISED and r.data.noise_rate > 0]
    chance = [r for r in members if r.task.profile == RANDOM_LABELS]
    if not free and not chance:
        return None
    if not free or not chance:
        missing = UNREGULARISED if not free else RANDOM_LABELS
        return Ruling(NOT_APPLICABLE, f"needs a run of the profile {missing} too")
    for profile, cells in ((UNREGULARISED, free), (RANDOM_LABELS, chance)):
        few = [why for report in cells if (why := ENOUGH.unmet(report)) is not None]
        why = few[0] if few else _too_few(len(cells))
        if why is not None:
            return Ruling(NOT_APPLICABLE, f"{profile}: {why}")
    generalise, fail = _surely(free, "validation_accuracy")
    fit, miss = _surely(chance, "memorization_rate")
    memorise, _ = _surely(free, "memorization_rate")
    reason = (
        f"without regularisation {generalise} of {len(free)} generalise and {memorise} memorise;"
        f" {fit} of {len(chance)} fit random labels (whole interval at {SOLVED:g} or above)"
    )
    if generalise == len(free) and fit == len(chance):
        return Ruling(REPLICATED, reason)
    return Ruling(NOT_REPLICATED if fail == len(free) or miss == len(chance) else INCONCLUSIVE, reason)


def _surely(reports: Sequence[Report], metric: str) -> tuple[int, int]:
    """How many have their whole interval at the level that counts as solved or above, and how many below."""

    def count(test: Callable[[Metric], bool]) -> int:
        return sum(test(found) for report in reports if (found := report.metrics.get(metric)) is not None)

    return (
        count(lambda found: found.ci_low is not None and found.ci_low >= SOLVED),
        count(lambda found: found.ci_high is not None and found.ci_high < SOLVED),
    )
