"""The claims that a single report decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..measures import words
from ..report.conditions import at
from ..report.record import Finding, Report
from ..statistics import wilson
from ..training.curve import Evaluation
from .rules import (
    ENOUGH,
    HALF,
    INCONCLUSIVE,
    LEARNED,
    MEMORISED,
    NOT_APPLICABLE,
    NOT_REPLICATED,
    PRECONDITIONS,
    REPLICATED,
    SNAPSHOT,
    Precondition,
    Ruling,
    above,
    above_control,
    all_of,
    bounds,
    shown,
    untested,
)

SOURCE = "Du et al., 2025"
POST = "post_memorization"
FEW_HEADS, FEW_UNITS = 2, 0.05  # heads (an eighth of all at the most) and share of units that are a small part
SPARED = 0.95  # of the intact held-out accuracy
GAP = 0.2  # of the lead, that integrated gradients may miss

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


def _details(report: Report, diagnostic: str) -> Mapping[str, object]:
    entry = report.diagnostics.get(diagnostic)
    return {} if entry is None else entry.details


def _numbers(value: object) -> list[float]:
    """A list of numbers, empty when it is none."""
    if not isinstance(value, list) or not all(isinstance(x, int | float) for x in value):
        return []
    return [float(x) for x in value]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _curve(report: Report) -> list[Evaluation]:
    """The evaluations of the training, none where they are not kept."""
    points = at(_details(report, "learning_dynamics"), "curve")
    try:
        return [Evaluation.read(point) for point in points] if isinstance(points, list) else []
    except (TypeError, ValueError):
        return []


def _generalises_first(report: Report) -> Ruling:
    """By the interval of the lag; a model that memorises and never generalises has none, and refutes the claim."""
    curve = _curve(report)
    if not curve:
        return Ruling(NOT_APPLICABLE, "the curves of the training are not there")
    first = curve[0]
    names = ("validation_accuracy", "train_clean_accuracy", "memorization_rate", "noisy_true_rate")
    high = [name for name in names if (getattr(first, name) or 0.0) >= HALF]
    if high:
        said = f"{words(high[0])} is {getattr(first, high[0]):.3f} at the first evaluation already"
        return Ruling(NOT_APPLICABLE, f"{said}, so that it cannot be told when it was learned")
    highest = {name: max(getattr(point, name) or 0.0 for point in curve) for name in names}
    if highest["memorization_rate"] < HALF:
        return Ruling(
            NOT_APPLICABLE, f"memorization never reaches {HALF:g}: at most {highest['memorization_rate']:.3f}"
        )
    if highest["validation_accuracy"] >= HALF:
        return above("memorization_lag", report.metrics["memorization_lag"], 0.0)
    final = report.metrics.get("validation_accuracy")
    ends = (0.0, 1.0) if final is None else bounds("validation_accuracy", final)
    if isinstance(ends, Ruling):
        return ends
    said = (
        f"memorization reaches {HALF:g} and held-out accuracy never does: at most {highest['validation_accuracy']:.3f}"
    )
    said += f", at the end {shown(final)}" if final is not None else ""
    return Ruling(NOT_REPLICATED if ends[1] < HALF else INCONCLUSIVE, said)


def _true_answer_first(report: Report) -> Ruling:
    guess = report.metrics["phantom_rate"]
    ends = bounds("phantom_rate", guess)
    if isinstance(ends, Ruling):
        return ends
    level, called = max((HALF, f"{HALF:g}"), (ends[1], f"guessing ({shown(guess)})"))
    found = above("early_clean_peak", report.metrics["early_clean_peak"], level, called)
    return Ruling(found.verdict, f"{found.reason}; mostly implied by generalize_then_memorize")


def _both_computed(report: Report) -> Ruling:
    """The lens compares the true answer with the wrong label alone, which favours it before anything is computed."""
    m = report.metrics
    depths = [bounds(name, m[name]) for name in ("clean_label_depth", "override_depth")]
    lens = [found for found in depths if isinstance(found, Ruling)]
    read = above("latent_clean_retention", m["latent_clean_retention"], 0.0)
    said = (
        f"true answer ahead from depth {shown(m['clean_label_depth'])}, wrong label from {shown(m['override_depth'])}"
    )
    return untested(
        all_of(read, *(lens or [Ruling(REPLICATED, said)])), "how the true answer stands to other possible answers"
    )


def _relies_on_reasoning(report: Report) -> Ruling:
    """Of an erasure that took the reasoning away, by what held-out questions kept for choices say of it."""
    still = _still_reasons(_details(report, "erasure"))
    if still is not None:
        return Ruling(INCONCLUSIVE, f"the erasure did not remove the reasoning: {still}")
    names = ("reasoning_reliance_memorization", "reasoning_reliance_validation")
    found = all_of(*(above(name, report.metrics[name], 0.0) for name in names))
    return untested(found, "several draws of the random erasure, matched in what they erase")


def _still_reasons(details: Mapping[str, object]) -> str | None:
    """Why it is not sure that more than half of the answers went, of the intact model's and of the control's."""
    n, layer, intact = (
        _number(at(details, *path)) for path in (("selection_n",), ("chosen_layer",), ("intact", "selection"))
    )
    levels = [_numbers(at(details, "methods", method, "selection")) for method in ("leace", "random")]
    if not n or not layer or intact is None or min(map(len, levels)) < layer:
        return "what is left of it is not known"
    erased, control = (wilson(round(of_layer[int(layer) - 1] * n), int(n)) for of_layer in levels)
    assert erased.ci_high is not None and control.ci_low is not None and control.value is not None
    if (
        erased.ci_high <= HALF * intact
        and erased.ci_high < control.ci_low
        and (erased.value or 0) <= HALF * control.value
    ):
        return None
    said = f"{shown(erased)} of selection questions are right after it"
    return f"{said}, {shown(control)} after its control, {intact:.3f} intact"


def _shared_circuits(report: Report) -> Ruling:
    errors = at(_details(report, "circuits"), "snapshots", POST, "integration_error")
    gaps = [_number(gap) for gap in errors.values()] if isinstance(errors, Mapping) else []
    known = [gap for gap in gaps if gap is not None]
    if not known or len(known) < len(gaps):
        return Ruling(NOT_APPLICABLE, "the completeness gap of the circuits is not known")
    if max(known) > GAP:
        return Ruling(
            NOT_APPLICABLE,
            f"the circuits' importances miss {max(known):.2f} of the lead; at most {GAP:g} may be missed",
        )
    memory, random = "cross_faithfulness_memorization", "cross_faithfulness_random"
    found = above_control(memory, report.metrics[memory], random, report.metrics[random])
    return untested(found, "random circuits with as many heads and units in each layer")


def _distributed(report: Report) -> Ruling:
    details = _details(report, "ablation")
    intact = {key: _number(at(details, "intact", key)) for key in ("memorization_rate", "validation_accuracy")}
    n = {name: _number(at(details, "examples", name)) for name in ("noisy", "validation")}
    memory, accuracy, noisy, held = *intact.values(), *n.values()
    if not memory or not accuracy or not noisy or not held:
        return Ruling(NOT_APPLICABLE, "the intact model gives no wrong label, or solves no held-out question")
    stays, points = True, list(_small_parts(details))
    if not points:
        return Ruling(NOT_APPLICABLE, "no small part of heads or units was removed")
    for part, left, right in points:
        left_over, spared = (wilson(round(x * k), int(k)) for x, k in ((left, noisy), (right, held)))
        assert left_over.ci_low is not None and left_over.ci_high is not None and spared.ci_low is not None
        if left_over.ci_high < HALF * memory and spared.ci_low >= SPARED * accuracy:
            said = f"without {part} memorization is {shown(left_over)} of {memory:.3f}"
            return Ruling(NOT_REPLICATED, f"{said}, held-out accuracy {shown(spared)} of {accuracy:.3f}")
        stays &= left_over.ci_low > HALF * memory
    if not stays:
        return Ruling(
            INCONCLUSIVE,
            f"without few heads or units memorization is {min(left for _, left, _ in points):.3f} of {memory:.3f}"
            " at the least: not surely above half of it, nor surely below with held-out accuracy spared",
        )
    said = f"without few heads or units memorization stays above half of {memory:.3f}"
    return untested(Ruling(REPLICATED, said), "whether the order of removal is better than 20 random orders")


def _small_parts(details: Mapping[str, object]) -> Iterator[tuple[str, float, float]]:
    """The few heads or units that were removed, the memorization left without them and the accuracy."""
    shares, kinds = _numbers(details.get("shares")), details.get("kinds")
    for kind, of_kind in kinds.items() if isinstance(kinds, Mapping) else ():
        count = _number(at(of_kind, "count")) or 0.0
        curves = [_numbers(at(of_kind, "by_importance", key)) for key in ("memorization_rate", "validation_accuracy")]
        for share, memory, accuracy in zip(shares, *curves, strict=False):
            removed = max(1, round(share * count))
            if removed <= min(FEW_HEADS, count / 8) if kind == "heads" else share <= FEW_UNITS:
                yield f"{removed} of {count:g} {kind}", memory, accuracy


def _outlier_heuristics(report: Report) -> Ruling:
    if at(_details(report, "neurons"), "arithmetic") is not True:
        return Ruling(NOT_APPLICABLE, "the claim is about arithmetic, which this task is not")
    found = above("patch_dissociation", report.metrics["patch_dissociation"], 0.0)
    return untested(
        found, "the change of another example put back, the same of attention, and units matched in size and activity"
    )


ALL = (ENOUGH, LEARNED, MEMORISED)
CLAIMS: tuple[Claim, ...] = (
    Claim(
        "generalize_then_memorize",
        "The model reaches half of its held-out questions before half of the noisy labels.",
        (ENOUGH,),
        ("memorization_lag",),
        ("learning_dynamics",),
        _generalises_first,
    ),
    Claim(
        "clean_label_first",
        "Before memorising a noisy label the model gives the true answer to that very question.",
        (ENOUGH, MEMORISED),
        ("early_clean_peak", "phantom_rate"),
        ("learning_dynamics",),
        _true_answer_first,
    ),
    Claim(
        "both_computed",
        "On memorised questions inner layers hold the true answer, later ones the noisy label.",
        ALL,
        ("clean_label_depth", "override_depth", "latent_clean_retention"),
        ("logit_lens", "probe"),
        _both_computed,
    ),
    Claim(
        "memorization_relies_on_reasoning",
        "Erasing the intermediate result hurts memorization and generalization more than a random erasure does.",
        ALL,
        ("reasoning_reliance_memorization", "reasoning_reliance_validation"),
        ("erasure",),
        _relies_on_reasoning,
    ),
    Claim(
        "outlier_heuristics",
        "In arithmetic, MLP activations from before memorization undo it and spare generalization, and known heuristics"
        " shift most.",
        (*ALL, SNAPSHOT),
        ("patch_dissociation", "heuristic_shift_concentration"),
        ("activation_patching", "neurons"),
        _outlier_heuristics,
    ),
    Claim(
        "shared_circuits",
        "Memorised labels survive in the circuit of the clean task better than in a random circuit of its size.",
        ALL,
        ("cross_faithfulness_memorization", "cross_faithfulness_random"),
        ("circuits",),
        _shared_circuits,
    ),
    Claim(
        "distributed",
        "No small share of heads or units holds the memorised labels.",
        ALL,
        ("distributedness_k50",),
        ("ablation",),
        _distributed,
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
