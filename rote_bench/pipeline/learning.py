"""From a cell's model to its report: trained by itself or as one with others, evaluated, diagnosed, written down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..report import build, card, record, write
from ..report.sentences import about
from ..strangers import reason_of
from . import lessons, snapshots
from .cell import Cell
from .diagnose import diagnose, draw_figures
from .interrupts import heed
from .making import Made
from .twin import twin_of

if TYPE_CHECKING:
    from ..subject import Subject
    from ..training.course import Trained

ASKED = 8  # held-out questions that a model and its snapshot are both asked


def learn_alone(cell: Cell, made: Made) -> record.Report | None:
    """Train a cell by itself, where it is trained, and bring it to its end; None in a process that only helps."""
    from ..models.outside import copied

    with reported(cell, made.facts):
        subject, trained = made.subject(cell), None
        if made.way is not None:
            fresh = copied(made.loaded.model) if made.loaded.foreign else None
            precision = made.facts.environment.precision
            step = made.schedule.step
            trained = lessons.learn(cell, subject, made.loaded, precision, made.decides_training, settle=step)
            if not cell.processes.first:
                return None
            trained = hand_over(cell, made, subject, trained, fresh)
        return conclude(cell, made, subject, trained)


def learn_together(members: Sequence[tuple[Cell, Made]]) -> list[record.Report | Exception]:
    """Train cells as one, and bring each to its end.

    Args:
        members: of one architecture, device, precision and recipe, but for learning rates and schedules.

    Returns:
        The report of each, or what went wrong.

    Raises:
        KeyboardInterrupt: after all that are not done have saved their state.
    """
    outcomes: list[record.Report | Exception] = []
    try:
        subjects = _subjects(members)
        trained = lessons.learn_together(
            [
                (cell, subject, made.loaded, made.decides_training, made.schedule.step)
                for (cell, made), subject in zip(members, subjects, strict=True)
            ],
            members[0][1].facts.environment.precision,
        )
        for cell, _ in members:
            cell.timings.resume(share=1 / len(members))
            cell.timings.pause()
        for (cell, made), subject, result in zip(members, subjects, trained, strict=True):
            cell.timings.resume()
            try:
                with reported(cell, made.facts):
                    if isinstance(result, FloatingPointError):
                        raise result
                    outcomes.append(conclude(cell, made, subject, hand_over(cell, made, subject, result)))
            except Exception as error:  # is in its report; the others go on
                outcomes.append(error)
            cell.timings.pause()
    except (KeyboardInterrupt, Exception) as error:
        for cell, made in members[len(outcomes) :]:
            write_ended(cell, made.facts, error)
        if isinstance(error, KeyboardInterrupt):
            raise
        outcomes += [error] * (len(members) - len(outcomes))
    return outcomes


def _subjects(members: Sequence[tuple[Cell, Made]]) -> list[Subject]:
    """The subject of each, whose structure is found once; from here on their clocks stand still."""
    subjects: list[Subject] = []
    for cell, made in members:
        cell.timings.resume()
        subjects.append(made.subject(cell, subjects[0].anatomy() if subjects else None))
        cell.timings.pause()
    return subjects


def hand_over(cell: Cell, made: Made, subject: Subject, trained: Trained, fresh: Any = None) -> Trained:
    """Give the subject what training left behind; the rest of it, without weights that the subject has now.

    Args:
        fresh: a copy of the model from before training, of one whose state may not be all that it answers by.
    """
    from ..models.outside import left_out

    subject.without_pre = trained.without_pre(cell.spec.training.snapshot_share)
    if fresh is not None:
        fault = left_out(subject.anatomy().model, fresh, subject.validation.true.rows(slice(ASKED)).input_ids)
        if fault is not None:
            cell.warn(f"{fault}: {record.NOT_KEPT}, which cannot be diagnosed again")
            subject.without_pre = fault
            trained = replace(trained, pre_step=None)
    subject.curve = trained.curve
    subject.snapshots = trained.snapshots
    subject.anatomies = snapshots.snapshots(cell, subject.anatomy(), trained, made.tokenizer, made.loaded.builder)
    return replace(trained, pre_state={})


def conclude(cell: Cell, made: Made, subject: Subject, trained: Trained | None) -> record.Report:
    """Evaluate and diagnose a model, trained or not, and write the report.

    Raises:
        UserError: when snapshots that the user names cannot be used.
    """
    from ..training.state import forget

    if trained is None and cell.settings.snapshots:
        subject.anatomies = snapshots.given_snapshots(cell, subject.anatomy(), made.loaded)
    training = build.training_entry(trained, cell.spec.training, made.schedule, subject, way=made.way)
    report = look(cell, made, subject, training)
    if trained is not None:
        card.write_cards(cell.folder / "checkpoints", report, trained.curve)
    report = replace(report, artifacts=build.artifacts(cell.folder))
    write.save_report(cell.folder / write.FILE, report)
    forget(cell.folder / lessons.STATE)
    return report


def look(cell: Cell, made: Made, subject: Subject, training: record.Training) -> record.Report:
    """All that follows training: answers, diagnostics and figures, written into the cell's folder.

    Returns:
        The report, which is not written, without its artifacts.
    """
    from ..measurement import disagreement, evaluate

    heed()
    subject.twin = twin_of(cell, subject, made)
    with cell.timings.stage("evaluation"):
        cell.progress.stage("evaluating")
        measured, samples = evaluate(subject)
        write.write_table(cell.folder / "samples.parquet", samples)
        asked = cell.spec.training.evaluation_examples
        fault = disagreement(subject.curve[-1], samples, asked) if subject.curve else None
        if fault is not None and cell.settings.rediagnose:
            raise UserError(
                f"its snapshot does not answer as the model did: {fault}",
                where=str(cell.folder),
                hint="does the model keep state outside of its weights?",
            )
        if fault is not None:
            cell.warn(f"{fault}: do not trust this report, and report the fault")
    with cell.timings.stage("diagnostics"):
        diagnostics, metrics = diagnose(cell, subject)
    heed()
    with cell.timings.stage("figures"):
        cell.progress.stage("drawing")
        figures = cell.folder / "figures"
        spec = cell.spec
        named = about(made.facts.task.label, cell.model_name, cell.rate, spec.seeds.label)
        draw_figures(diagnostics, cell.registry, figures, about=named, warn=cell.warn, debug=cell.progress.debug)
    heed()
    return build.assemble(
        made.facts,
        status="success",
        training=training,
        metrics={**build.headline(measured), **metrics},
        diagnostics=diagnostics,
        timings=cell.timings.entry(),
        warnings=cell.warnings,
    )


@contextmanager
def reported(cell: Cell, facts: build.Facts) -> Iterator[None]:
    """Whatever ends a run inside belongs into its report, but for what the user has to change."""
    try:
        yield
    except UserError:
        raise
    except BaseException as error:  # a plugin's code may raise anything
        if cell.processes.first:
            write_ended(cell, facts, error)
        raise


def write_ended(cell: Cell, facts: build.Facts, error: BaseException) -> None:
    """The report of a run that failed, or that was interrupted and goes on when it is started again."""
    interrupted = isinstance(error, KeyboardInterrupt)
    reason = "the same command goes on from here" if interrupted else reason_of(error)
    report = build.assemble(
        facts,
        status="interrupted" if interrupted else "failed",
        error=" ".join(reason.split()),
        timings=cell.timings.entry(),
        warnings=cell.warnings,
    )
    try:
        write.save_report(cell.folder / write.FILE, report)
    except OSError as fault:  # a full disk, which may be what ended the run
        cell.progress.warn(f"{cell.folder / write.FILE}: cannot be written: {fault.strerror}")
