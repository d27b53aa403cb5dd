"""The claims that a single report decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..measures import words
from ..report.record import Finding, Report
from .answers import both_computed
from .curves import generalises_first, true_answer_first
from .heuristics import outlier_heuristics
from .reliance import relies_on_reasoning
from .rules import ENOUGH, LEARNED, MEMORISED, NOT_APPLICABLE, PRECONDITIONS, SNAPSHOT, Precondition, Ruling
from .sharing import shared_circuits
from .spread import distributed

SOURCE = "Du et al., 2025"

Rule = Callable[[Report], Ruling]


@dataclass(frozen=True)
class Claim:
    """A claim, what it needs, and the rule that decides it.

    Attributes:
        id: the name in the report.
        claim: the claim in one sentence.
        needs: what must hold before anything is decided.
        evidence: the metrics that decide it; where one was not measured the claim is not applicable.
        measured_by: the diagnostics that measure them.
        rule: from a report that meets all that to a verdict.
    """

    id: str
    claim: str
    needs: tuple[Precondition, ...]
    evidence: tuple[str, ...]
    measured_by: tuple[str, ...]
    rule: Rule
    source: str = SOURCE

    def decide(self, report: Report) -> Finding:
        """The verdict on a report."""
        ruling = self._missing(report) or self.rule(report)
        return Finding(self.id, self.claim, self.source, ruling.verdict, ruling.reason, self.evidence)

    def _missing(self, report: Report) -> Ruling | None:
        if report.status != "success":
            return Ruling(NOT_APPLICABLE, "the run did not come to its end")
        faults = [why for need in self.needs if (why := need.unmet(report)) is not None]
        if faults:
            return Ruling(NOT_APPLICABLE, "; ".join(dict.fromkeys(faults)))
        absent = [words(name) for name in self.evidence if name not in report.metrics]
        if not absent:
            return None
        entries = (report.diagnostics.get(name) for name in self.measured_by)
        told = [entry.reason for entry in entries if entry is not None and entry.reason]
        said = f": {'; '.join(dict.fromkeys(told))}" if told else ""
        return Ruling(
            NOT_APPLICABLE, f"{' and '.join(absent)} {'was' if len(absent) == 1 else 'were'} not measured{said}"
        )


ALL = (ENOUGH, LEARNED, MEMORISED)
CLAIMS: tuple[Claim, ...] = (
    Claim(
        "generalize_then_memorize",
        "The model reaches half of its held-out questions before half of the noisy labels.",
        (ENOUGH,),
        ("memorization_lag",),
        ("learning_dynamics",),
        generalises_first,
    ),
    Claim(
        "clean_label_first",
        "Before memorising a noisy label the model gives the true answer to that very question.",
        (ENOUGH, MEMORISED),
        ("early_clean_peak", "phantom_rate"),
        ("learning_dynamics",),
        true_answer_first,
    ),
    Claim(
        "both_computed",
        "On memorised questions inner layers hold the true answer, later ones the noisy label.",
        ALL,
        ("clean_label_depth", "override_depth", "latent_clean_retention"),
        ("logit_lens", "probe"),
        both_computed,
    ),
    Claim(
        "memorization_relies_on_reasoning",
        "Erasing the intermediate result hurts memorization and generalization more than erasing random classes does.",
        ALL,
        ("reasoning_reliance_memorization", "reasoning_reliance_validation", "reasoning_reliance_beyond_size"),
        ("erasure",),
        relies_on_reasoning,
    ),
    Claim(
        "outlier_heuristics",
        "In arithmetic, MLP activations from before memorization undo it and spare generalization, more than those of"
        " attention do, and known heuristics shift most.",
        (*ALL, SNAPSHOT),
        ("patch_dissociation_excess", "patch_specificity", "heuristic_shift_concentration"),
        ("activation_patching", "neurons"),
        outlier_heuristics,
    ),
    Claim(
        "shared_circuits",
        "Memorised labels survive in the circuit of the clean task better than in a random circuit of its size.",
        ALL,
        ("cross_faithfulness_excess",),
        ("circuits",),
        shared_circuits,
    ),
    Claim(
        "distributed",
        "No small share of heads or units holds the memorised labels.",
        ALL,
        ("distributedness_k50",),
        ("ablation",),
        distributed,
    ),
)


def decide(report: Report, claims: Sequence[Claim] = CLAIMS) -> tuple[Finding, ...]:
    """The verdict on every claim that a single report can decide; what findings it holds already counts for nothing."""
    return tuple(claim.decide(report) for claim in claims)


def unmet(report: Report) -> list[str]:
    """The preconditions that a finished run with wrong labels fails, a sentence each."""
    if report.status != "success" or report.data.noise_rate == 0:
        return []
    found: dict[str, list[str]] = {}
    for need in PRECONDITIONS:
        why = need.unmet(report)
        if why is not None and why not in found.get(need.about, ()):
            found.setdefault(need.about, []).append(why)
    return [f"Nothing can be said about {about}: {'; '.join(reasons)}." for about, reasons in found.items()]
