"""The claim that memorised labels run on the circuit of the clean task."""

from __future__ import annotations

from collections.abc import Mapping

from ..report.conditions import at
from ..report.record import Report
from .kept import details_of
from .rules import NOT_APPLICABLE, Ruling, above

GAP = 0.2  # of the lead, that integrated gradients may miss
TASKS = ("clean", "memorization")


def shared_circuits(report: Report) -> Ruling:
    """By what the clean task's circuit keeps of memorization beyond matched random ones, on the same examples.

    Only where importances account for the lead. A random circuit has as many heads and units in each layer, and the
    interval holds one more random circuit, so that one of them passes in place of the clean task's in 2 or 3 of 100
    cases at the most.
    """
    errors = at(details_of(report, "circuits"), "integration_error")
    gaps = [errors.get(task) for task in TASKS] if isinstance(errors, Mapping) else []
    known = [float(gap) for gap in gaps if isinstance(gap, int | float) and gap >= 0]
    if len(known) < len(TASKS):
        return Ruling(NOT_APPLICABLE, "the completeness gap of the circuits is not known")
    if max(known) > GAP:
        return Ruling(
            NOT_APPLICABLE,
            f"the circuits' importances miss {max(known):.2f} of the lead; at most {GAP:g} may be missed",
        )
    excess = "cross_faithfulness_excess"
    return above(excess, report.metrics[excess], 0.0)
