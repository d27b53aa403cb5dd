"""The claim that memorised labels run on the circuit of the clean task."""

from __future__ import annotations

from collections.abc import Mapping

from ..report.conditions import at
from ..report.record import Report
from .kept import details_of
from .rules import NOT_APPLICABLE, Ruling, above_control, untested

POST = "post_memorization"
GAP = 0.2  # of the lead, that integrated gradients may miss


def shared_circuits(report: Report) -> Ruling:
    """By what the clean task's circuit keeps of memorization, where importances account for the lead."""
    errors = at(details_of(report, "circuits"), "snapshots", POST, "integration_error")
    gaps = list(errors.values()) if isinstance(errors, Mapping) else []
    known = [float(gap) for gap in gaps if isinstance(gap, int | float)]
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
