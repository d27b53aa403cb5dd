"""The twin of a single cell: where it lies, and what the wrong labels cost against it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from ..errors import UserError
from ..findings import noise_transfer
from ..statistics import Estimate
from .conditions import conditions
from .record import Metric, Report
from .write import FILE, load_report

ACCURACY = "validation_accuracy"
MAY_DIFFER = ("schedule", "diagnostics")


def beside(report: Report, folder: Path) -> Report | None:
    """The finished cell at noise rate 0 of the same seeds, where the folders of cells are as a run lays them out."""
    if report.data.noise_rate == 0:
        return None
    place = folder.resolve().parent.parent / "noise-0" / folder.resolve().name
    try:
        twin = load_report(place) if (place / FILE).is_file() else None
    except UserError:  # damaged, or of another version
        return None
    if twin is None or twin.status != "success" or twin.model.name != report.model.name:
        return None
    mine, other = (
        {name: value for name, value in conditions(each).items() if name not in MAY_DIFFER} for each in (report, twin)
    )
    return twin if mine == other and twin.seeds == report.seeds else None


def cost(report: Report, twin: Report | None) -> Estimate:
    """``noise_transfer`` of one pair of cells; its interval adds those of both accuracies in quadrature."""
    if report.data.noise_rate == 0:
        return Estimate.missing("no wrong labels at this noise rate")
    found = noise_transfer([report], [] if twin is None else [twin])
    if found.value is None or twin is None:
        return found
    halves = [_half(each.metrics.get(ACCURACY)) for each in (report, twin)]
    known = [half for half in halves if half is not None]
    if len(known) < 2:
        return found
    half = math.hypot(*known) / report.data.noise_rate
    method = "half widths of both cells in quadrature"
    low, high = found.value - half, found.value + half
    return replace(found, ci_low=low, ci_high=high, ci_method=method, reason_if_no_interval=None)


def _half(metric: Metric | None) -> float | None:
    if metric is None or metric.ci_low is None or metric.ci_high is None:
        return None
    return (metric.ci_high - metric.ci_low) / 2
