"""What a report's details say, read with distrust: what is not what it should be counts as missing."""

from __future__ import annotations

from collections.abc import Mapping

from ..report.record import Report


def details_of(report: Report, diagnostic: str) -> Mapping[str, object]:
    entry = report.diagnostics.get(diagnostic)
    return {} if entry is None else entry.details


def shares(value: object) -> list[float]:
    """A list of shares, empty when it is none."""
    if not isinstance(value, list) or not all(isinstance(x, int | float) and 0 <= x <= 1 for x in value):
        return []
    return [float(x) for x in value]


def share(value: object) -> float | None:
    return next(iter(shares([value])), None)


def count(value: object) -> int:
    """A number of examples, layers or units, 0 when it is none."""
    return value if isinstance(value, int) and 0 < value < 2**31 else 0
