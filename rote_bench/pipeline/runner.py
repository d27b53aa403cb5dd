"""The pipeline: a task spec becomes examples, examples get noise, a model learns them, snapshots are diagnosed, a
report is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    keep_memory,
)
from ..measures import HEADLINE
from ..progress import Progress
from ..report import build, card, write
from ..report.provenance import code_version, differing, environment, identity
from ..training.distributed import join
from . import stages
from .accept import reported
from .cell import POST, PRE, Cell, Settings, cell_folder
from .diagnose import diagnose, draw_figures

if TYPE_CHECKING:
    from ..models.load import LoadedModel
    from ..plugins import Registry
    from ..spec.model import TaskSpec
    from ..splits import Data


def run_cell(
    spec: TaskSpec, model_name: str, rate: float, *, settings: Settings, registry: Registry, progress: Progress
) -> dict[str, Any] | None:
    """Run one cell from spec to report, or find that it is done already.

    Returns:
        The report; None in a process that only helped to train.

    Raises:
        UserError: when the input cannot be run, or another cell's report stands in the folder.
        KeyboardInterrupt: after saving the state from which the next run goes on.
    """
    processes, wanted = join(settings.device)
    folder = cell_folder(settings.output, spec, model_name, rate)
    progress.quiet = progress.quiet or not processes.first
    cell = Cell(spec, model_name, rate, settings, registry, progress, folder, processes)
    progress.say(f"{spec.title}: {model_name}, noise {rate:g}, seed {spec.seeds.label}")
    check_writable(cell.folder)
    with cell.timings.stage("data"):
        provider = stages.find_provider(model_name, registry)
        task, data = stages.make_examples(cell)
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        device = choose_device(wanted)
        loaded, tokenizer = stages.load_model(cell, provider, task, data, device)
        precision = choose_precision(spec.training.precision, device)
        identified = identity(identity_parts(cell, loaded, precision, data))
        if settings.train and loaded.source == "pretrained" and not loaded.trainable:
            raise UserError("quantised weights cannot be trained", where="--model", hint="add --no-train")
        done = finished(cell, identified)
        if done is not None:
            progress.say(f"already done: {cell.folder / write.FILE}")
            return done
        threads = choose_threads(settings.threads, loaded.model)
        keep_memory()
        cell.folder.mkdir(parents=True, exist_ok=True)
    facts = build.Facts(
        identity=identified,
        task={"name": spec.name, "version": spec.version, "content_hash": spec.content_hash(), "spec": spec.resolved()},
        data={
            "counts": data.counts(),
            "fingerprint": data.fingerprint(),
            "n_noisy": len(data.train.noisy),
            "noise_rate": rate,
            "limit": settings.limit,
        },
        model=build.model_entry(model_name, loaded),
        seeds=spec.resolved()["seeds"],
        environment=environment(
            device=device,
            threads=threads,
            dtype=settings.dtype,
            precision=precision,
            deterministic=device == "cpu",
            remote_code=settings.trust_remote_code,
            processes=processes.count,
            compiled=settings.compile and settings.train,
        ),
    )
    try:
        report = _learn_and_diagnose(cell, facts, task, data, loaded, tokenizer, device, precision)
    except (KeyboardInterrupt, UserError):
        raise
    except Exception as error:  # whatever breaks a run belongs into its report, and is raised again
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        if not processes.first:
            raise
        failed = build.assemble(
            facts, status="failed", error=reason, timings=cell.timings.entry(), warnings=cell.warnings
        )
        write.write_json(cell.folder / write.FILE, failed)
        raise
    return report


def _learn_and_diagnose(
    cell: Cell,
    facts: build.Facts,
    task: Any,
    data: Data,
    loaded: LoadedModel,
    tokenizer: Any,
    device: str,
    precision: str,
) -> dict[str, Any] | None:
    from ..measurement import evaluate
    from ..models.anatomy import Anatomy
    from ..subject import Subject

    if loaded.source == "plugin" and not hasattr(loaded.model, "get_input_embeddings"):
        anatomy = Anatomy.opaque(loaded.model, "the plugin's model is no transformer")
    else:
        anatomy = Anatomy.of(loaded.model)
    facts.model["anatomy"] = build.anatomy_entry(anatomy)
    batch_size = cell.settings.batch_size or choose_batch_size(loaded.model)
    subject = Subject(
        cell.spec,
        task,
        data,
        tokenizer,
        {POST: anatomy},
        [],
        device,
        cap=choose_cap(loaded.model),
        batch_size=batch_size,
        warn=cell.warn,
    )
    trained = None
    if cell.settings.train and loaded.trainable:
        decided = {k: v for k, v in facts.identity["parts"].items() if k != "diagnostics"}
        trained = stages.learn(cell, subject, loaded, precision, digest(decided))
        if not cell.processes.first:
            return None
        subject.curve = trained.curve
        subject.snapshots = {PRE: trained.pre_step, POST: trained.steps}
        subject.anatomies = stages.snapshots(cell, anatomy, trained, tokenizer)
    elif cell.settings.snapshots:
        subject.anatomies = stages.given_snapshots(cell, anatomy, loaded)
    with cell.timings.stage("evaluation"):
        cell.progress.stage("evaluating")
        measured, samples = evaluate(subject)
        write.write_table(cell.folder / "samples.parquet", samples)
    with cell.timings.stage("diagnostics"):
        entries, more = diagnose(cell, subject)
        headline = {measure.name: reported(measure, measured[measure.name]) for measure in HEADLINE}
        metrics = {name: build.metric_entry(metric) for name, metric in {**headline, **more}.items()}
        diagnostics = {name: build.diagnostic_entry(entry) for name, entry in entries.items()}
    with cell.timings.stage("figures"):
        cell.progress.stage("drawing")
        folder = cell.folder / "figures"
        draw_figures(entries, cell.registry, folder, warn=cell.warn, debug=cell.progress.debug)
    report = build.assemble(
        facts,
        status="success",
        training=build.training_entry(trained, cell.spec.training, subject),
        metrics=metrics,
        diagnostics=diagnostics,
        timings=cell.timings.entry(),
        warnings=cell.warnings,
    )
    if trained is not None:
        card.write_cards(cell.folder / "checkpoints", report, trained.curve)
    report["artifacts"] = build.artifacts(cell.folder)
    found = write.faults(report)
    if found:
        raise ValueError(f"the report does not fit its schema: {found[0]}")
    write.write_json(cell.folder / write.FILE, report)
    (cell.folder / "training-state.pt").unlink(missing_ok=True)
    return report


def identity_parts(cell: Cell, loaded: LoadedModel, precision: str, data: Data) -> dict[str, Any]:
    """Everything that decides a cell's numbers."""
    parts = planned_parts(cell.spec, cell.model_name, cell.rate, cell.settings, cell.registry)
    config = build.plain_config(loaded.model.config)
    parts["task"]["data"] = data.fingerprint()
    parts["model"]["revision"] = loaded.revision
    parts["model"]["config"] = {k: v for k, v in config.items() if k not in ("transformers_version", "_name_or_path")}
    parts["precision"] = precision
    return parts


