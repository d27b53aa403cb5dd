"""From the ``tuning`` and ``contrasts`` of a sweep file to a planned comparison, or to every fault at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..comparison.rules import CURVES, Comparison, Entrant, Tuning, check_contrasts
from ..errors import Faults, UserError, clipped
from ..paths import of_user
from ..pipeline.identity import differing
from ..spec.loader import line, located, retrained
from ..spec.model import DiagnosticSpec, Recipe
from ..spec.options import Fault
from ..spec.source import Source
from ..splits import rates_of
from .cells import Job, plan
from .contrasts import contrasts, sees
from .definition import Definition, load

if TYPE_CHECKING:
    from ..plugins import Registry
    from ..spec.model import TaskSpec

Place = tuple[str, str]  # task, with its profile, and model


@dataclass(frozen=True)
class Planned:
    """A comparison with the jobs of which it is made.

    Attributes:
        cells: of all entrants, without the choice.
        models: of each entrant one cell of the sweep that tunes it, whose settings its trials have.
        curves: the diagnostic of trials.
    """

    comparison: Comparison
    cells: tuple[Job, ...]
    models: Mapping[Place, Job]
    curves: DiagnosticSpec


def compare(definition: Definition, cells: Sequence[Job], registry: Registry) -> Planned | None:
    """The comparison that a sweep file asks for; None where it has neither tuning nor contrasts.

    Args:
        cells: of the sweep, as planned without any choice.

    Raises:
        Faults: everything that is wrong with it.
    """
    data = definition.source.data
    if "tuning" not in data and "contrasts" not in data:
        return None
    faults: dict[str, UserError] = {}
    tuned = definition, list(cells)
    if isinstance(data.get("tuning"), str):
        tuned = _elsewhere(definition, registry, cells)
    firsts = _firsts(cells)
    models = _firsts(tuned[1])
    tuning = _tuning(tuned[0], tuned[1], cells, definition, faults) if "tuning" in data else None
    at = definition.source.where(("tuning",) if tuning else ("contrasts",))
    unfit = (
        *_by_processor(firsts, at),
        *_one_recipe(cells, at),
        *_same_examples(firsts, at),
        *_foreign(firsts, models, at),
    )
    for fault in unfit:
        faults.setdefault(str(fault), fault)
    recipes = {key: _recipes(tuned[0], models[key], faults) if tuning else {} for key in firsts if key in models}
    if tuning:
        for key in recipes:
            _rated(models[key], tuning.noise_rate, registry, at, faults)
    parts: dict[Place, list[tuple[TaskSpec, float]]] = {}
    for job in cells:
        parts.setdefault((job.task, job.model), []).append((job.spec, job.rate))
    entrants = tuple(Entrant(*key, models[key].spec, own, tuple(parts[key])) for key, own in recipes.items())
    planned, places = contrasts(definition, entrants, registry, faults)
    comparison = Comparison(definition.name, definition.title, entrants, tuning, planned, definition.run.dtype)
    if not faults:
        faults |= {str(fault): fault for fault in check_contrasts(comparison, places)}
    if faults:
        raise Faults(sorted(faults.values(), key=line))
    options = registry.table("diagnostics")[CURVES].Options()
    wanted = {key: models[key] for key in recipes}
    return Planned(comparison, tuple(cells), wanted, DiagnosticSpec(CURVES, asdict(options)))


def _firsts(cells: Sequence[Job]) -> dict[Place, Job]:
    """The first cell of every task and model."""
    found: dict[Place, Job] = {}
    for job in cells:
        found.setdefault((job.task, job.model), job)
    return found


def _elsewhere(definition: Definition, registry: Registry, cells: Sequence[Job]) -> tuple[Definition, list[Job]]:
    """The sweep file whose tuning holds here too, with its cells."""
    named, place = definition.source.data["tuning"], definition.source.where(("tuning",))
    path = definition.file.parent / of_user(named)
    try:
        other = load(path)
        if not isinstance(other.source.data.get("tuning"), Mapping):
            raise UserError(
                f"{clipped(named)} has no tuning of its own", where=place, hint="name the file that has one"
            )
        first = cells[0]
        # as that file's own sweep makes them: its run options, in this folder
        return other, plan(other, registry, output=first.settings.output_path, plugins=first.plugins)
    except Faults as error:
        raise Faults([UserError(f"{clipped(named)} is not valid", where=place), *error.faults]) from None
    except UserError as error:
        if error.where == place:
            raise
        raise UserError(f"{clipped(named)}: {error.what}", where=place, hint=error.hint) from None


def _tuning(
    definition: Definition,
    own: Sequence[Job],
    cells: Sequence[Job],
    sweep: Definition,
    faults: dict[str, UserError],
) -> Tuning:
    """The tuning of a file.

    Args:
        own: the file's cells.
        cells: of the sweep, which may be another.
    """
    given = definition.source.data["tuning"]
    wrong: list[Fault] = []
    for name, over in given["configurations"].items():
        schedule = over["training"].get("schedule")
        if isinstance(schedule, Mapping) and "settle" in schedule:
            at = ("tuning", "configurations", name, "training", "schedule", "settle")
            wrong.append(Fault(at, "is what the tuning finds", "take the line out"))
    rates = sorted({job.rate for job in own if job.rate})
    if not rates and "noise_rate" not in given:
        hint = "give noise_rates one above 0, or tuning.noise_rate"
        wrong.append(Fault(("tuning",), "its second round needs wrong labels, and no cell has any", hint))
    for fault in located(definition.source, wrong):
        faults.setdefault(str(fault), fault)
    taken = {seed for job in cells for seed in astuple(job.spec.seeds)} & set(given["seeds"])
    if taken:
        named = ", ".join(map(str, sorted(taken)[:5]))
        fault = UserError(
            f"the seeds {named} are of the tuning and of cells, and what is chosen by a seed says nothing by it",
            where=sweep.source.where(("tuning", "seeds")),
            hint="give the trials other seeds",
        )
        faults.setdefault(str(fault), fault)
    options = {key: given[key] for key in ("finalists", "memorised", "margin") if key in given}
    rate = given.get("noise_rate", rates[0] if rates else 0.05)
    return Tuning(given["configurations"], tuple(given["seeds"]), rate, **options)


def _recipes(definition: Definition, job: Job, faults: dict[str, UserError]) -> dict[str, Recipe]:
    """Configuration -> how trials of a model are trained, but for when the rate falls."""
    found = {}
    for name, over in definition.source.data["tuning"]["configurations"].items():
        path = ("tuning", "configurations", name)
        places = {p[len(path) :]: where for p, where in definition.source.places.items() if p[: len(path)] == path}
        try:
            # an event fits any budget, so that a step of the task's own cannot be wrong here
            schedule = replace(job.spec.training.schedule, settle="event")
            spec = job.spec.replace(training=replace(job.spec.training, schedule=schedule))
            found[name] = retrained(spec, Source(dict(over), places)).training
        except Faults as error:
            for fault in error.faults:
                faults.setdefault(str(fault), fault)
    return found


def _by_processor(firsts: Mapping[Place, Job], at: str) -> list[UserError]:
    """Tasks whose cells would be trained by another arithmetic on another processor."""
    tasks = dict.fromkeys(task for (task, _), job in firsts.items() if job.spec.training.precision == "auto")
    what, hint = "training.precision is auto, which differs between processors", "name float32 or bfloat16 in overrides"
    return [UserError(f"{task}: {what}", where=at, hint=hint) for task in tasks]


def _one_recipe(cells: Sequence[Job], at: str) -> list[UserError]:
    """Entrants whose cells differ in more than rates, seeds and diagnostics: a tuning finds one recipe."""
    found: dict[Place, UserError] = {}
    firsts = _firsts(cells)
    for job in cells:
        key = (job.task, job.model)
        apart = _apart(job, firsts[key])
        if apart:
            what = f"cells of {job.model} at {job.task} differ in {', '.join(apart[:3])}, and are to have one recipe"
            found.setdefault(key, UserError(what, where=at, hint="give one of the tasks another profile or name"))
    return list(found.values())


def _same_examples(firsts: Mapping[Place, Job], at: str) -> list[UserError]:
    """Tasks whose examples are not the same for all models."""
    found, contents = [], dict[str, tuple[str, str]]()
    for (task, model), job in firsts.items():
        content, first = contents.setdefault(task, (job.spec.content_hash(), model))
        if job.spec.content_hash() != content:
            what = f"{model} and {first} are not given the same examples of {task}"
            found.append(UserError(what, where=at, hint="let a model's overrides change `model` and `training` alone"))
    return found


def _foreign(firsts: Mapping[Place, Job], models: Mapping[Place, Job], at: str) -> list[UserError]:
    """What a tuning, where it is of another file, does not hold for."""
    found = []
    for (task, model), job in firsts.items():
        tuned = models.get((task, model))
        if tuned is None:
            found.append(UserError(f"tunes no {model} at {task}", where=at, hint="tune it there, or leave it out here"))
            continue
        apart = [name for name in _apart(job, tuned) if name.startswith("training")]
        if apart:
            found.append(UserError(f"tunes {model} at {task} with another {', '.join(apart[:3])}", where=at))
    return found


def _apart(job: Job, other: Job) -> list[str]:
    """In what two cells differ beside rates, seeds and diagnostics."""
    if job.spec.replace(seeds=other.spec.seeds, diagnostics=other.spec.diagnostics) == other.spec:
        return []

    def recipe(spec: TaskSpec) -> dict[str, Any]:
        return {"examples": spec.content_hash(), "model": dict(spec.model), "training": asdict(spec.training)}

    return differing(recipe(job.spec), recipe(other.spec))


def _rated(job: Job, rate: float, registry: Registry, at: str, faults: dict[str, UserError]) -> None:
    """Whether a task can be made with the noise rate of the second round."""
    try:
        rates_of(job.spec, registry, (rate,), limit=job.settings.limit)
    except UserError as error:
        fault = UserError(error.what, where=at, hint=error.hint)
        faults.setdefault(str(fault), fault)


def comparison_of(path: Path, registry: Registry) -> Comparison:
    """The comparison that a sweep file plans, without anything to run it with.

    Raises:
        UserError: when the file is none, or plans none.
        Faults: everything that is wrong with it.
    """
    definition = load(path)
    planned = compare(definition, plan(definition, registry, output=Path("runs")), registry)
    if planned is None:
        hint = "a comparison has a `tuning`, `contrasts`, or both"
        raise UserError("plans no comparison", where=str(path), hint=hint)
    return planned.comparison


def validate_file(path: Path, registry: Registry) -> tuple[list[UserError], list[str]]:
    """Every fault of a sweep file and of all that it names, and what is to be known of one that has none."""
    try:
        definition = load(path)
        planned = compare(definition, plan(definition, registry, output=Path("runs")), registry)
    except Faults as error:
        return list(error.faults), []
    except UserError as error:
        return [error], []
    return [], [] if planned is None else [f"{path}: {text}" for text in sees(planned.comparison)]
