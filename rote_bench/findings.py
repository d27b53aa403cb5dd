"""The paper's claims, each decided from the metrics of a report by a rule that is fixed here.

A claim is replicated when its whole interval lies on the side that the paper says, not replicated when the whole
interval lies on the other side or the control does as well, and inconclusive between the two. "Not replicated" is a
normal outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SOURCE = "Du et al., 2025"
REPLICATED, NOT_REPLICATED = "replicated", "not_replicated"
INCONCLUSIVE, NOT_APPLICABLE = "inconclusive", "not_applicable"

MetricEntry = Mapping[str, Any]
Rule = Callable[[Mapping[str, MetricEntry]], str]


@dataclass(frozen=True)
class Claim:
    """A claim and the rule that decides it.

    Attributes:
        id: the name in the report.
        claim: the claim in one sentence.
        evidence: the metrics that decide it; without a value in every one of them the claim is not applicable.
        rule: from those metrics to a verdict.
    """

    id: str
    claim: str
    evidence: tuple[str, ...]
    rule: Rule
    source: str = SOURCE


def above(entry: MetricEntry, threshold: float) -> str:
    """Replicated when the interval lies above a threshold, not replicated when it lies at or below it."""
    low = entry["value"] if entry["ci_low"] is None else entry["ci_low"]
    high = entry["value"] if entry["ci_high"] is None else entry["ci_high"]
    if low > threshold:
        return REPLICATED
    return NOT_REPLICATED if high <= threshold else INCONCLUSIVE


def all_of(verdicts: Sequence[str]) -> str:
    """Replicated when every part is, not replicated when any part is not."""
    if NOT_REPLICATED in verdicts:
        return NOT_REPLICATED
    return REPLICATED if all(v == REPLICATED for v in verdicts) else INCONCLUSIVE


def _lens_crosses(metrics: Mapping[str, MetricEntry]) -> str:
    """The true answer leads at some layer, and the noisy label takes over at a later one."""
    clean, override = metrics["clean_label_depth"], metrics["override_depth"]
    if clean["ci_high"] < override["ci_low"]:
        return REPLICATED
    return NOT_REPLICATED if clean["value"] >= override["value"] else INCONCLUSIVE


def _dissociates(metrics: Mapping[str, MetricEntry]) -> str:
    return above(metrics["patch_dissociation"], 0.0)


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
        lambda m: above(m["early_clean_peak"], max(m["phantom_rate"]["ci_high"] or 0.0, 0.5)),
    ),
    Claim(
        "both_computed",
        "On memorised questions inner layers hold the true answer, later ones the noisy label.",
        ("clean_label_depth", "override_depth"),
        _lens_crosses,
    ),
    Claim(
        "outlier_heuristics",
        "MLP activations from before memorization undo memorization and spare generalization.",
        ("patch_dissociation",),
        _dissociates,
    ),
)


def decide(metrics: Mapping[str, MetricEntry], claims: Sequence[Claim] = CLAIMS) -> list[dict[str, Any]]:
    """The verdict on every claim that a single report can decide, as entries of the report."""
    out = []
    for claim in claims:
        missing = [name for name in claim.evidence if metrics.get(name, {}).get("value") is None]
        verdict = NOT_APPLICABLE if missing else claim.rule(metrics)
        out.append(
            {
                "id": claim.id,
                "claim": claim.claim,
                "source": claim.source,
                "verdict": verdict,
                "evidence": list(claim.evidence),
            }
        )
    return out
