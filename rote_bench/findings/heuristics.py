"""The claim that memorization shifts known heuristics of arithmetic."""

from __future__ import annotations

from ..report.conditions import at
from ..report.record import Report
from .kept import details_of
from .rules import NOT_APPLICABLE, Ruling, above, all_of

LIMITS = {"patch_dissociation_excess": 0.0, "patch_specificity": 0.0, "heuristic_shift_concentration": 1.0}


def outlier_heuristics(report: Report) -> Ruling:
    """Of arithmetic alone: MLPs undo memorization beyond their change in other examples, and beyond attention; and the
    units that follow known heuristics best shift more than like ones."""
    if at(details_of(report, "neurons"), "arithmetic") is not True:
        return Ruling(NOT_APPLICABLE, "the claim is about arithmetic, which this task is not")
    return all_of(*(above(name, report.metrics[name], limit) for name, limit in LIMITS.items()))
