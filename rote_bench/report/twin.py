"""The twin of a single cell: where it lies, and what the wrong labels cost against it."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from ..findings import noise_transfer
from ..statistics import Estimate, minus, times
from .conditions import conditions
from .record import Report
from .write import FILE, load_report

ACCURACY = "validation_accuracy"
MAY_DIFFER = ("schedule", "diagnostics")


def beside(report: Report, folder: Path) -> Report | None:
    """The finished cell at noise rate 0 of the same seeds, where the folders of cells are as a run lays them out."""
    if report.data.noise_rate == 0:
        return None
    place = place_of(folder)
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


def place_of(folder: Path) -> Path:
    """Where the twin of a cell lies."""
    here = folder.resolve()
    return here.parent.parent / "noise-0" / here.name


def cost(report: Report, twin: Report | None) -> Estimate:
    """``noise_transfer`` of one pair of cells, with the interval over their questions."""
    if report.data.noise_rate == 0:
        return Estimate.missing("no wrong labels at this noise rate")
    found = noise_transfer([report], [] if twin is None else [twin])
    if found.value is None or twin is None:
        return found
    return times(minus(twin.metrics[ACCURACY], report.metrics[ACCURACY]), 1 / report.data.share)
