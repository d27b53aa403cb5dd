"""The pipeline: a task spec becomes examples, examples get noise, a model learns them, snapshots are diagnosed, a
report is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from ..errors import UserError
from ..machine import check_writable
from ..progress import Progress
from ..report import record, write
from ..strangers import contained
from ..training.distributed import join, remark
from . import again, lessons
from .cell import Cell, cell_folder
from .identity import differing, other_code
from .interrupts import heed, kept
from .learning import learn_alone, learn_together
from .lock import alone
from .making import Made, make
from .request import recall, require_finished
from .settings import Settings
from .twins import remedy, schedule_of, stands, told, waits

if TYPE_CHECKING:
    from ..models.load import LoadedModel
    from ..models.probe import Check
    from ..plugins import Registry
    from ..spec.model import TaskSpec
    from .expect import Expected

EVENT = record.Schedule("event", None)


def run_cell(
    spec: TaskSpec,
    model_name: str,
    rate: float,
    *,
    settings: Settings,
    registry: Registry,
    progress: Progress,
    twin: record.Report | None = None,
) -> record.Report | None:
    """Run one cell from spec to report, or find that it is done already.

    Args:
        twin: the report of the same cell at noise rate 0, whose schedule this one takes over, and which diagnostics
            compare with.

    Returns:
        The report; None in a process that only helped to train.

    Raises:
        UserError: when the input cannot be run, another cell's report stands in the folder, or what stands there
            cannot be diagnosed again.
        KeyboardInterrupt: after saving the state from which the next run goes on; it says what is kept.
        ProcessLeft: when code of a plugin asks to leave the process.
    """
    folder = cell_folder(settings.output_path, spec, model_name, rate)
    try:
        with contained():
            return _run_cell(spec, model_name, rate, settings, registry, progress, twin)
    except KeyboardInterrupt as error:
        error.args = error.args or (kept(folder, lessons.STATE),)
        raise


def _run_cell(
    spec: TaskSpec,
    model_name: str,
    rate: float,
    settings: Settings,
    registry: Registry,
    progress: Progress,
    twin: record.Report | None,
) -> record.Report | None:
    known = recall(spec, model_name, rate, settings=settings, registry=registry, progress=progress, twin=twin)
    if known is not None:
        return known
    cell, made = prepare(spec, model_name, rate, settings=settings, registry=registry, progress=progress, twin=twin)
    with alone(cell.folder) if cell.processes.first else nullcontext():
        if settings.rediagnose:
            return again.rediagnose(cell, made, twin)
        done = finished(cell, made, twin)
        if done is not None:
            return done
        if cell.processes.first:
            lessons.clear(cell)
        heed()
        if made.way != "stacked":
            return learn_alone(cell, made)
        (outcome,) = learn_together([(cell, made)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def prepare(
    spec: TaskSpec,
    model_name: str,
    rate: float,
    *,
    settings: Settings,
    registry: Registry,
    progress: Progress,
    twin: record.Report | None = None,
    stacks: Callable[[LoadedModel], Check] | None = None,
) -> tuple[Cell, Made]:
    """A cell with its examples and model, before anything is written.

    Args:
        stacks: as for ``make``.

    Raises:
        UserError: when the input cannot be run.
    """
    said = remark()
    if said is not None:
        progress.warn(said)
    processes, wanted = join(settings.device, progress.say)
    folder = cell_folder(settings.output_path, spec, model_name, rate)
    progress.quiet = progress.quiet or not processes.first
    cell = Cell(spec, model_name, rate, settings, registry, progress, folder, processes, twin=twin)
    progress.say(f"{spec.title}: {model_name}, noise {rate:g}, seed {spec.seeds.label}")
    check_writable(cell.folder)
    with cell.timings.stage("data"):
        schedule = schedule_of(spec, rate, settings, twin) if processes.first else None
        return cell, make(cell, wanted, processes.agree(schedule) or record.Schedule(None, None), stacks)


def foresee(
    spec: TaskSpec,
    model_name: str,
    rate: float,
    *,
    settings: Settings,
    registry: Registry,
    progress: Progress,
    twin: record.Report | None = None,
) -> Expected | record.Report:
    """What a cell will take, or its report where it is done already; nothing is trained and nothing written.

    Args:
        twin: as for ``run_cell``. A cell that waits for a twin that is not done is expected to wait for its own event.

    Raises:
        UserError: as ``run_cell``.
    """
    from .expect import expect

    folder = cell_folder(settings.output_path, spec, model_name, rate)
    cell = Cell(spec, model_name, rate, settings, registry, progress, folder)
    check_writable(cell.folder)
    require_finished(folder, settings)
    waiting = twin is None and waits(spec, rate, settings)
    made = make(cell, settings.device, EVENT if waiting else schedule_of(spec, rate, settings, twin))
    done = again.is_done(cell, made, twin) if settings.rediagnose else finished(cell, made, twin)
    if done is not None:
        return done
    subject = made.subject(cell)
    trains = made.way is not None and not settings.rediagnose
    return expect(
        cell,
        subject,
        lessons.lesson_rows(subject, spec.training) if trains else None,
        precision=made.facts.environment.precision,
        settle=made.schedule.step,
        identity=made.decides_training,
    )


def finished(cell: Cell, made: Made, twin: record.Report | None = None) -> record.Report | None:
    """The complete report of this very cell when it is there; a report of another cell is an error.

    One that was trained by its own event is this very cell where that fell on the twin's step.

    Raises:
        UserError: naming the fields in which the report there differs, or where its model answered otherwise.
    """
    identity = made.facts.identity
    path = cell.folder / write.FILE
    if not path.is_file() or cell.settings.overwrite:
        return None
    try:
        report = write.load_report(path)
    except UserError as error:
        cell.warn(f"replacing an unusable report: {error}")
        return None
    if report.status != "success":
        return None
    fields = differing(identity.parts, report.identity.parts)
    if fields and not stands(fields, report, twin):
        raise UserError(
            f"another run's report is there; it differs in {told(fields, report, twin)}",
            where=str(path),
            hint=remedy(fields, twin),
        )
    again.check_signature(made, report, path)
    cell.progress.say(f"already done: {path}")
    changed = other_code(identity.code, report.identity.code)
    if changed:
        cell.warn(
            f"it was made by other code of the same versions, in {', '.join(changed[:6])};"
            " --overwrite runs it again, and a change that moves numbers must raise a version"
        )
    return report


def expand(
    spec: TaskSpec, rates: Sequence[float], seeds: Sequence[int], registry: Registry, *, limit: int | None = None
) -> list[tuple[TaskSpec, float]]:
    """The cells that a command names: noise rates times seeds."""
    from ..spec.model import LARGEST_SEED, Seeds, too_close
    from ..spec.preflight import locate_fault
    from ..splits import rates_of

    for rate in rates:
        if not 0 <= rate < 1:
            raise UserError(f"a noise rate must be at least 0 and below 1, not {rate:g}", where="--noise-rate")
    if close := too_close(rates):
        raise UserError(close, where="--noise-rate", hint="six digits count")
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
            raise UserError(f"a seed must be an integer from 0 to {LARGEST_SEED}, not {seed}", where="--seed")
    rates = list(dict.fromkeys(rate + 0.0 for rate in rates))  # a zero has no sign, and a cell is run once
    seeds = list(dict.fromkeys(seeds))
    specs = [spec.replace(seeds=Seeds.all(seed)) for seed in seeds] or [spec]
    try:
        of_each = [rates_of(s, registry, rates, limit=limit) for s in specs]
    except UserError as error:
        raise locate_fault(error, spec) from None
    return [(s, rate) for row in zip(*of_each, strict=True) for s, rate in zip(specs, row, strict=True)]