def planned_parts(
    spec: TaskSpec, model_name: str, rate: float, settings: Settings, registry: Registry
) -> dict[str, Any]:
    """The identity as far as it is known before examples and model are made."""
    return {
        "task": {
            "content": spec.content_hash(),
            "code": code_version(registry.table("tasks")[spec.generator]),
            "noise_code": code_version(registry.table("noise")[spec.noise.kind]),
        },
        "noise_rate": rate,
        "model": {"name": model_name},
        "snapshots": dict(settings.snapshots),
        "recipe": spec.resolved()["training"] if settings.train else None,
        "dtype": settings.dtype,
        "seeds": spec.resolved()["seeds"],
        "limit": settings.limit,
        "diagnostics": {
            d.name: {"code": code_version(registry.table("diagnostics")[d.name]), "options": dict(d.options)}
            for d in spec.diagnostics
        },
    }


def finished(cell: Cell, identified: Mapping[str, Any]) -> dict[str, Any] | None:
    """The complete report of this very cell when it is there; a report of another cell is an error.

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
    if report["status"] != "success":
        return None
    if report["identity"]["hash"] == identified["hash"]:
        return report
    fields = differing(identified["parts"], report["identity"]["parts"])
    raise UserError(
        f"another run's report is there; it differs in {', '.join(fields[:6])}",
        where=str(path),
        hint="choose another folder with -o, or replace it with --overwrite",
    )


def expand(spec: TaskSpec, rates: Sequence[float], seeds: Sequence[int]) -> list[tuple[TaskSpec, float]]:
    """The cells that a command names: noise rates times seeds."""
    from ..spec.model import Seeds

    for rate in rates:
        if not 0 <= rate < 1:
            raise UserError(f"a noise rate must be at least 0 and below 1, not {rate:g}", where="--noise-rate")
    for seed in seeds:
        if seed < 0:
            raise UserError(f"a seed must be 0 or more, not {seed}", where="--seed")
    specs = [spec.replace(seeds=Seeds.all(seed)) for seed in seeds] or [spec]
    return [(s, rate) for rate in (rates or spec.noise.rates) for s in specs]
