"""The paper's claims, each decided by a rule that is fixed here, before any number is seen.

A claim is replicated when its whole interval lies on the side that the paper says, not replicated when the whole
interval lies on the other side or a control does as well, and inconclusive between the two. "Not replicated" is a
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
Metrics = Mapping[str, MetricEntry]
Rule = Callable[[Metrics], str]


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


def _low(entry: MetricEntry) -> float:
    return float(entry["value"] if entry["ci_low"] is None else entry["ci_low"])


def _high(entry: MetricEntry) -> float:
    return float(entry["value"] if entry["ci_high"] is None else entry["ci_high"])


def above(entry: MetricEntry, threshold: float) -> str:
    """Replicated when the interval lies above a threshold, not replicated when it lies at or below it."""
    if _low(entry) > threshold:
        return REPLICATED
    return NOT_REPLICATED if _high(entry) <= threshold else INCONCLUSIVE


def above_control(entry: MetricEntry, control: MetricEntry) -> str:
    """Replicated when the interval lies above the control's, not replicated when it lies at or below it."""
    if _low(entry) > _high(control):
        return REPLICATED
    return NOT_REPLICATED if _high(entry) <= _low(control) else INCONCLUSIVE


def all_of(*verdicts: str) -> str:
    """Replicated when every part is, not replicated when any part is not."""
    if NOT_REPLICATED in verdicts:
        return NOT_REPLICATED
    return REPLICATED if all(v == REPLICATED for v in verdicts) else INCONCLUSIVE


def _lens_crosses(m: Metrics) -> str:
    """The true answer leads at some layer, and the noisy label takes over at a later one."""
    clean, override = m["clean_label_depth"], m["override_depth"]
    if _high(clean) < _low(override):
        return REPLICATED
    return NOT_REPLICATED if clean["value"] >= override["value"] else INCONCLUSIVE


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
)
K50_CLAIM = "No small share of heads or units holds the memorised labels."
K50_SMALL = 0.05


def decide(metrics: Metrics, claims: Sequence[Claim] = CLAIMS) -> list[dict[str, Any]]:
    """The verdict on every claim that a single report can decide, as entries of the report."""
    out = []
    for claim in claims:
        missing = [name for name in claim.evidence if metrics.get(name, {}).get("value") is None]
        verdict = NOT_APPLICABLE if missing else claim.rule(metrics)
        out.append(_entry(claim.id, claim.claim, verdict, claim.evidence))
    out.append(_entry("distributed", K50_CLAIM, _distributed(metrics), ("distributedness_k50",)))
    return out


def _distributed(metrics: Metrics) -> str:
    """A missing ``distributedness_k50`` is evidence: no share of heads or units was enough."""
    entry = metrics.get("distributedness_k50")
    if entry is None:
        return NOT_APPLICABLE
    return REPLICATED if entry["value"] is None or entry["value"] > K50_SMALL else NOT_REPLICATED


def _entry(id_: str, claim: str, verdict: str, evidence: Sequence[str]) -> dict[str, Any]:
    return {"id": id_, "claim": claim, "source": SOURCE, "verdict": verdict, "evidence": list(evidence)}
