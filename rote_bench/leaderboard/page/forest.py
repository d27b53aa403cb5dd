"""The first figure: one line a model, each seed a dot, mean and interval, on a scale that no outlier rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...findings.several import BENIGN, CATASTROPHIC
from ..rank import RANKING
from .chart import Scale, scale

ONE_FOR_ONE = CATASTROPHIC
LEAST = 0.15  # where the scale ends at the earliest
FENCE = 3.0  # quartile ranges beyond the quartiles: what lies farther is drawn at the edge
NEAR_ONE = 0.7  # of a scale that reaches so far the mark at one is worth its room
ROW, SPREAD = 36, (0.0, 5.0, -5.0, 8.0, -8.0)  # height of a line, and what keeps the dots of a line apart, in pixels


@dataclass(frozen=True)
class Dot:
    """A seed's value, at its place; ``y`` in pixels."""

    x: str
    y: float
    seed: str
    value: float


@dataclass(frozen=True)
class Lane:
    """One model's line.

    Attributes:
        at: index of its row on the board.
        mean, low, high: places, or None where there is none or it lies beyond an end.
        reach: both ends of the interval, as far as the scale has them.
        cut: whether it goes on beyond either end.
        below, above: what lies beyond either end, in words.
        regime: what its interval says of the cost.
    """

    at: int
    row: Mapping[str, Any]
    dots: Sequence[Dot]
    mean: str | None
    reach: tuple[str, str] | None
    cut: tuple[bool, bool]
    below: str | None
    above: str | None
    regime: str


@dataclass(frozen=True)
class Forest:
    """All lines of a task at one noise rate, with the scale that they share.

    Attributes:
        marks: values with a line down, each with its class.
        ranked: how many models have a rank.
    """

    rate: float
    scale: Scale
    lanes: Sequence[Lane]
    marks: Sequence[tuple[float, str]]
    ranked: int


def values(row: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Seed and value of the ranking metric, of those that have one."""
    return [(one["seed"], float(one["value"])) for one in row["values"]]


def regime(entry: Mapping[str, Any] | None) -> str:
    """What an interval of noise transfer says: benign, tempered or catastrophic where the whole of it does."""
    if entry is None or entry["ci_low"] is None or entry["ci_high"] is None:
        return ""
    low, high = entry["ci_low"], entry["ci_high"]
    if high < BENIGN:
        return "benign"
    if low > ONE_FOR_ONE:
        return "catastrophic"
    return "tempered" if low >= BENIGN and high <= ONE_FOR_ONE else ""


def forest(task: Mapping[str, Any]) -> Forest | None:
    """Of the rows at the task's main noise rate; None where no label of any run was wrong."""
    rate = task["main_rate"]
    if rate is None:
        return None
    rows = [(i, row) for i, row in enumerate(task["rows"]) if row["noise_rate"] == rate]
    ranked = [row for _, row in rows if row["rank_low"] is not None]
    line = _scale(ranked or [row for _, row in rows])
    marks = [(v, name) for v, name in ((0.0, "zero"), (BENIGN, "benign"), (ONE_FOR_ONE, "one")) if v <= line.high]
    return Forest(rate, line, [_lane(i, row, line) for i, row in rows], marks, len(ranked))


def _scale(rows: Sequence[Mapping[str, Any]]) -> Scale:
    """What holds nearly all seeds and intervals of some rows, zero, and where benign ends."""
    entries = [row["metrics"].get(RANKING) for row in rows]
    ends = [float(e[k]) for e in entries if e is not None for k in ("value", "ci_low", "ci_high") if e[k] is not None]
    seeds = [value for row in rows for _, value in values(row)]
    if not seeds and not ends:
        return scale((), 0.0, LEAST)
    low, high = np.quantile(seeds or ends, (0.25, 0.75))
    reach = FENCE * (high - low)
    kept = [v for v in (*seeds, *ends) if low - reach <= v <= high + reach]
    least, most = min(0.0, *kept), max(LEAST, *kept)
    most = max(most, 1.04) if most >= NEAR_ONE else most
    room = 0.03 * (most - least)
    marks = scale((), least, most).ticks
    inside = tuple(mark for mark in marks if least - room <= mark[0] <= most + room)
    return Scale(least - room, most + room, inside)


def _lane(at: int, row: Mapping[str, Any], line: Scale) -> Lane:
    entry = row["metrics"].get(RANKING)
    inside = [(s, v) for s, v in values(row) if line.low <= v <= line.high]
    dots = [
        Dot(line.at(v), ROW / 2 + SPREAD[i % len(SPREAD)], s, v)
        for i, (s, v) in enumerate(sorted(inside, key=lambda one: (one[1], one[0])))
    ]
    mean = None if entry is None else entry["value"]
    reach, cut = None, (False, False)
    if mean is not None and entry is not None and entry["ci_low"] is not None:
        reach = (line.at(entry["ci_low"]), line.at(entry["ci_high"]))
        cut = (entry["ci_low"] < line.low, entry["ci_high"] > line.high)
    seen = None if mean is None or not line.low <= mean <= line.high else line.at(mean)
    over = [v for _, v in values(row) if v > line.high] or [v for v in (mean,) if v is not None and v > line.high]
    under = [v for _, v in values(row) if v < line.low] or [v for v in (mean,) if v is not None and v < line.low]
    return Lane(
        at,
        row,
        dots,
        seen,
        reach,
        cut,
        _beyond(under, "\u25c2 {}", min),
        _beyond(over, "{} \u25b8", max),
        regime(entry),
    )


def _beyond(found: Sequence[float], form: str, farthest: Any) -> str | None:
    """What lies beyond an end of the scale, in a few characters."""
    if not found:
        return None
    value = f"{farthest(found):.2f}".replace("-", "\u2212")
    return form.format(value if len(found) == 1 else f"{len(found)} seeds, to {value}")
