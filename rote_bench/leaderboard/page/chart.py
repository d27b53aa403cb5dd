"""Figures as data for a template: scales, series and panels, and the numbers behind them as a table.

Places are in per cent of an area that stretches with the page, so that text and marks keep their size on a phone and
nothing has to be drawn again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from ...report.markup import number

# What tells models apart: so many colours, each with a mark of its own; the next round has the same with broken lines.
LOOKS = 8
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "drop", "ring", "star")
FINE = 1000  # parts of an area's side in which lines are given


class Point(NamedTuple):
    """One value with its interval, if it has one."""

    x: float
    y: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Scale:
    """A line of numbers.

    Attributes:
        ticks: where there is a mark, and what it says.
        places: digits that values on it are read with.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...] = ()

    def part(self, value: float) -> float:
        """Where a value lies between both ends, 0 to 1; at an end what lies beyond.

        Raises:
            ValueError: for what is no number.
        """
        if math.isnan(value):
            raise ValueError("what is no number has no place in a figure")
        return min(1.0, max(0.0, (value - self.low) / ((self.high - self.low) or 1.0)))

    def at(self, value: float) -> str:
        """In per cent from the left."""
        return f"{100 * self.part(value):.2f}%"

    def down(self, value: float) -> str:
        """In per cent from the top."""
        return f"{100 - 100 * self.part(value):.2f}%"


def _mean(values: Sequence[float | None]) -> float:
    known = [v for v in values if v is not None]
    return sum(known) / len(known)


def tick(value: float) -> str:
    """A number below or beside an axis."""
    return f"{value + 0.0:.6g}".replace("-", "\u2212")


def scale(values: Iterable[float], low: float | None = None, high: float | None = None, ticks: int = 4) -> Scale:
    """A scale with round marks that holds some values, and reaches to given ends where they lie beyond.

    Args:
        ticks: how many marks there are, more or less.
    """
    found = [v for v in (*values, low, high) if v is not None]
    least, most = (min(found), max(found)) if found else (0.0, 1.0)
    if most - least <= 1e-9 * max(abs(least), abs(most), 1.0):
        least, most = least - 0.5, most + 0.5
    raw = (most - least) / ticks
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(least / step + 1e-9), math.ceil(most / step - 1e-9)
    marks = [float(f"{i * step:.12g}") for i in range(first, last + 1)]
    return Scale(marks[0], marks[-1], tuple((v, tick(v)) for v in marks))


@dataclass(frozen=True)
class Series:
    """A line, or marks alone.

    Attributes:
        look: class of its colour and dashes.
        shape: of its marks; none where empty.
        line: whether marks are joined.
        mark: ``all`` points have one, or the ``last`` of each line alone.
    """

    name: str
    look: str
    points: Sequence[Point]
    shape: str = ""
    line: bool = True
    mark: str = "all"

    @property
    def known(self) -> list[Point]:
        """Points that have a value."""
        return [p for p in self.points if p.y is not None]

    @property
    def marked(self) -> list[Point]:
        """Points at which a mark is drawn."""
        return [] if not self.shape else self.known if self.mark == "all" else self.known[-1:]


@dataclass(frozen=True)
class Panel:
    """One area with its axes.

    Attributes:
        rules: values of the vertical axis with a line across.
        moments: of the horizontal one with a line down.
        heads: what its points are called in the table of numbers, where ticks do not say.
    """

    title: str
    x: Scale
    y: Scale
    x_label: str
    y_label: str
    series: Sequence[Series]
    rules: Sequence[float] = ()
    moments: Sequence[float] = ()
    heads: Mapping[float, str] = field(default_factory=dict)

    def strokes(self, series: Series) -> list[str]:
        """Unbroken lines of a series, each as ``x,y`` pairs in thousandths from the upper left."""
        out = []
        for there, run in groupby(series.points, key=lambda p: p.y is not None):
            places = [
                f"{FINE * self.x.part(p.x):.0f},{FINE - FINE * self.y.part(p.y or 0.0):.0f}" for p in run if there
            ]
            if len(places) > 1:
                out.append(" ".join(places))
        return out

    @property
    def tall(self) -> bool:
        """Whether what stands below needs several lines."""
        return any("\n" in text for _, text in self.x.ticks)

    @property
    def summary(self) -> str:
        """What the panel shows, in words: for those who do not see it."""
        alike: dict[str, list[Series]] = {}
        for one in self.series:
            if one.known:
                alike.setdefault(one.name, []).append(one)
        said = []
        for name, lines in alike.items():
            if lines[0].line and len(lines[0].known) > 1:
                ends = (_mean([one.known[at].y for one in lines]) for at in (0, -1))
                several = f", mean of {len(lines)} lines" if len(lines) > 1 else ""
                said.append(f"{name}{several}: from {' to '.join(map(number, ends))}")
            else:
                said.append(f"{name}: " + ", ".join(number(p.y) for one in lines for p in one.known))
        return "; ".join(said)


@dataclass(frozen=True)
class Figure:
    """Panels side by side under one title, with one legend.

    Attributes:
        heads, rows: the numbers as a table.
        narrowest: width of a panel in pixels below which fewer stand side by side.
    """

    title: str
    note: str
    panels: Sequence[Panel]
    heads: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    size: str = "middle"

    @property
    def legend(self) -> list[Series]:
        """Each name once."""
        return list({one.name: one for panel in self.panels for one in panel.series}.values())


def figure(
    title: str,
    note: str,
    panels: Sequence[Panel],
    *,
    size: str = "middle",
    numbers: tuple[Sequence[str], Sequence[Sequence[str]]] | None = None,
) -> Figure | None:
    """A figure of the panels that hold anything; none where all are empty.

    Args:
        size: ``small``, ``middle`` or ``large`` panels.
        numbers: heads and rows of the table, where it is not that of all points.
    """
    drawn = [panel for panel in panels if any(one.known for one in panel.series)]
    if not drawn:
        return None
    heads, rows = numbers or table(drawn)
    return Figure(title, note, drawn, heads, rows, size)


def table(panels: Sequence[Panel]) -> tuple[list[str], list[list[str]]]:
    """Every point of some panels: a row for each place, a column for each series."""
    names = list(dict.fromkeys(one.name for panel in panels for one in panel.series))
    several = len(panels) > 1
    rows = []
    for panel in panels:
        said = dict(panel.x.ticks) | dict(panel.heads)
        for x in sorted({p.x for one in panel.series for p in one.points}):
            cells: dict[str, str] = {}
            for one in panel.series:
                for p in one.points:
                    if p.x == x and p.y is not None:
                        around = "" if p.low is None else f" [{number(p.low)}, {number(p.high)}]"
                        cells[one.name] = number(p.y) + around
            head = [said.get(x, tick(x)), *([panel.title] if several else [])]
            rows.append([*head, *(cells.get(name, "–") for name in names)])
    return [panels[0].x_label, *(["panel"] if several else []), *names], rows


def looks(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Name -> class and shape that it has in every figure."""
    out = {}
    for i, name in enumerate(dict.fromkeys(names)):
        again = " again" if i >= LOOKS else ""
        out[name] = (f"k{i % LOOKS}{again}", SHAPES[i % LOOKS])
    return out
