"""Findings that need several cells: is memorization benign, and is it the regularisation that keeps it so?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..findings import INCONCLUSIVE, NOT_APPLICABLE, NOT_REPLICATED, REPLICATED
from ..statistics import Estimate, across_seeds

BENIGN = 0.2
SOLVED = MEMORISED = 0.9
UNREGULARISED, RANDOM_LABELS = "unregularised", "random_labels"
Reports = Sequence[Mapping[str, Any]]


def _profile(report: Mapping[str, Any]) -> str | None:
    profile: str | None = report["task"]["spec"].get("profile")
    return profile


def _value(report: Mapping[str, Any], metric: str) -> float | None:
    value: float | None = report["metrics"].get(metric, {}).get("value")
    return value


def twin_key(report: Mapping[str, Any]) -> tuple[int, ...]:
    """The seeds that a cell shares with its twin at noise rate 0."""
    return tuple(int(report["seeds"][name]) for name in ("data", "init", "order"))


def with_twins(reports: Reports, twins: Reports) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Every cell with its twin at noise rate 0, where both know their held-out accuracy."""
    by_seed = {twin_key(twin): twin for twin in twins if _value(twin, "validation_accuracy") is not None}
    known = [r for r in reports if twin_key(r) in by_seed and _value(r, "validation_accuracy") is not None]
    return [(r, by_seed[twin_key(r)]) for r in known]


def transfer(report: Mapping[str, Any], twin: Mapping[str, Any]) -> float:
    """(error on V at rho - error on V at 0) / rho of one pair of cells."""
    clean, noisy = _value(twin, "validation_accuracy"), _value(report, "validation_accuracy")
    assert clean is not None and noisy is not None
    return (clean - noisy) / float(report["data"]["noise_rate"])


def noise_transfer(reports: Reports, twins: Reports) -> Estimate:
    """(error on V at rho - error on V at 0) / rho over pairs of equal data, init and order seeds.

    ``twins`` are the same cells at noise rate 0. Near 0 memorization is benign; near 1 every wrong label costs as much
    as it would cost a nearest-neighbour model. A model that never solved the task, or ignored the noise, says nothing.
    """
    if any((_value(r, "counterfactual_memorization") or 0.0) < MEMORISED for r in reports):
        return Estimate.missing("the noise was not memorised, so it cannot be told what memorising it costs")
    if any((_value(r, "validation_accuracy") or 0.0) < SOLVED for r in twins):
        return Estimate.missing("the task was not solved at noise rate 0")
    if len({r["data"]["noise_rate"] for r in reports}) > 1:
        raise ValueError("reports of one noise rate are compared at a time")
    values = [transfer(report, twin) for report, twin in with_twins(reports, twins)]
    if not values:
        return Estimate.missing("no run at noise rate 0 with the same seeds")
    return across_seeds(values, np.random.default_rng(0))


def decide(reports: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """``benign`` and ``not_regularisation`` for every task, model and noise rate above 0.

    Returns:
        Entries with task, model, noise, id, verdict, reason and the estimate behind it.
    """
    done = [r for r in reports if r["status"] == "success"]
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for report in done:
        groups.setdefault((report["task"]["name"], report["model"]["name"]), []).append(report)
    out = []
    for (task, model), members in sorted(groups.items()):
        plain = [r for r in members if _profile(r) not in (UNREGULARISED, RANDOM_LABELS)]
        for profile in sorted({_profile(r) or "" for r in plain}):
            same = [r for r in plain if (_profile(r) or "") == profile]
            twins = [r for r in same if r["data"]["noise_rate"] == 0]
            for rate in sorted({r["data"]["noise_rate"] for r in same} - {0}):
                cells = [r for r in same if r["data"]["noise_rate"] == rate]
                verdict, reason, estimate = _benign(noise_transfer(cells, twins))
                name = f"{task}-{profile}" if profile else task
                out.append(_entry(name, model, rate, "benign", verdict, reason, estimate))
        decided = _not_regularisation(members)
        if decided is not None:
            out.append(_entry(task, model, None, "not_regularisation", *decided, None))
    return out


def _benign(estimate: Estimate) -> tuple[str, str, Estimate]:
    if estimate.value is None:
        return NOT_APPLICABLE, str(estimate.reason_if_null), estimate
    low = estimate.value if estimate.ci_low is None else estimate.ci_low
    high = estimate.value if estimate.ci_high is None else estimate.ci_high
    verdict = REPLICATED if high < BENIGN else NOT_REPLICATED if low >= BENIGN else INCONCLUSIVE
    return (
        verdict,
        f"a wrong label costs {estimate.value:.2f} of a held-out answer (benign: below {BENIGN:g})",
        estimate,
    )


def _not_regularisation(members: Reports) -> tuple[str, str] | None:
    """Without regularisation the model still generalises, and it fits labels that are all random (Zhang et al., 2016).

    None when no cell of either profile is there.
    """
    free = [r for r in members if _profile(r) == UNREGULARISED and r["data"]["noise_rate"] > 0]
    chance = [r for r in members if _profile(r) == RANDOM_LABELS]
    if not free and not chance:
        return None
    if not free or not chance:
        missing = UNREGULARISED if not free else RANDOM_LABELS
        return NOT_APPLICABLE, f"needs a run of the profile {missing} too"
    generalises = [(_value(r, "validation_accuracy") or 0.0) >= 0.9 for r in free]
    memorises = [(_value(r, "memorization_rate") or 0.0) >= 0.9 for r in free]
    fits = [(_value(r, "memorization_rate") or 0.0) >= 0.9 for r in chance]
    reason = (
        f"without regularisation {sum(generalises)} of {len(free)} generalise and {sum(memorises)} memorise;"
        f" {sum(fits)} of {len(chance)} fit random labels"
    )
    if all(generalises) and all(fits):
        return REPLICATED, reason
    return (INCONCLUSIVE if any(generalises) and any(fits) else NOT_REPLICATED), reason


def _entry(
    task: str, model: str, rate: float | None, id_: str, verdict: str, reason: str, estimate: Estimate | None
) -> dict[str, Any]:
    return {
        "task": task,
        "model": model,
        "noise": rate,
        "id": id_,
        "verdict": verdict,
        "reason": reason,
        "value": None if estimate is None else estimate.value,
        "ci_low": None if estimate is None else estimate.ci_low,
        "ci_high": None if estimate is None else estimate.ci_high,
    }


def render(reports: Iterable[Mapping[str, Any]], style: str = "simple") -> str:
    """The findings over several cells as a table, empty when there are none."""
    from tabulate import tabulate

    found = decide(reports)
    if not found:
        return ""
    body = []
    for f in found:
        value = "-" if f["value"] is None else f"{f['value']:.3f}"
        if f["ci_low"] is not None:
            value += f" [{f['ci_low']:.2f}, {f['ci_high']:.2f}]"
        noise = "-" if f["noise"] is None else f"{f['noise']:g}"
        body.append([f["task"], f["model"], noise, f["id"], f["verdict"].replace("_", " "), value, f["reason"]])
    header = ["task", "model", "noise", "finding", "verdict", "noise transfer", "because"]
    return str(tabulate(body, headers=header, tablefmt=style, disable_numparse=True))
