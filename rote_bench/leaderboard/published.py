"""A published comparison, held against the reports: every trial and cell is there, every choice is that of the rule.

Its file is the curator's, its reports may be anybody's. They are found by what they say of themselves, never by where
they lie, and only among those that count: of several reports of one trial or cell the strongest stands, as it does
anywhere on the board. What a comparison has no place for, another seed or another model, stays outside.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

from ..comparison.choice import Choice, Learned, first_choice, second_choice
from ..comparison.rules import CURVES, Comparison, Entrant, Tuning
from ..comparison.trials import key_of, reached
from ..errors import UserError, clipped
from ..spec.model import DiagnosticSpec, Seeds, TaskSpec
from .collect import Diverged, Refusal
from .entry import Entry
from .select import standing

LARGEST_RECORD = 2**20  # bytes
CURVE = DiagnosticSpec(CURVES)  # no part of what a report is found by
Source: TypeAlias = Entry | Diverged
Found: TypeAlias = Mapping[str, Source]


class Tried(NamedTuple):
    """A report that a choice rests on."""

    model: str
    configuration: str
    noise_rate: float
    seed: str
    source: Source


@dataclass(frozen=True)
class Accepted:
    """One task of a comparison of which nothing is missing.

    Attributes:
        entrants: its models, in the order of the file.
        choices: model -> what its tuning came to; empty where nothing is tuned.
        cells: model -> its reports; none of a model that has no recipe.
        asked: path of a cell's report -> the diagnostics that were planned for it.
    """

    comparison: Comparison
    task: str
    entrants: tuple[Entrant, ...]
    choices: Mapping[str, Choice]
    tried: tuple[Tried, ...]
    cells: Mapping[str, tuple[Entry, ...]]
    asked: Mapping[str, frozenset[str]]

    @property
    def entries(self) -> list[Entry]:
        """The reports of all its cells."""
        return [entry for cells in self.cells.values() for entry in cells]

    @property
    def paths(self) -> set[str]:
        """Of every report that belongs to it."""
        return {entry.path for entry in self.entries} | {each.source.path for each in self.tried}


def accept(
    comparison: Comparison,
    counted: Iterable[Entry],
    refused: Iterable[Refusal],
    root: Path,
    published: Collection[str] = (),
) -> list[Accepted]:
    """Every task of a comparison, with its trials, choices and cells.

    Args:
        counted: the reports that count.
        refused: those that were left out, of which trainings may be trials whose loss was no longer finite.
        root: folder of all reports.
        published: hashes of the reports that stood on the board before.

    Raises:
        UserError: naming the first thing that is missing, or not as the rules have it.
    """
    _check_record(comparison, root)
    faults = []
    for found in _alike(comparison, counted, refused, published):
        try:
            tasks = dict.fromkeys(each.task for each in comparison.entrants)
            return [_accepted(comparison, task, found) for task in tasks]
        except UserError as error:
            faults.append(error)
    if faults:
        raise faults[0]
    raise _fault(comparison, "none of its trials and cells is among the reports that count")


def _fault(comparison: Comparison, what: str, hint: str | None = None) -> UserError:
    return UserError(what, where=f"comparison {comparison.name}", hint=hint)


def _check_record(comparison: Comparison, root: Path) -> None:
    """Whether the rules are those that were kept before the first cell was trained.

    Of several records one has to agree: a stranger's under the same name takes nothing from the curator's.
    """
    files = sorted(root.rglob(f"{comparison.name}.protocol.json"))
    if not files:
        hint = "`rote-bench sweep` writes it beside its cells; keep it with the reports"
        raise _fault(comparison, f"{comparison.name}.protocol.json is not among the reports", hint)
    if comparison.rules() not in map(_rules, files):
        kept = clipped(files[0].relative_to(root).as_posix())
        hint = "what is changed afterwards is another comparison: give it another name and cells of its own"
        raise _fault(comparison, f"its rules are not those that {kept} kept before its cells were trained", hint)


def _rules(file: Path) -> str | None:
    try:
        if not file.is_file() or file.stat().st_size > LARGEST_RECORD:
            return None
        rules = json.loads(file.read_text(encoding="utf-8"))["rules"]
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return None
    return rules if isinstance(rules, str) else None


def _alike(
    comparison: Comparison, counted: Iterable[Entry], refused: Iterable[Refusal], published: Collection[str]
) -> Iterator[Found]:
    """Key -> report, each time of all that were trained by the same versions and in the same type of numbers.

    A comparison never mixes those. Those come first of which a planned report stood on the board, then those that have
    most of what is planned; only a whole comparison is accepted, so that a report or two more decide nothing.
    """
    planned = _planned(comparison)
    diverged = sorted((each.diverged for each in refused if each.diverged is not None), key=lambda each: each.path)
    found: dict[str, dict[str, Source]] = {}
    strongest = sorted(counted, key=lambda entry: standing(entry, published))
    sources: list[Source] = [*(one for one in diverged if one.sha256 in published), *strongest, *diverged]
    for each in sources:
        if each.trial is not None:
            found.setdefault(each.trial.under, {}).setdefault(each.trial.key, each)

    def order(under: str) -> tuple[bool, int, str]:
        there = planned & found[under].keys()
        return not any(found[under][key].sha256 in published for key in there), -len(there), under

    for under in sorted(found, key=order):
        if planned & found[under].keys():
            yield found[under]


def _planned(comparison: Comparison) -> set[str]:
    """The keys of all trials of the first round; of all cells where nothing is tuned."""
    out: set[str] = set()
    for each in comparison.entrants:
        if comparison.tuning is None:
            out |= {key_of(spec, each.model, rate) for spec, rate in each.cells}
        else:
            pairs = ((name, seed) for name in each.recipes for seed in comparison.tuning.seeds)
            out |= {key_of(each.trial(name, seed, CURVE), each.model, 0.0) for name, seed in pairs}
    return out


def _accepted(comparison: Comparison, task: str, found: Found) -> Accepted:
    entrants = tuple(each for each in comparison.entrants if each.task == task)
    choices: dict[str, Choice] = {}
    tried: list[Tried] = []
    if comparison.tuning is not None:
        judge = _Judge(comparison, comparison.tuning, found)
        choices = {each.model: judge.choose(each) for each in entrants}
        tried = judge.tried
    cells = {}
    for each in entrants:
        choice = choices.get(each.model)
        cells[each.model], broken = _cells(comparison, each, choice, found)
        if broken is not None and choice is not None:
            choices[each.model] = replace(choice, reason=broken)
    for each in entrants:
        if len({entry.model for entry in cells[each.model]}) > 1:
            raise _fault(comparison, f"the cells of {each.model} are of several models of that name")
    if len({entry.cell.content for all_cells in cells.values() for entry in all_cells}) > 1:
        raise _fault(comparison, f"its models do not learn the same examples of {task}")
    asked = {
        entry.path: frozenset(one.name for one in spec.diagnostics)
        for each in entrants
        for (spec, _), entry in zip(each.cells, cells[each.model], strict=False)  # no cells of one without a recipe
    }
    return Accepted(comparison, task, entrants, choices, tuple(tried), cells, asked)


class _Judge:
    """Makes both choices of a model; ``tried`` are the reports that they rest on."""

    def __init__(self, comparison: Comparison, tuning: Tuning, found: Found) -> None:
        self.comparison, self.tuning, self.found = comparison, tuning, found
        self.tried: list[Tried] = []

    def choose(self, entrant: Entrant) -> Choice:
        seeds = self.tuning.seeds
        first = {name: [self._learned(entrant, name, seed) for seed in seeds] for name in entrant.recipes}
        rows = first_choice(self.tuning, entrant.recipes, first)
        finalists = {row.configuration: row.settle for row in rows if row.finalist}
        second = {n: [self._memorised(entrant, n, seed, settle) for seed in seeds] for n, settle in finalists.items()}
        return second_choice(rows, second)

    def _learned(self, entrant: Entrant, configuration: str, seed: int) -> Learned:
        source = self._trial(entrant, configuration, seed, None)
        if isinstance(source, Diverged):
            return Learned(0, 0, None)
        assert source.trial is not None  # by which it was found
        if source.trial.learned is None:
            raise self._untold(source)
        return source.trial.learned

    def _memorised(self, entrant: Entrant, configuration: str, seed: int, settle: int | None) -> int | None:
        source = self._trial(entrant, configuration, seed, settle)
        if isinstance(source, Diverged):
            return None
        assert source.trial is not None
        if source.trial.climb is None:
            raise self._untold(source)
        return reached(source.trial.climb, self.tuning.memorised)

    def _untold(self, source: Source) -> UserError:
        return _fault(self.comparison, f"the trial {source.path} has no learning curve that tells what it came to")

    def _trial(self, entrant: Entrant, configuration: str, seed: int, settle: int | None) -> Source:
        rate = 0.0 if settle is None else self.tuning.noise_rate
        source = self.found.get(key_of(entrant.trial(configuration, seed, CURVE, settle), entrant.model, rate))
        if source is None:
            what = f"{entrant.model} on {entrant.task} by {configuration}, noise rate {rate:g}, seed {seed}"
            hint = "nothing is published before all that was tried can be seen"
            raise _fault(self.comparison, f"a trial is not among the reports that count: {what}", hint)
        self.tried.append(Tried(entrant.model, configuration, rate, Seeds.all(seed).label, source))
        return source


def _cells(
    comparison: Comparison, entrant: Entrant, choice: Choice | None, found: Found
) -> tuple[tuple[Entry, ...], str | None]:
    """All cells of a model, by the recipe that was chosen for it; or why it has none, where a training broke off."""
    if choice is None:
        specs = list(entrant.cells)
    elif choice.row is None:
        return (), None
    else:
        specs = _recipe(entrant, choice.row.configuration, choice.row.settle)
    sources = [found.get(key_of(spec, entrant.model, rate)) for spec, rate in specs]
    cells = tuple(source for source in sources if isinstance(source, Entry))
    if len(cells) == len(specs):
        return cells, None
    if choice is not None and None not in sources:
        spec, rate = next(each for each, one in zip(specs, sources, strict=True) if isinstance(one, Diverged))
        ended = f"{len(specs) - len(cells)} of its {len(specs)} trainings broke off, their loss not finite"
        return (), f"{ended}, first with seed {spec.seeds.label} at noise rate {rate:g}"
    missing = next((spec, rate) for (spec, rate), one in zip(specs, sources, strict=True) if not isinstance(one, Entry))
    if choice is not None and choice.row is not None:
        for row in choice.table:
            others = [] if row.settle is None or row.chosen else _recipe(entrant, row.configuration, row.settle)
            if any(key_of(spec, entrant.model, rate) in found for spec, rate in others):
                rule = f"its trials choose {choice.row.configuration}"
                what = f"{entrant.model} on {entrant.task} has cells by {row.configuration}, but {rule}"
                raise _fault(comparison, what)
    what = f"{entrant.model} on {entrant.task}, noise rate {missing[1]:g}, seed {missing[0].seeds.label}"
    by = (
        ""
        if choice is None or choice.row is None
        else f" by {choice.row.configuration}, settling at {choice.row.settle}"
    )
    count = f"{len(specs) - len(cells)} of {len(specs)} cells of {entrant.model}"
    raise _fault(comparison, f"{count} are not among the reports that count: {what}{by}")


def _recipe(entrant: Entrant, configuration: str, settle: int | None) -> list[tuple[TaskSpec, float]]:
    assert settle is not None  # of what was chosen, and of what could have been
    return [(entrant.chosen(spec, configuration, settle), rate) for spec, rate in entrant.cells]
