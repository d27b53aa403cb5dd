"""The phases of a comparison: trials in two rounds, a choice after each, and then the cells.

A phase is a plan of jobs like any other. Trials of the second round are planned as soon as those of the first are done
that their model needs; the cells when the recipe of every model is known and stands in the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..comparison import protocol
from ..comparison.choice import Choice, Learned, Row, first_choice, second_choice
from ..comparison.rules import Entrant, Tuning
from ..comparison.trials import learned, memorised_at
from ..errors import UserError, clipped
from ..pipeline.cell import folder_name
from ..report.write import FILE
from .board import State
from .cells import Job, paired
from .comparing import Place, Planned
from .finished import report_of

if TYPE_CHECKING:
    from ..plugins import Registry

FOLDER = "tuning"  # of the trials, below that of the cells
PHASES = ("first round", "second round", "cells")
BEGUN = (FILE, "dynamics.jsonl")  # what tells that a cell was begun


class Phases:
    """Plans the jobs of a comparison as far as what is done allows.

    Args:
        output: folder of all cells.

    Attributes:
        choices: of the entrants whose second round is done.
        planned_all: whether the cells are planned.
        complete: whether the protocol stands too.

    Raises:
        UserError: when the protocol there has other rules, and cells that were run by them.
    """

    def __init__(self, planned: Planned, output: Path, registry: Registry) -> None:
        self.comparison = planned.comparison
        self.planned = planned
        self.entrants = {(each.task, each.model): each for each in planned.comparison.entrants}
        self.output = output
        self.registry = registry
        self.file = protocol.file_of(output, self.comparison.name)
        self.rounds: tuple[dict[Place, dict[str, list[Job]]], dict[Place, dict[str, list[Job]]]] = ({}, {})
        self.rows: dict[Place, tuple[Row, ...]] = {}
        self.choices: dict[Place, Choice] = {}
        self.planned_all = self.complete = False
        self.known = self._known()

    def _known(self) -> Mapping[str, Any] | None:
        """The protocol that holds as cells have been begun by it."""
        if not self.file.exists():
            return None
        found = protocol.read(self.file)
        entrants = {(each.task, each.model) for each in self.comparison.entrants}
        entrants |= {(each["task"], each["model"]) for each in found["choices"]}
        folders = [self.output / task / folder_name(model) for task, model in sorted(entrants)]
        begun = next((file for each in folders for name in BEGUN for file in sorted(each.glob(f"*/*/{name}"))), None)
        if begun is None:
            return None
        if found["rules"] != self.comparison.rules():
            raise UserError(
                "has other rules than the sweep file has now, and cells have been run by them, such as"
                f" {clipped(str(begun.parent.relative_to(self.output)), 200)}",
                where=str(self.file),
                hint="rules do not change once cells are run: give the sweep another name and output folder",
            )
        return found

    def first(self) -> list[Job]:
        """The trials of the first round; those of all models with one seed come before any with the next."""
        tuning = self.comparison.tuning
        if tuning is None:
            return []
        for key, each in self.entrants.items():
            self.rounds[0][key] = {
                name: [self._trial(each, name, seed, 1) for seed in tuning.seeds] for name in tuning.configurations
            }
        return _by_seed(self.rounds[0])

    def __call__(self, states: Sequence[State]) -> list[Job]:
        """Jobs that can be planned by now and were not before; the protocol stands when there are cells among them.

        Raises:
            UserError: when the choices differ from those by which cells have been run.
        """
        new, before = self.peek(states), self.complete
        self.complete = self.decided
        if self.complete and not before:
            protocol.write(self.file, self._protocol())
        return new

    @property
    def decided(self) -> bool:
        """Whether every entrant has its recipe, or the reason why it has none."""
        return self.comparison.tuning is None or len(self.choices) == len(self.comparison.entrants)

    def peek(self, states: Sequence[State]) -> list[Job]:
        """The same, with nothing written."""
        if self.planned_all:
            return []
        tuning = self.comparison.tuning
        if tuning is None:
            return self._cells()
        ended = {state.job.folder: state.state for state in states}
        new: list[Job] = []
        for key, each in self.entrants.items():
            if key not in self.rows and _done(self.rounds[0][key], ended):
                new += self._second(each, tuning)
            if key in self.rows and key not in self.choices and _done(self.rounds[1][key], ended):
                self.choices[key] = second_choice(self.rows[key], self._memorised(key, tuning))
        return [*new, *self._cells()] if self.decided else new

    def _second(self, entrant: Entrant, tuning: Tuning) -> list[Job]:
        """The trials of an entrant's second round, once its first is done."""
        key = (entrant.task, entrant.model)
        trials: dict[str, list[Learned]] = {
            name: [_told(learned, job) for job in jobs] for name, jobs in self.rounds[0][key].items()
        }
        self.rows[key] = first_choice(tuning, entrant.recipes, trials)
        self.rounds[1][key] = {
            row.configuration: [self._trial(entrant, row.configuration, seed, 2, row.settle) for seed in tuning.seeds]
            for row in self.rows[key]
            if row.finalist
        }
        return _by_seed({key: self.rounds[1][key]})

    def _memorised(self, key: Place, tuning: Tuning) -> dict[str, list[int | None]]:
        def reached(report: Any) -> int | None:
            return memorised_at(report, tuning.memorised)

        return {name: [_told(reached, job) for job in jobs] for name, jobs in self.rounds[1][key].items()}

    def _trial(self, entrant: Entrant, configuration: str, seed: int, number: int, settle: int | None = None) -> Job:
        job, tuning = self.planned.models[entrant.task, entrant.model], self.comparison.tuning
        assert tuning is not None
        below = f"{FOLDER}/{configuration}"
        settings = replace(job.settings, output_path=self.output / below, rediagnose=False)
        spec = entrant.trial(configuration, seed, self.planned.curves, settle)
        rate = tuning.noise_rate if number == 2 else 0.0
        return replace(job, spec=spec, rate=rate, settings=settings, twin=None, round=number, below=below)

    def _cells(self) -> list[Job]:
        """The cells of all entrants that have a recipe."""
        changed = None if self.known is None else _changed(self.known["choices"], self._protocol()["choices"])
        if changed:
            raise UserError(
                f"has other choices than the trials here come to: {changed}",
                where=str(self.file),
                hint="cells have been run by them: restore the trials, or give the sweep another output folder",
            )
        self.planned_all = True
        return paired(self._with_recipes(), self.registry)

    def _protocol(self) -> dict[str, Any]:
        chosen = [(each, self.choices[key]) for key, each in self.entrants.items() if key in self.choices]
        return protocol.content(self.comparison, chosen)

    def _with_recipes(self) -> list[Job]:
        """The cells, as they are trained; none of entrants that have no recipe."""
        if self.comparison.tuning is None:
            return list(self.planned.cells)
        rows = {key: choice.row for key, choice in self.choices.items()}
        found = ((job, rows[job.task, job.model]) for job in self.planned.cells)
        return [
            self._settling(job, row.configuration, row.settle) for job, row in found if row and row.settle is not None
        ]

    def _settling(self, job: Job, configuration: str, settle: int) -> Job:
        entrant = self.entrants[job.task, job.model]
        return replace(job, spec=entrant.chosen(job.spec, configuration, settle), twin=None)

    def totals(self) -> dict[str, int]:
        """Phase -> its jobs, at most where they are not planned yet."""
        tuning = self.comparison.tuning
        if tuning is None:
            return {"cells": len(self.planned.cells)}
        most = len(tuning.seeds) * min(tuning.finalists, len(tuning.configurations))
        second = 0
        for key in self.entrants:
            trials = self.rounds[1].get(key)
            second += most if trials is None else sum(map(len, trials.values()))
        without = {key for key, choice in self.choices.items() if choice.row is None}
        cells = sum((job.task, job.model) not in without for job in self.planned.cells)
        first = len(self.comparison.entrants) * len(tuning.seeds) * len(tuning.configurations)
        return dict(zip(PHASES, (first, second, cells), strict=True))

    def later(self) -> list[Job]:
        """Jobs as those that are not planned yet may be: with the first configurations, at the full rate throughout."""
        tuning = self.comparison.tuning
        if tuning is None or self.planned_all:
            return []
        names = list(tuning.configurations)
        new = [
            self._trial(each, name, seed, 2, _latest(each, name))
            for key, each in self.entrants.items()
            if key not in self.rows
            for name in names[: tuning.finalists]
            for seed in tuning.seeds
        ]
        for job in self.planned.cells:
            key = (job.task, job.model)
            row = self.choices[key].row if key in self.choices else None
            if row is not None and row.settle is not None:
                new.append(self._settling(job, row.configuration, row.settle))
            elif key not in self.choices:
                new.append(self._settling(job, names[0], _latest(self.entrants[key], names[0])))
        return new


