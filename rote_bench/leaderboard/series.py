"""What the page draws of a report, as its diagnostics hand it over: plain numbers of sane size, and little of it."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from ..plain import JsonObject
from ..report.record import Report
from .schema import fits

if TYPE_CHECKING:
    from ..plugins import Registry

MOST_POINTS, MOST_LAYERS, DEEPEST = 64, 256, 6
LARGEST, DIGITS = 1e9, 4


def series(report: Report, registry: Registry) -> dict[str, JsonObject]:
    """Diagnostic -> what is drawn of its details, where they are of its making."""
    steps = set(report.training.snapshots.values())
    out: dict[str, JsonObject] = {}
    for name, entry in report.diagnostics.items():
        diagnostic = registry.table("diagnostics").get(name)
        if diagnostic is None or entry.status != "success":
            continue
        with contextlib.suppress(Exception):  # details may hold anything, which no diagnostic need have thought of
            found = tidy(diagnostic.series(entry.details), steps)
            if isinstance(found, Mapping) and fits(name, found):
                out[name] = found
    return out


def tidy(value: object, steps: Collection[object] = (), deep: int = 0) -> object:
    """Numbers rounded for drawing, and long lists of points thinned evenly beside the given steps.

    Raises:
        ValueError: for a text, a number beyond what is drawn, or more than a figure can show.
    """
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST:
        return value if isinstance(value, int) else round(value, DIGITS)
    if isinstance(value, Mapping) and len(value) <= MOST_LAYERS and deep < DEEPEST and all(map(_plain, value)):
        return {key: tidy(item, steps, deep + 1) for key, item in value.items()}
    if isinstance(value, list | tuple) and deep < DEEPEST:
        kept = thinned(value, steps) if all(isinstance(item, Mapping) for item in value) else value
        if len(kept) <= MOST_LAYERS:
            return [tidy(item, steps, deep + 1) for item in kept]
    raise ValueError("nothing that a page draws")


def _plain(key: object) -> bool:
    return isinstance(key, str) and key.isprintable() and len(key) <= 100


def thinned(points: Sequence[Mapping[str, object]], steps: Collection[object]) -> Sequence[Mapping[str, object]]:
    """At most ``MOST_POINTS`` of them, evenly, and those of the given steps."""
    if len(points) <= MOST_POINTS:
        return points
    keep = {round(i * (len(points) - 1) / (MOST_POINTS - 1)) for i in range(MOST_POINTS)}
    keep |= {i for i, point in enumerate(points) if point.get("step") in steps}
    return [points[i] for i in sorted(keep)]
