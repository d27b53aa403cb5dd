"""The claim that memorization relies on the reasoning."""

from __future__ import annotations

from collections.abc import Mapping

from ..report.conditions import at
from ..report.record import Report
from ..statistics import wilson
from .kept import count, details_of, share, shares
from .rules import HALF, INCONCLUSIVE, Ruling, above, all_of, shown, untested


def relies_on_reasoning(report: Report) -> Ruling:
    """Of an erasure that took the reasoning away, by what held-out questions kept for choices say of it."""
    still = _still_reasons(details_of(report, "erasure"))
    if still is not None:
        return Ruling(INCONCLUSIVE, f"the erasure did not remove the reasoning: {still}")
    names = ("reasoning_reliance_memorization", "reasoning_reliance_validation")
    found = all_of(*(above(name, report.metrics[name], 0.0) for name in names))
    return untested(found, "several draws of the random erasure, matched in what they erase")


def _still_reasons(details: Mapping[str, object]) -> str | None:
    """Why it is not sure that more than half of the answers went, of the intact model's and of the control's."""
    n, layer = count(details.get("selection_n")), count(details.get("chosen_layer"))
    levels = [shares(at(details, "methods", method, "selection")) for method in ("leace", "random")]
    intact = share(at(details, "intact", "selection"))
    if not n or not layer or intact is None or min(map(len, levels)) < layer:
        return "what is left of it is not known"
    erased, control = (wilson(round(of_layer[layer - 1] * n), n) for of_layer in levels)
    assert erased.ci_high is not None and control.ci_low is not None and control.value is not None
    if (
        erased.ci_high <= HALF * intact
        and erased.ci_high < control.ci_low
        and (erased.value or 0) <= HALF * control.value
    ):
        return None
    said = f"{shown(erased)} of selection questions are right after it"
    return f"{said}, {shown(control)} after its control, {intact:.3f} intact"
