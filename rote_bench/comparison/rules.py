"""What a comparison holds fixed before any of its cells is run: who is compared, how each is tuned, what is tested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..errors import UserError
from ..hashing import canonical, digest
from ..spec.model import DiagnosticSpec, Recipe, Seeds, TaskSpec

CURVES = "learning_dynamics"  # the diagnostic whose curve a trial is judged by
SAID = ("title", "description", "citation")  # of a task, for people


@dataclass(frozen=True)
class Tuning:
    """How the recipe of each model is found.

    Attributes:
        configurations: name -> overrides of the task, in the order that decides between equals.
        seeds: of the trials, and of nothing else.
        noise_rate: of the trials of the second round.
        finalists: how many configurations reach the second round at most.
        memorised: the part of the wrong labels that a model must have memorised.
        margin: how many times as many steps as its slowest trial took to learn a configuration holds the full rate.
    """

    configurations: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...]
    noise_rate: float
    finalists: int = field(default=2, metadata={"min": 1})
    memorised: float = field(default=0.98, metadata={"above": 0, "max": 1})
    margin: float = field(default=1.25, metadata={"min": 1})


@dataclass(frozen=True)
class Contrast:
    """A difference that is tested whatever comes out: of two models, or of one at two noise rates or at two tasks.

    Attributes:
        tasks: names, with their profiles, for the first side and for the second; as are the other pairs.
        metric: of the first side minus that of the second.
        sd: of a seed's value, as it is expected.
    """

    name: str
    tasks: tuple[str, str]
    models: tuple[str, str]
    metric: str
    noise_rates: tuple[float, float]
    sd: float

    def sides(self) -> tuple[tuple[str, str, float], tuple[str, str, float]]:
        """Task, model and noise rate of the first side, and of the second."""
        first, second = zip(self.tasks, self.models, self.noise_rates, strict=True)
        return first, second

    def called(self) -> tuple[str, str]:
        """What people call both sides: by the models, unless it is one model."""
        if self.models[0] != self.models[1]:
            return self.models
        if self.noise_rates[0] != self.noise_rates[1]:
            first, second = (f"{model} at noise {rate:g}" for _, model, rate in self.sides())
        else:
            first, second = (f"{model} at {task}" for task, model, _ in self.sides())
        return first, second

    def stated(self) -> dict[str, Any]:
        """As a sweep file has it: what both sides share stands there once."""
        pairs = {"task": self.tasks, "model": self.models, "noise_rate": self.noise_rates}
        both = {key: pair[0] if pair[0] == pair[1] else None for key, pair in pairs.items()}
        given = {key: both[key] for key in both if both[key] is not None}
        given |= {f"{key}s": pair for key, pair in pairs.items() if both[key] is None}
        return {"name": self.name, "metric": self.metric, "sd": self.sd, **given}


@dataclass(frozen=True)
class Entrant:
    """A model at a task.

    Attributes:
        task: the name with the profile, as folders have it.
        model: its name.
        spec: the task as trials have it, but for what ``trial`` sets.
        recipes: configuration -> how trials of it are trained, but for ``settle``; empty where nothing is tuned.
        cells: task with its seeds, and noise rate, of each cell; without the choice.
    """

    task: str
    model: str
    spec: TaskSpec
    recipes: Mapping[str, Recipe]
    cells: tuple[tuple[TaskSpec, float], ...]

    def trial(self, configuration: str, seed: int, curves: DiagnosticSpec, settle: int | None = None) -> TaskSpec:
        """The task of a trial.

        Args:
            curves: the diagnostic that keeps the learning curve.
            settle: the step from which the rate falls, in the second round; None waits for the event.
        """
        training = _settling(self.recipes[configuration], "event" if settle is None else settle)
        return self.spec.replace(training=training, diagnostics=(curves,), seeds=Seeds.all(seed))

    def chosen(self, spec: TaskSpec, configuration: str, settle: int) -> TaskSpec:
        """The task of one of ``cells`` with the recipe that was chosen."""
        return spec.replace(training=_settling(self.recipes[configuration], settle))


def _settling(recipe: Recipe, settle: Any) -> Recipe:
    return replace(recipe, schedule=replace(recipe.schedule, settle=settle))


@dataclass(frozen=True)
class Comparison:
    """A sweep file with a tuning or with contrasts, planned.

    Attributes:
        tuning: None where each task's own recipe is every model's.
        dtype: of the weights of all trials and cells.
    """

    name: str
    title: str
    entrants: tuple[Entrant, ...]
    tuning: Tuning | None
    contrasts: tuple[Contrast, ...]
    dtype: str = "float32"

    def rules(self) -> str:
        """SHA-256 of everything that decides numbers: no titles, no order of keys, of models or of seeds.

        The order of configurations counts, as it decides between equals.
        """
        tuning = None if self.tuning is None else {**asdict(self.tuning), "seeds": sorted(self.tuning.seeds)}
        if tuning is not None:
            tuning["configurations"] = list(tuning["configurations"].items())
        return digest(
            {
                "entrants": sorted(map(_entrant, self.entrants), key=canonical),
                "tuning": tuning,
                "contrasts": sorted((each.stated() for each in self.contrasts), key=canonical),
                "dtype": self.dtype,
            }
        )

    def seeds(self, contrast: Contrast) -> tuple[int, int]:
        """How many seeds each side of a contrast has."""
        counts = Counter((each.task, each.model, rate) for each in self.entrants for _, rate in each.cells)
        first, second = contrast.sides()
        return counts[first], counts[second]


def _entrant(each: Entrant) -> dict[str, Any]:
    kinds: list[tuple[TaskSpec, list[Any]]] = []
    for spec, rate in each.cells:
        same = (found for kind, found in kinds if kind == spec.replace(seeds=kind.seeds))
        cells = next(same, None)
        if cells is None:
            kinds.append((spec, cells := []))
        cells.append([rate, asdict(spec.seeds)])
    tuned = _content(each.spec)
    return {
        "task": each.task,
        "model": each.model,
        "tuned": {key: tuned[key] for key in tuned if key not in ("diagnostics", "training")},
        "recipes": {name: asdict(recipe) for name, recipe in each.recipes.items()},
        "cells": sorted(
            ({**_content(kind), "cells": sorted(cells, key=canonical)} for kind, cells in kinds), key=canonical
        ),
    }


def _content(spec: TaskSpec) -> dict[str, Any]:
    """A resolved task without what is for people, and without the seeds and rates that it has by itself."""
    content = {key: value for key, value in spec.resolved().items() if key not in (*SAID, "seeds")}
    content["noise"] = {key: value for key, value in content["noise"].items() if key != "rates"}
    return content


def check_contrasts(comparison: Comparison, places: Mapping[str, str]) -> list[UserError]:
    """Why planned contrasts cannot come out significant; nothing when all can.

    Args:
        places: name of each contrast -> where it stands.
    """
    from ..contrasts import check_contrasts as check

    planned = {each.name: comparison.seeds(each) for each in comparison.contrasts}
    try:
        check(planned)
    except UserError as error:
        name = (error.where or "").removeprefix("contrast ")
        return [UserError(error.what, where=places.get(name, next(iter(places.values()), None)), hint=error.hint)]
    return []


def visible(comparison: Comparison) -> dict[str, float | None]:
    """Contrast -> the difference that it sees in 80 of 100 repetitions."""
    from ..contrasts import power

    planned = len(comparison.contrasts)
    return {each.name: power(each.sd, *comparison.seeds(each), planned) for each in comparison.contrasts}
