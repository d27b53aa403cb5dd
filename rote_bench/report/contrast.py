"""Two cells, or two folders of cells, side by side: every metric, the difference, and how sure it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .. import terminal
from ..contrasts import permutation, smallest_p, welch
from ..errors import UserError
from ..findings import ACROSS, NO_TWIN, noise_transfer, transfer, with_twins
from ..measures import words
from ..paths import of_user
from ..plain import JsonObject
from ..spec.model import Seeds
from ..statistics import Estimate, minus
from . import table
from .conditions import MOST_SHOWN, OF_MODEL, conditions, differing, flat
from .record import Report
from .schedules import apart as schedules_apart
from .schedules import falls_from
from .twin import beside, cost
from .write import FILE, find_reports, load_report

WAYS = {
    "cells": "of two cells; its interval is Newcombe's, from those of both",
    "groups": "of the means over seeds, with Welch's t interval; seeds that both sides share do not pair them",
}


@dataclass(frozen=True)
class Side:
    """One of the two.

    Attributes:
        name: as the user gave it.
        seeds: those of its cells, in their order.
    """

    name: str
    task: str
    model: str
    noise_rate: float
    seeds: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """A metric on both sides.

    Attributes:
        higher_is_better: None when the metric only describes.
        difference: first minus second.
        p: two-sided, by dealing the seeds anew to the two sides; None between two cells.
    """

    metric: str
    higher_is_better: bool | None
    first: Estimate
    second: Estimate
    difference: Estimate
    p: float | None = None

    def texts(self) -> list[str]:
        """Its cells in a table."""
        estimates = map(table.shown, (self.first, self.second, self.difference))
        return [words(self.metric), *estimates, "-" if self.p is None else f"{self.p:.3g}"]


@dataclass(frozen=True)
class Contrast:
    """What ``rote-bench compare`` says.

    Attributes:
        way: how differences are made, a key of ``WAYS``.
        differs: in what the sides differ, in words.
        smallest_p: that so many seeds can give; None between two cells.
    """

    first: Side
    second: Side
    way: str
    differs: str
    lines: tuple[Line, ...]
    smallest_p: float | None = None

    def entry(self) -> JsonObject:
        """As JSON."""
        return {**asdict(self), "way": WAYS[self.way]}

    def table(self, style: str = "simple", width: int | None = None) -> str:
        """As text.

        Args:
            width: of the lines, the terminal's when None; where the table is wider, each metric has lines of its own.
        """
        width = width or terminal.width()
        columns = ["metric", "A", "B", "A - B", *(["p"] if self.smallest_p else [])]
        body = [line.texts()[: len(columns)] for line in self.lines]
        found = table.text(columns, body, style)
        if max(map(len, found.splitlines()), default=0) > width:
            named = [[row[0], *(f"{c:<5}  {t}" for c, t in zip(columns[1:], row[1:], strict=True))] for row in body]
            found = "\n".join(map("\n  ".join, named))
        heads = [
            f"{letter}  {side.name}: {side.model} on {side.task}, noise {side.noise_rate:g},"
            f" seed{'' if len(side.seeds) == 1 else 's'} {', '.join(side.seeds)}"
            for letter, side in (("A", self.first), ("B", self.second))
        ]
        heads += [f"They differ in {self.differs}."] if self.differs else []
        note = f"A - B is the difference {WAYS[self.way]}."
        if self.smallest_p:
            note += (
                " p is two-sided, by dealing the seeds anew to both sides, for each metric alone; so many seeds cannot"
                f" give less than {self.smallest_p:.2g}."
            )
        above, below = (
            "\n".join(line for t in ts for line in terminal.fold(t, width, hang="   ")) for ts in (heads, [note])
        )
        return f"{above}\n\n{found}\n\n{below}\n"


def compare(first: str | Path, second: str | Path) -> Contrast:
    """Compare two cells or two folders of cells of one model at one noise rate each.

    Raises:
        UserError: when there is no report, or what differs between the sides makes their numbers incomparable.
    """
    sides = [_found(place) for place in (first, second)]
    a, b = ([report for report, _ in side] for side in sides)
    with_a, with_b = ([twin for each in side if (twin := beside(*each)) is not None] for side in sides)
    return contrast(a, b, (str(first), str(second)), (with_a, with_b))


def _found(place: str | Path) -> list[tuple[Report, Path]]:
    """The reports of a side with the folders that they lie in."""
    path = of_user(place)
    if not path.is_dir() or (path / FILE).is_file():
        return [(load_report(path), path if path.is_dir() else path.parent)]
    found = [(load_report(file), file.parent) for file in find_reports(path)]
    if not found:
        raise UserError("holds no reports", where=str(place), hint="`rote-bench run` makes some")
    return found


def contrast(
    first: Sequence[Report],
    second: Sequence[Report],
    names: tuple[str, str] = ("A", "B"),
    twins: tuple[Sequence[Report], Sequence[Report]] = ((), ()),
) -> Contrast:
    """Every metric of both sides and what it differs by; where there are twins, first what a wrong label costs.

    Args:
        twins: of either side the cells at noise rate 0.

    Raises:
        UserError: when a side is no group of cells of one kind, or the sides cannot be compared.
    """
    a, b = (_cells(reports, name) for reports, name in zip((first, second), names, strict=True))
    differs = _comparable(a, b, names)
    way = "cells" if len(a) == len(b) == 1 else "groups"
    rows = (list(a.values()), list(b.values()))
    metrics = list(dict.fromkeys(name for side in rows for report in side for name in report.metrics))
    sides = (_side(names[0], rows[0]), _side(names[1], rows[1]))
    lines = [_line(metric, rows, way) for metric in metrics]
    if any(twins) and all(report.data.noise_rate for side in rows for report in side):
        lines.insert(0, _cost_line(rows, twins, way))
    return Contrast(*sides, way, differs, tuple(lines), smallest_p(len(a), len(b)) if way == "groups" else None)


def _side(name: str, cells: Sequence[Report]) -> Side:
    one = cells[0]
    seeds = tuple(report.seeds.label for report in cells)
    return Side(name, one.task.label, one.model.name, one.data.noise_rate, seeds)


def _order(seeds: Seeds) -> tuple[int, ...]:
    return seeds.data, seeds.noise, seeds.init, seeds.order, seeds.bootstrap


def _cells(reports: Sequence[Report], name: str) -> dict[Seeds, Report]:
    """The finished cells of one side by their seeds: one task, model, noise rate and set of conditions."""
    done = [report for report in reports if report.status == "success"]
    if not done:
        raise UserError("no run succeeded, so that there is nothing to compare", where=name)
    kinds = [{"task": r.task.label, "model": r.model.name, "noise": f"{r.data.noise_rate:g}"} for r in done]
    apart = differing([{**flat(conditions(r)), **kind} for r, kind in zip(done, kinds, strict=True)])
    if apart:
        raise UserError(
            f"its cells differ in {', '.join(apart[:MOST_SHOWN])}, so that they are not of one kind",
            where=name,
            hint="give the folder of one model at one noise rate",
        )
    by_seeds = {report.seeds: report for report in sorted(done, key=lambda r: _order(r.seeds))}
    if len(by_seeds) < len(done):
        raise UserError("holds the same seed more than once", where=name)
    return by_seeds


def _comparable(a: Mapping[Seeds, Report], b: Mapping[Seeds, Report], names: tuple[str, str]) -> str:
    """In what the sides may and do differ, in words."""
    one, other = next(iter(a.values())), next(iter(b.values()))
    known = {"task": one.task.label, **flat(conditions(one))}
    given = {"task": other.task.label, **flat(conditions(other))}
    apart = differing([known, given])
    of_model = [name for name in apart if name.split(".")[0] in OF_MODEL]
    barring = [name for name in apart if name not in of_model]
    shared = [seeds for seeds in a if seeds in b]
    same_model = one.model.name == other.model.name and not of_model
    if same_model and shared:  # seed by seed it can be told whether the schedules are equal, whatever timed them
        barring = [name for name in barring if name != "schedule"]

    def told(name: str) -> str:
        return f"{name.replace('.options.', '.')} ({known.get(name, 'none')} and {given.get(name, 'none')})"

    def refuse(what: str) -> UserError:
        return UserError(f"cannot be compared, as they differ in {what}", where=" and ".join(names))

    if barring:
        raise refuse(", ".join(map(told, barring[:MOST_SHOWN])))
    unequal = [why for seeds in shared if same_model and (why := schedules_apart(a[seeds], b[seeds]))]
    if unequal:
        raise refuse(f"schedule: {unequal[0]}")
    model = [] if one.model.name == other.model.name else [f"model ({one.model.name} and {other.model.name})"]
    model += map(told, of_model)
    if one.data.noise_rate != other.data.noise_rate:
        rates = f"noise rate ({one.data.noise_rate:g} and {other.data.noise_rate:g})"
        if model:
            raise refuse(f"{rates} and {model[0]}; only one of the two may")
        return rates
    moved = [seeds.label for seeds in shared if a[seeds].data.fingerprint != b[seeds].data.fingerprint]
    if moved:
        raise refuse(f"the examples of seed {moved[0]}")
    falls = [_falls(side.values()) for side in (a, b)]
    model += [f"the step from which the rate fell ({falls[0]} and {falls[1]})"] if falls[0] != falls[1] else []
    return ", ".join(model)


def _falls(cells: Iterable[Report]) -> str:
    """The last step at the full rate, or the earliest and the latest."""
    steps = sorted({step for cell in cells if (step := falls_from(cell)) is not None})
    return " to ".join(str(step) for step in dict.fromkeys((steps[0], steps[-1]))) if steps else "none"


def _line(metric: str, sides: tuple[Sequence[Report], Sequence[Report]], way: str) -> Line:
    first, second = ([report.metrics.get(metric) for report in side] for side in sides)
    a, b = table.aggregate(first), table.aggregate(second)
    known = next(entry for entry in (*first, *second) if entry is not None)
    if way == "cells" or a.value is None or b.value is None:
        return Line(metric, known.higher_is_better, a, b, minus(a, b))
    left, right = ([m.value for m in side if m is not None and m.value is not None] for side in (first, second))
    p = permutation(left, right, np.random.default_rng(0))
    return Line(metric, known.higher_is_better, a, b, welch(left, right), p)


def _cost_line(
    sides: tuple[Sequence[Report], Sequence[Report]], twins: tuple[Sequence[Report], Sequence[Report]], way: str
) -> Line:
    """``noise_transfer`` on both sides."""
    declared, pairs = ACROSS[0], [with_twins(side, given) for side, given in zip(sides, twins, strict=True)]
    if way == "cells":
        a, b = (cost(*pair[0]) if pair else Estimate.missing(NO_TWIN) for pair in pairs)
    else:
        a, b = (
            noise_transfer(side, given)
            if len(pair) in (0, len(side))
            else Estimate.missing(f"only {len(pair)} of {len(side)} cells have a twin at noise rate 0")
            for side, given, pair in zip(sides, twins, pairs, strict=True)
        )
    if way == "cells" or a.value is None or b.value is None:
        return Line(declared.name, declared.higher_is_better, a, b, minus(a, b))
    left, right = ([transfer(*each) for each in pair] for pair in pairs)
    p = permutation(left, right, np.random.default_rng(0))
    return Line(declared.name, declared.higher_is_better, a, b, welch(left, right), p)
