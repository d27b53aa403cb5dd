"""The claim that memorization relies on the reasoning."""

from __future__ import annotations

from collections.abc import Mapping

from ..report.conditions import at
from ..report.record import Report
from .kept import count, details_of, share
from .rules import HALF, INCONCLUSIVE, REPLICATED, Ruling, above, all_of

BEYOND_SIZE = "reasoning_reliance_beyond_size"


def relies_on_reasoning(report: Report) -> Ruling:
    """Where an erasure took the reasoning away, by what memorization and held-out answers lose beyond its control."""
    details = details_of(report, "erasure")
    selection = at(details, "lines", "selection")
    why = not_removed(selection if isinstance(selection, Mapping) else {}, count(details.get("chosen_layer")) - 1)
    if why is not None:
        return Ruling(INCONCLUSIVE, f"the erasure did not remove the reasoning: {why}")
    names = ("reasoning_reliance_memorization", "reasoning_reliance_validation")
    found = all_of(*(above(name, report.metrics[name], 0.0) for name in names))
    size = above(BEYOND_SIZE, report.metrics[BEYOND_SIZE], 0.0)
    if found.verdict != REPLICATED:
        return found
    if size.verdict == REPLICATED:
        return all_of(found, size)
    return Ruling(INCONCLUSIVE, f"{found.reason}, but any lesion of that size may do as much: {size.reason}")


def not_removed(selection: Mapping[str, object], layer: int) -> str | None:
    """Why it is not sure that erasing the intermediate result after a layer took most of the reasoning; None if it is.

    Of held-out questions kept for choices: at most half of what the intact model answers is left, the upper bound of
    the one against the lower bound of the other; at most half of what is left under the control, and the upper bound
    below the control's lower bound.

    Args:
        selection: ``intact``, ``leace`` and ``control``, each with ``value``, ``ci_low`` and ``ci_high`` by layer.
        layer: from 0.
    """
    intact, erased, control = (_level(selection, name, layer) for name in ("intact", "leace", "control"))
    if intact is None or erased is None:
        return "what is left of it is not known"
    if control is None:
        return "there is no control to compare it with"
    if erased[2] <= HALF * intact[0] and erased[1] <= HALF * control[1] and erased[2] < control[0]:
        return None
    said = f"{_said(erased)} of selection questions are right after it"
    return f"{said}, {_said(control)} after its control, {_said(intact)} intact"


def _said(level: tuple[float, float, float]) -> str:
    low, value, high = level
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _level(selection: Mapping[str, object], name: str, layer: int) -> tuple[float, float, float] | None:
    """The lower bound of a share, itself and the upper bound; None where it is not all there."""
    found = []
    for key in ("ci_low", "value", "ci_high"):
        numbers = at(selection, name, key)
        if not isinstance(numbers, list) or not 0 <= layer < len(numbers):
            return None
        found.append(share(numbers[layer]))
    low, value, high = found
    if low is None or value is None or high is None or not low <= value <= high:
        return None
    return low, value, high
