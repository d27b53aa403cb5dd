"""The claim that memorization shifts known heuristics of arithmetic."""

from __future__ import annotations

from ..report.conditions import at
from ..report.record import Report
from .kept import details_of
from .rules import NOT_APPLICABLE, Ruling, above, untested


def outlier_heuristics(report: Report) -> Ruling:
    """Of arithmetic alone, by what MLP activations from before memorization undo."""
    if at(details_of(report, "neurons"), "arithmetic") is not True:
        return Ruling(NOT_APPLICABLE, "the claim is about arithmetic, which this task is not")
    found = above("patch_dissociation", report.metrics["patch_dissociation"], 0.0)
    return untested(
        found, "the change of another example put back, the same of attention, and units matched in size and activity"
    )
