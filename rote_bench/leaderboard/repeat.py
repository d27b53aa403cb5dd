"""The cell trained and diagnosed again, and a report judged by what came out: by the judge's figures, never its own.

A claim holds where it lies in the interval of the repeated run. How strictly it is judged is the judge's to say: where
machine and versions are the same, as the report has it, numbers must be equal; a report that names another machine is
judged by the intervals of the repeated run, so that it gains no more than their width. An interval that would hold
almost anything says so instead of confirming.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ..errors import UserError
from ..measures import Measure
from ..pipeline.identity import differing
from ..pipeline.settings import Settings
from ..report.conditions import at
from ..report.record import Metric, Report
from ..report.schema import write
from . import intervals, regenerate
from .implied import EXACT, ROUNDING, close, shown
from .outcome import CONFIRMED, DIFFERS, TRUST, UNKNOWN, WIDE, Outcome

if TYPE_CHECKING:
    from ..plugins import Registry
    from ..spec.model import TaskSpec

# Trains and diagnoses a cell: the task, the model's name, the noise rate, and the options of the run.
Rerun: TypeAlias = "Callable[[TaskSpec, str, float, Settings], Report]"
MACHINE = (
    *("torch", "transformers", "platform", "cpu", "device", "threads", "dtype", "precision", "deterministic"),
    *("compiled", "processes"),
)
# Parts of an identity that say on what it was made, and how the schedule was timed, which a repeated run takes over.
ELSEWHERE = ("precision", "device", "way", "schedule", "versions")
VERSIONS = (".version", "task.noise")  # of what makes examples and of diagnostics
BROUGHT = ("object", "plugin")  # sources of models whose code a user brings
SHOWN = 3  # names in a list


def again(report: Report, registry: Registry, rerun: Rerun, task: str | Path | None = None) -> Iterator[Outcome]:
    """Every claim of a report against those of its cell repeated, with the reader's own task file if given."""
    why = _not_here(report, registry)
    if why is not None:
        yield Outcome("rerun", UNKNOWN, note=why)
        return
    try:
        repeated = _repeated(report, registry, rerun, task)
    except (UserError, MemoryError, FloatingPointError) as error:
        yield Outcome("rerun", UNKNOWN, note=f"it cannot be repeated here: {str(error) or type(error).__name__}")
        return
    if repeated.status != "success":
        yield Outcome("rerun", DIFFERS, note=f"the repeated run did not succeed: {repeated.error}")
        return
    theirs, mine = report.model.builder, repeated.model.builder
    if theirs != mine:
        note = "the code that makes the model is another than the report's: what follows compares two models"
        yield Outcome("rerun: builder", DIFFERS, str(theirs)[:12], str(mine)[:12], note)
    changed = _elsewhere(report, repeated)
    if changed == ["precision"]:  # which machine, versions and recipe decide
        mine, theirs = repeated.environment.precision, report.environment.precision
        yield Outcome("rerun: precision", DIFFERS, theirs, mine, "machine and versions are the same")
    note = f"by the repeated run's interval: {', '.join(changed)} differs" if changed else "must be equal: same machine"
    yield from _parts(report, repeated, exact=not changed)
    table, measured_by, measures = registry.table("diagnostics"), report.measured_by(), registry.measures()
    for name, claimed in report.metrics.items():
        new = repeated.metrics.get(name)
        if new is not None:
            yield judged(f"rerun: {name}", claimed, new, measures.get(name), note, exact=not changed)
        elif getattr(table.get(measured_by.get(name, "")), "compares_twin", False):
            why = "it compares with the twin, which is not trained again"
            yield Outcome(f"rerun: {name}", UNKNOWN, shown(claimed), note=why)
        else:
            yield Outcome(f"rerun: {name}", DIFFERS, shown(claimed), note="the repeated run has no such metric")


