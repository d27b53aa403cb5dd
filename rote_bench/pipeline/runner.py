"""The pipeline: a task spec becomes examples, examples get noise, a model learns them, snapshots are diagnosed, a
report is written."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..hashing import digest
from ..machine import (
    check_writable,
    choose_batch_size,
    choose_cap,
    choose_device,
    choose_precision,
    choose_threads,
)
from ..progress import Progress
from ..report import build, card, record, write
from ..report.provenance import environment
from ..training.distributed import join
from . import stages
from .cell import Cell, cell_folder
from .diagnose import diagnose, draw_figures
from .identity import differing, identify, other_code
from .lock import alone
from .request import asked, recall
from .settings import Settings
from .twins import schedule_of, stands, told, waits

if TYPE_CHECKING:
    from ..models.load import LoadedModel
    from ..plugins import Registry
    from ..spec.model import TaskSpec
    from ..splits import Data
    from ..subject import Subject
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
        twin: the report of the same cell at noise rate 0, whose schedule this one takes over.

    Returns:
        The report; None in a process that only helped to train.

    Raises:
        UserError: when the input cannot be run, or another cell's report stands in the folder.
        KeyboardInterrupt: after saving the state from which the next run goes on.
    """
    known = recall(spec, model_name, rate, settings=settings, registry=registry, progress=progress, twin=twin)
    if known is not None:
        return known
    processes, wanted = join(settings.device)
    folder = cell_folder(settings.output_path, spec, model_name, rate)
    progress.quiet = progress.quiet or not processes.first
    cell = Cell(spec, model_name, rate, settings, registry, progress, folder, processes)
    progress.say(f"{spec.title}: {model_name}, noise {rate:g}, seed {spec.seeds.label}")
    check_writable(cell.folder)
    with cell.timings.stage("data"):
        schedule = schedule_of(spec, rate, settings, twin) if processes.first else None
        made = _make(cell, wanted, processes.agree(schedule) or record.Schedule(None, None))
    with alone(cell.folder) if processes.first else nullcontext():
        done = finished(cell, made.facts.identity, twin)
        if done is not None:
            return done
        if processes.first:
            stages.clear(cell)
        try:
            return _learn_and_diagnose(cell, made)
        except UserError:
            raise
        except (KeyboardInterrupt, Exception) as error:  # whatever ends a run belongs into its report
            if processes.first:
                _write_ended(cell, made.facts, error)
            raise


@dataclass
class _Made:
    """Examples and model of a cell, and what is known about it before it runs."""

    facts: build.Facts
    schedule: record.Schedule
    task: Any
    data: Data
    loaded: LoadedModel
    tokenizer: Any


def _make(cell: Cell, wanted: str, schedule: record.Schedule) -> _Made:
    spec, settings = cell.spec, cell.settings
    provider = cell.registry.provider(cell.model_name)
    # before anything is read: what changes meanwhile then makes another request
    request = asked(spec, cell.model_name, cell.rate, settings, cell.registry, schedule)
    task, data = stages.make_examples(cell)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    device = choose_device(wanted)
    loaded, tokenizer = stages.load_model(cell, provider, task, data, device)
    precision = choose_precision(spec.training.precision, device)
    if settings.train and loaded.source == "pretrained" and not loaded.trainable:
        raise UserError("quantised weights cannot be trained", where="--model", hint="add --no-train")
    model = build.model_entry(cell.model_name, loaded, remote_code=settings.trust_remote_code)
    identity = identify(
        spec,
        cell.model_name,
        cell.rate,
        settings,
        cell.registry,
        schedule,
        loaded=loaded,
        data=data,
        config=model.config,
        device=device,
        precision=precision,
        processes=cell.processes.count,
        request=None if request is None else request.hash(loaded.weights),
    )
    threads = choose_threads(settings.threads, loaded.model)
    facts = build.Facts(
        identity=identity,
        task=record.Task(spec.name, spec.version, spec.content_hash(), spec.resolved()),
        data=record.Data(data.counts(), data.fingerprint(), len(data.train.noisy), cell.rate, settings.limit),
        model=model,
        seeds=spec.seeds,
        environment=environment(
            device=device,
            threads=threads,
            dtype=settings.dtype,
            precision=precision,
            remote_code=settings.trust_remote_code,
            processes=cell.processes.count,
            compiled=settings.compile and settings.train,
        ),
    )
    return _Made(facts, schedule, task, data, loaded, tokenizer)