def _latest(entrant: Entrant, configuration: str) -> int:
    recipe = entrant.recipes[configuration]
    return recipe.max_steps - recipe.schedule.anneal


def _by_seed(trials: Mapping[Place, Mapping[str, Sequence[Job]]]) -> list[Job]:
    columns = [jobs for each in trials.values() for jobs in each.values()]
    return [job for row in zip(*columns, strict=True) for job in row]


def _done(trials: Mapping[str, Sequence[Job]], ended: Mapping[Path, str]) -> bool:
    return all(ended.get(job.folder) == "done" for jobs in trials.values() for job in jobs)


def _told(read: Any, job: Job) -> Any:
    """What a trial's report says."""
    report = report_of(job)
    try:
        if report is None:
            raise UserError("its report is gone")
        return read(report)
    except UserError as error:
        hint = "remove the folder, and the trial is run again"
        raise UserError(error.what, where=str(job.folder), hint=hint) from None


def _changed(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> str | None:
    """The first choice that is another one, in words; None where all are the same."""

    def said(choice: Mapping[str, Any] | None) -> str:
        return (
            f"{choice['configuration']} from step {choice['settle']}" if choice and choice["configuration"] else "none"
        )

    was = {(each["task"], each["model"]): each for each in before}
    apart = ((each, was.get((each["task"], each["model"]))) for each in after)
    found = (f"{a['model']} at {a['task']} has {said(a)} and not {said(b)}" for a, b in apart if a != b)
    return next(found, None)