def _not_here(report: Report, registry: Registry) -> str | None:
    """Why a run cannot be repeated from its report; None when it can."""
    if report.identity.parts.get("snapshots"):
        return "the run used snapshots from folders that are not here"
    if report.environment.remote_code or report.model.remote_code:
        return "code that comes with the weights is not run here"
    name = report.model.name
    if report.model.source in BROUGHT and not any(p.matches(name) for p in registry.table("models").values()):
        return f"the code that makes {name} does not come with a report: --plugin names it"
    if name.startswith("hf:"):
        place = name[3:].partition("@")[0]
        # The hub knows OWNER/NAME and NAME; whatever else, or lies here, is a folder of the reader's.
        if place.count("/") > 1 or place.startswith((".", "/", "~")) or "\\" in place or Path(place).exists():
            return "its weights stand in a folder that does not come with a report"
    return None


def _repeated(report: Report, registry: Registry, rerun: Rerun, task: str | Path | None) -> Report:
    """The same cell once more.

    Raises:
        UserError: when it cannot be run here.
    """
    environment = report.environment
    spec = regenerate.spec_of(report, registry, task)
    step = report.training.schedule.step
    if step is not None:  # its twin's, which is not trained again
        schedule = replace(spec.training.schedule, settle=step)
        spec = spec.replace(training=replace(spec.training, schedule=schedule))
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.picked(
            {
                "output_path": Path(folder),
                "dtype": environment.dtype,
                "batch_size": environment.batch_size,
                "limit": report.data.limit,
                "train": report.identity.parts.get("training") is not None,
                "threads": min(environment.threads, os.cpu_count() or 1),
                "compile": environment.compiled,
                "stacked": report.training.way == "stacked",
            }
        )
        return rerun(spec, report.model.name, report.data.noise_rate, settings)


def _elsewhere(report: Report, repeated: Report) -> list[str]:
    """What of machine, versions and way of training is not that of the repeated run; empty where numbers must be
    equal."""
    mine, theirs = repeated.environment, report.environment
    changed = [key for key in MACHINE if getattr(theirs, key) != getattr(mine, key)]
    if report.training.way != repeated.training.way:
        changed.append("way of training")
    elif (report.training.stacked or 1) > 1:  # repeated in a stack of its own, where sums are rounded otherwise
        changed.append(f"size of the stack (1 instead of {report.training.stacked})")
    if not mine.deterministic:
        changed.append("order of operations")
    return changed


def _parts(report: Report, repeated: Report, *, exact: bool) -> Iterator[Outcome]:
    """What is no metric: examples, model, recipe and arithmetic, which are equal wherever a cell is repeated; and its
    course, which is equal on the same machine."""
    claimed, found = report.identity.parts, repeated.identity.parts
    paths = [path for path in differing(claimed, found) if path.partition(".")[0] not in ELSEWHERE]
    if report.training.schedule.step is not None:  # given to the repeated run in place of the event
        paths = [path for path in paths if path != "training.schedule.settle"]
    rooms = differing(_under(claimed, "versions"), _under(found, "versions"))
    versions = [*rooms, *(path for path in paths if path.endswith(VERSIONS))]
    if versions:
        note = f"made by other versions of {', '.join(versions[:SHOWN])} than are here"
        yield Outcome("rerun: versions", UNKNOWN, note=note)
    yield _equal("identity", [path for path in paths if not path.endswith(VERSIONS)])
    yield _equal("data", differing(_plain(report.data), _plain(repeated.data)))
    from ..models.signature import alike

    model, again = _plain(report.model), _plain(repeated.model)
    for one in (model, again):  # what was proved holds anywhere; in which digits it was seen does not
        one["anatomy"] = {name: at(proof, "ok") for name, proof in _under(one, "anatomy").items()}
        one.pop("signature")
    same_library = report.environment.transformers == repeated.environment.transformers
    wrong = [path for path in differing(model, again) if same_library or not path.startswith("config.")]
    same = alike(report.model.signature, repeated.model.signature, dtype=report.environment.dtype)
    yield _equal("model", wrong if same else [*wrong, "signature"])
    training, anew = _plain(report.training), _plain(repeated.training)
    for one in (training, anew):
        one.pop("schedule")  # the repeated run was given the step of the twin
        one.pop("stacked")
        one.pop("way")
    keys = ("optimizer", "effective_batch_size", "snapshot_rule")
    yield _equal("recipe", [key for key in keys if training.get(key) != anew.get(key)])
    course = [key for key in training if key not in keys and not _alike(training[key], anew.get(key))]
    course += [] if _alike(_curve(report), _curve(repeated)) else ["curve"]
    if exact or not course:
        yield _equal("course of training", course)
    else:
        note = f"{', '.join(course)} differs, as it may where sums are rounded otherwise"
        yield Outcome("rerun: course of training", TRUST, note=note)
    if exact:
        pairs = [(name, report.diagnostics.get(name), entry) for name, entry in repeated.diagnostics.items()]
        wrong = [name for name, one, new in pairs if one is None or not _alike(one.details, new.details)]
        wrong += [name for name in report.diagnostics if name not in repeated.diagnostics]
        yield _equal("details of diagnostics", wrong)
    statuses = {name: entry.status for name, entry in report.diagnostics.items()}
    yield _equal("diagnostics", differing(statuses, {name: e.status for name, e in repeated.diagnostics.items()}))