def _write_ended(cell: Cell, facts: build.Facts, error: BaseException) -> None:
    """The report of a run that failed, or that was interrupted and goes on when it is started again."""
    interrupted = isinstance(error, KeyboardInterrupt)
    reason = "the same command goes on from here" if interrupted else f"{type(error).__name__}: {error}"
    report = build.assemble(
        facts,
        status="interrupted" if interrupted else "failed",
        error=" ".join(reason.split()),
        timings=cell.timings.entry(),
        warnings=cell.warnings,
    )
    write.save_report(cell.folder / write.FILE, report)


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
    waiting = twin is None and waits(spec, rate, settings)
    made = _make(cell, settings.device, EVENT if waiting else schedule_of(spec, rate, settings, twin))
    done = finished(cell, made.facts.identity, twin)
    if done is not None:
        return done
    subject, identity = _subject(cell, made), _trained_by(made.facts.identity)
    trains = settings.train and made.loaded.trainable
    return expect(
        cell,
        subject,
        stages.lesson(subject) if trains else None,
        precision=made.facts.environment.precision,
        settle=made.schedule.step,
        identity=identity,
    )


def _trained_by(identity: record.Identity) -> str:
    """The hash of what decides a training."""
    return digest({key: value for key, value in identity.parts.items() if key != "diagnostics"})


def _subject(cell: Cell, made: _Made) -> Subject:
    """What will be diagnosed, with one snapshot: the model as it is now."""
    from ..models.anatomy import Anatomy
    from ..subject import Subject

    facts, loaded = made.facts, made.loaded
    if loaded.source == "plugin" and not hasattr(loaded.model, "get_input_embeddings"):
        anatomy = Anatomy.opaque(loaded.model, "the plugin's model is no transformer")
    else:
        anatomy = Anatomy.of(loaded.model)
    facts.model = build.with_anatomy(facts.model, anatomy)
    batch_size = cell.settings.batch_size or choose_batch_size(loaded.model)
    facts.environment = replace(facts.environment, batch_size=batch_size)
    return Subject(
        cell.spec,
        made.task,
        made.data,
        made.tokenizer,
        {record.POST: anatomy},
        [],
        facts.environment.device,
        cap=choose_cap(loaded.model),
        batch_size=batch_size,
        warn=cell.warn,
    )


def _learn_and_diagnose(cell: Cell, made: _Made) -> record.Report | None:
    from ..measurement import evaluate

    facts, loaded = made.facts, made.loaded
    subject = _subject(cell, made)
    anatomy, trained = subject.anatomy(), None
    if cell.settings.train and loaded.trainable:
        identity, precision = _trained_by(facts.identity), facts.environment.precision
        trained = stages.learn(cell, subject, loaded, precision, identity, settle=made.schedule.step)
        if not cell.processes.first:
            return None
        subject.curve = trained.curve
        subject.snapshots = trained.snapshots
        subject.without_pre = trained.without_pre(cell.spec.training.snapshot_share)
        subject.anatomies = stages.snapshots(cell, anatomy, trained, made.tokenizer)
    elif cell.settings.snapshots:
        subject.anatomies = stages.given_snapshots(cell, anatomy, loaded)
    with cell.timings.stage("evaluation"):
        cell.progress.stage("evaluating")
        measured, samples = evaluate(subject)
        write.write_table(cell.folder / "samples.parquet", samples)
    with cell.timings.stage("diagnostics"):
        diagnostics, metrics = diagnose(cell, subject)
    with cell.timings.stage("figures"):
        cell.progress.stage("drawing")
        figures = cell.folder / "figures"
        draw_figures(diagnostics, cell.registry, figures, warn=cell.warn, debug=cell.progress.debug)
    report = build.assemble(
        facts,
        status="success",
        training=build.training_entry(
            trained, cell.spec.training, made.schedule, subject, processes=cell.processes.count
        ),
        metrics={**build.headline(measured), **metrics},
        diagnostics=diagnostics,
        timings=cell.timings.entry(),
        warnings=cell.warnings,
    )
    if trained is not None:
        card.write_cards(cell.folder / "checkpoints", report, trained.curve)
    report = replace(report, artifacts=build.artifacts(cell.folder))
    write.save_report(cell.folder / write.FILE, report)
    (cell.folder / "training-state.pt").unlink(missing_ok=True)
    return report


def finished(cell: Cell, identity: record.Identity, twin: record.Report | None = None) -> record.Report | None:
    """The complete report of this very cell when it is there; a report of another cell is an error.

    One that was trained by its own event is this very cell where that fell on the twin's step.

    Raises:
        UserError: naming the fields in which the report there differs.
    """
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
            hint="choose another folder with -o, or replace it with --overwrite",
        )
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
    from ..spec.model import Seeds
    from ..spec.preflight import locate_fault
    from ..splits import rates_of

    for rate in rates:
        if not 0 <= rate < 1:
            raise UserError(f"a noise rate must be at least 0 and below 1, not {rate:g}", where="--noise-rate")
    for seed in seeds:
        if seed < 0:
            raise UserError(f"a seed must be 0 or more, not {seed}", where="--seed")
    specs = [spec.replace(seeds=Seeds.all(seed)) for seed in seeds] or [spec]
    try:
        of_each = [rates_of(s, registry, rates, limit=limit) for s in specs]
    except UserError as error:
        raise locate_fault(error, spec) from None
    return [(s, rate) for row in zip(*of_each, strict=True) for s, rate in zip(specs, row, strict=True)]
