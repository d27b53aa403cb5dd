"""The claim that both answers are computed."""

from __future__ import annotations

from ..report.conditions import at
from ..report.record import Report
from .kept import details_of, shares
from .rules import HALF, INCONCLUSIVE, NOT_APPLICABLE, NOT_REPLICATED, REPLICATED, Ruling, above, all_of, shown


def both_computed(report: Report) -> Ruling:
    """By the layers at which the true answer beats its foils, and by what a probe reads of it more than its control."""
    read = above("latent_clean_retention", report.metrics["latent_clean_retention"], 0.0)
    return all_of(_beats_first(report), read)


def _beats_first(report: Report) -> Ruling:
    """Whether the true answer surely beats other possible answers at a layer before the wrong label may take over."""
    clean, over = (report.metrics[name] for name in ("clean_label_depth", "override_depth"))
    refuted = _never_beats(report)
    if refuted is not None:
        return refuted
    if clean.value is None:
        return Ruling(
            INCONCLUSIVE, f"the true answer does not surely beat other possible answers: {clean.reason_if_null}"
        )
    if over.value is None:
        return Ruling(INCONCLUSIVE, f"the wrong label does not surely take over: {over.reason_if_null}")
    said = f"true answer beats other possible answers from depth {shown(clean)}, wrong label leads from {shown(over)}"
    if clean.ci_high is None or over.ci_low is None:
        return Ruling(INCONCLUSIVE, f"{said}, without an interval")
    if clean.ci_high < over.ci_low:
        return Ruling(REPLICATED, said)
    return Ruling(INCONCLUSIVE, f"{said}: which comes first is not sure")


def _never_beats(report: Report) -> Ruling | None:
    """Why it surely does not, or is not known: more than half of foils lose at no layer before the label takes over."""
    noisy = at(details_of(report, "logit_lens"), "snapshots", "post_memorization", "noisy")
    if at(noisy, "n_with_foils") == 0:
        return Ruling(NOT_APPLICABLE, "the task names no other answers that its questions leave possible")
    lead, won = (
        shares(at(noisy, key, end)) for key, end in (("label_over_true", "ci_low"), ("foils_beaten", "ci_high"))
    )
    if not lead or len(lead) != len(won):
        return Ruling(INCONCLUSIVE, "how the true answer stands to other possible answers at each layer is not known")
    if lead[-1] <= HALF:
        return None
    before = next((k + 1 for k in range(len(lead) - 1, -1, -1) if lead[k] <= HALF), 0)
    if before == 0:
        return Ruling(NOT_REPLICATED, f"the wrong label leads from the first of {len(lead)} layers on")
    if max(won[:before]) > HALF:
        return None
    said = f"the true answer beats at most {max(won[:before]):.3f} of other possible answers (upper bound)"
    return Ruling(NOT_REPLICATED, f"{said} at all {before} layers before the wrong label takes over")