def _under(value: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}


def _plain(value: object) -> dict[str, object]:
    """A part of a report as JSON has it, without the places where its library and its folder stand."""
    found: dict[str, object] = write(value)
    config = found.get("config")
    if isinstance(config, dict):
        found["config"] = {k: v for k, v in config.items() if k not in ("transformers_version", "_name_or_path")}
    return found


def _curve(report: Report) -> object:
    """The learning curve in the details, without its clock; None where no diagnostic keeps one."""
    curves = (at(entry.details, "curve") for entry in report.diagnostics.values())
    curve = next((one for one in curves if isinstance(one, list)), None)
    if curve is None:
        return None
    return [{k: v for k, v in point.items() if k != "seconds"} if isinstance(point, dict) else point for point in curve]


def _equal(what: str, wrong: list[str]) -> Outcome:
    if not wrong:
        return Outcome(f"rerun: {what}", CONFIRMED, note="as in the repeated run")
    more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    return Outcome(f"rerun: {what}", DIFFERS, note=f"not that of the repeated run: {', '.join(wrong[:SHOWN])}{more}")


def _alike(a: object, b: object) -> bool:
    """Whether two plain values are equal but for rounding, and but for what a clock says."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(key == "seconds" or _alike(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_alike(x, y) for x, y in zip(a, b, strict=True))
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (a, b))
    return close(a, b, ROUNDING) if numbers else a == b  # type: ignore[arg-type]


def judged(claim: str, claimed: Metric, new: Metric, measure: Measure | None, note: str, *, exact: bool) -> Outcome:
    """A claim by a repeated run's value, interval and number of examples.

    Args:
        exact: both must be equal, as machine and versions are.
    """
    keys = ("value", "ci_low", "ci_high")
    equal = all(close(getattr(claimed, key), getattr(new, key), EXACT) for key in keys) and claimed.n == new.n
    if equal or exact:
        return Outcome.of(claim, CONFIRMED if equal else DIFFERS, claimed, new, note)
    if claimed.value is None or new.value is None:
        return Outcome.of(claim, CONFIRMED if claimed.value is new.value else DIFFERS, claimed, new, note)
    bounds = None if measure is None else measure.bounds
    if new.ci_low is None or new.ci_high is None:
        reach = intervals.tolerance(new.n, bounds)
        if reach is None:
            same = close(claimed.value, new.value, EXACT)
            why = f"{note}; nothing says how far apart two runs may lie"
            return Outcome.of(claim, CONFIRMED if same else WIDE, claimed, new, why)
        low, high = new.value - reach, new.value + reach
    else:
        low, high = new.ci_low, new.ci_high
    if not low - EXACT <= claimed.value <= high + EXACT:
        return Outcome.of(claim, DIFFERS, claimed, new, note)
    if intervals.says_little(low, high, new.value, bounds):
        wide = f"{note}, which would hold almost anything: [{low:.4g}, {high:.4g}]"
        return Outcome.of(claim, WIDE, claimed, new, wide)
    return Outcome.of(claim, CONFIRMED, claimed, new, note)
