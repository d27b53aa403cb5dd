"""From what a run measured to its report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..findings import decide
from ..hashing import sha256
from ..measures import HEADLINE, OOD, Measure
from . import record

if TYPE_CHECKING:
    from ..models.anatomy import Anatomy
    from ..models.load import LoadedModel
    from ..spec.model import Recipe, Seeds
    from ..statistics import Estimate
    from ..subject import Subject
    from ..training.course import Trained

MEMORISED = 0.98  # of the wrong labels, after which further steps are counted
# What a run keeps; its state, its log and its tracks are written while it goes on and are nobody's claim.
OWN = ("dynamics.jsonl", "*.parquet", "figures/*.png", "checkpoints/**/*")


@dataclass
class Facts:
    """What is known about a cell before it runs."""

    identity: record.Identity
    task: record.Task
    data: record.Data
    model: record.Model
    seeds: Seeds
    environment: record.Environment


def assemble(
    facts: Facts,
    *,
    status: record.Status,
    timings: record.Timings,
    error: str | None = None,
    training: record.Training = record.NOT_TRAINED,
    metrics: Mapping[str, record.Metric] | None = None,
    diagnostics: Mapping[str, record.DiagnosticEntry] | None = None,
    warnings: Sequence[str] = (),
) -> record.Report:
    """The whole report but for its files."""
    report = record.Report(
        schema_version=record.SCHEMA_VERSION,
        status=status,
        error=error,
        identity=facts.identity,
        task=facts.task,
        data=facts.data,
        model=facts.model,
        training=training,
        seeds=facts.seeds,
        metrics=dict(metrics or {}),
        diagnostics=dict(diagnostics or {}),
        findings=(),
        environment=facts.environment,
        timings=timings,
        artifacts=(),
        warnings=tuple(warnings),
    )
    return replace(report, findings=decide(report))


def metric(measure: Measure, estimate: Estimate) -> record.Metric:
    """A metric as the report holds it."""
    without = estimate.value is not None and estimate.ci_low is None
    said = measure.interval if isinstance(measure.interval, str) else None
    return record.Metric(
        value=estimate.value,
        ci_low=estimate.ci_low,
        ci_high=estimate.ci_high,
        ci_method=estimate.ci_method,
        n=estimate.n,
        higher_is_better=measure.higher_is_better,
        split=measure.split,
        reason_if_null=estimate.reason_if_null,
        reason_if_no_interval=(estimate.reason_if_no_interval or said) if without else None,
    )


def headline(measured: Mapping[str, Estimate]) -> dict[str, record.Metric]:
    """The metrics that need nothing but answers."""
    declared = {measure.name: measure for measure in (*HEADLINE, OOD)}
    return {name: metric(declared[name], estimate) for name, estimate in measured.items()}


def plain_config(config: Any) -> dict[str, Any]:
    """A model's configuration as JSON holds it; numbers without end, as Mamba-2's longest time step, as words."""
    plain: dict[str, Any] = json.loads(json.dumps(config.to_dict(), default=str), parse_constant=str)
    return plain


def model_entry(name: str, loaded: LoadedModel, *, remote_code: bool) -> record.Model:
    """The report's ``model`` without the proofs, which come later."""
    from ..models.lora import described, is_adapted

    config = plain_config(loaded.model.config)
    if is_adapted(loaded.model):
        config["peft"] = described(loaded.model)
    return record.Model(
        name=name,
        model_type=loaded.model_type,
        source=loaded.source,
        revision=loaded.revision,
        parameters=sum(p.numel() for p in loaded.model.parameters()),
        config=config,
        anatomy={},
        weights=loaded.weights,
        tokenizer=loaded.tokenizer_content,
        base=loaded.base,
        builder=loaded.builder,
        remote_code=remote_code,
        signature=loaded.signature,
    )


def with_anatomy(model: record.Model, anatomy: Anatomy) -> record.Model:
    """The same with what was proved about it."""
    proofs = {name: record.Proof(check.ok, check.detail) for name, check in anatomy.checks.items()}
    return replace(model, anatomy=proofs)


def training_entry(
    trained: Trained | None, recipe: Recipe, schedule: record.Schedule, subject: Subject, *, way: record.Way | None
) -> record.Training:
    """The report's ``training``."""
    if trained is None:
        return record.NOT_TRAINED
    from ..training.loop import SNAPSHOT_RULE
    from ..training.schedule import settled_at

    rows = len(subject.data.train) + len(subject.data.facts) * recipe.facts_repeat
    full = (p.step for p in trained.curve if p.memorization_rate is not None and p.memorization_rate >= MEMORISED)
    memorised = next(full, None)
    return record.Training(
        optimizer=recipe.optimizer,
        steps=trained.steps,
        examples_seen=trained.examples_seen,
        tokens_seen=trained.tokens_seen,
        effective_batch_size=min(recipe.batch_size, rows),
        stop_reason=trained.stop_reason,
        snapshots=trained.snapshots,
        snapshot_rule=SNAPSHOT_RULE.format(share=recipe.snapshot_share),
        schedule=schedule,
        settled_step=settled_at(trained.curve, recipe.schedule, schedule.step),
        final_rate=trained.curve[-1].lr,
        steps_after_98=None if memorised is None else trained.steps - memorised,
        way=way,
        stacked=trained.stacked,
    )


def own_files(folder: Path) -> list[Path]:
    """Every file that a run keeps in its cell's folder beside the report."""
    return sorted({p for pattern in OWN for p in folder.glob(pattern) if p.is_file() and not p.name.startswith(".")})


def artifacts(folder: Path) -> tuple[record.Artifact, ...]:
    """Those files with their hashes."""
    return tuple(
        record.Artifact(p.relative_to(folder).as_posix(), sha256(p), p.stat().st_size) for p in own_files(folder)
    )
