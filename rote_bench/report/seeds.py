"""Cells that differ in their seeds alone: what may be brought together, and what is left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..spec.model import Seeds
from .conditions import conditions, differing, flat, told
from .record import Report


@dataclass(frozen=True)
class Group:
    """Cells of one task, model and noise rate that were made under the same conditions.

    Attributes:
        task: with its profile.
        differs: in what its conditions differ from those of other groups of the same task, model and noise rate.
        names: of the finished cells, one for each set of seeds.
        all_names: of every cell, those that failed or repeat a seed too.
    """

    task: str
    model: str
    noise_rate: float
    differs: str
    names: tuple[str, ...]
    all_names: tuple[str, ...]


def groups(reports: Mapping[str, Report]) -> tuple[list[Group], list[str]]:
    """The groups of many cells, sorted, the largest first where conditions differ; and a line about each left out.

    Args:
        reports: by a name to be called by, as their path.
    """
    by_kind: dict[tuple[str, str, float], dict[str, list[str]]] = {}
    flats = {name: flat(conditions(report)) for name, report in reports.items()}
    for name, report in reports.items():
        key = (report.task.label, report.model.name, report.data.noise_rate)
        by_kind.setdefault(key, {}).setdefault(repr(sorted(flats[name].items())), []).append(name)
    found: list[Group] = []
    left_out: list[str] = []
    for (task, model, rate), alike in sorted(by_kind.items()):
        firsts = [flats[members[0]] for members in alike.values()]
        names = differing(firsts)
        for one, members in sorted(zip(firsts, alike.values(), strict=True), key=lambda pair: -len(pair[1])):
            kept, repeated = _once(members, reports)
            left_out += repeated
            found.append(Group(task, model, rate, told(one, names), tuple(kept), tuple(members)))
    return found, left_out


def _once(names: Iterable[str], reports: Mapping[str, Report]) -> tuple[list[str], list[str]]:
    """One finished cell for each set of seeds, from committed code where there is one; and what becomes of others."""
    by_seeds: dict[Seeds, str] = {}
    left_out = []
    done = [name for name in names if reports[name].status == "success"]
    for name in sorted(done, key=lambda name: (bool(reports[name].environment.git_dirty), name)):
        seeds = reports[name].seeds
        if seeds in by_seeds:
            left_out.append(f"left out: {name}: seed {seeds.label} stands in {by_seeds[seeds]} already")
        else:
            by_seeds[seeds] = name
    return sorted(by_seeds.values()), left_out
