"""From what a run measured to the entries of its report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..findings import decide
from ..hashing import sha256
from ..training.tracking import FOLDER as TRACKING
from .write import SCHEMA_VERSION

if TYPE_CHECKING:
    from ..models.anatomy import Anatomy
    from ..models.load import LoadedModel
    from ..spec.model import Recipe
    from ..subject import Subject
    from ..training.loop import Trained
    from .record import DiagnosticEntry, Metric


@dataclass
class Facts:
    """What is known about a cell before it runs."""

    identity: dict[str, Any]
    task: dict[str, Any]
    data: dict[str, Any]
    model: dict[str, Any]
    seeds: dict[str, Any]
    environment: dict[str, Any]


NOT_TRAINED: Mapping[str, Any] = {
    "optimizer": None,
    "steps": 0,
    "examples_seen": 0,
    "tokens_seen": 0,
    "effective_batch_size": None,
    "stop_reason": "not_trained",
    "snapshots": {},
    "snapshot_rule": None,
}


def assemble(
    facts: Facts,
    *,
    status: str,
    timings: Mapping[str, Any],
    error: str | None = None,
    training: Mapping[str, Any] = NOT_TRAINED,
    metrics: Mapping[str, Any] | None = None,
    diagnostics: Mapping[str, Any] | None = None,
    artifacts: Sequence[Mapping[str, Any]] = (),
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """The whole report."""
    return {
        "schema_version": SCHEMA_VERSION,
        "status": status,
        "error": error,
        "identity": facts.identity,
        "task": facts.task,
        "data": facts.data,
        "model": facts.model,
        "training": dict(training),
        "seeds": facts.seeds,
        "metrics": dict(metrics or {}),
        "diagnostics": dict(diagnostics or {}),
        "findings": decide(metrics or {}),
        "environment": facts.environment,
        "timings": dict(timings),
        "artifacts": list(artifacts),
        "warnings": list(warnings),
    }


def metric_entry(metric: Metric) -> dict[str, Any]:
    """A metric as the report holds it."""
    return {key: value for key, value in asdict(metric).items() if key != "reason_if_no_interval"}


def diagnostic_entry(entry: DiagnosticEntry) -> dict[str, Any]:
    """What became of a diagnostic, as the report holds it."""
    return {**vars(entry), "metrics": list(entry.metrics)}


def plain_config(config: Any) -> dict[str, Any]:
    """A model's configuration as JSON holds it; numbers without end, as Mamba-2's longest time step, as words."""
    plain: dict[str, Any] = json.loads(json.dumps(config.to_dict(), default=str), parse_constant=str)
    return plain


def model_entry(name: str, loaded: LoadedModel) -> dict[str, Any]:
    """The report's ``model`` without the proofs, which come later."""
    return {
        "name": name,
        "model_type": loaded.model_type,
        "source": loaded.source,
        "revision": loaded.revision,
        "parameters": sum(p.numel() for p in loaded.model.parameters()),
        "config": plain_config(loaded.model.config),
        "anatomy": {},
    }


def anatomy_entry(anatomy: Anatomy) -> dict[str, Any]:
    """What was proved about the model."""
    return {name: {"ok": check.ok, "detail": check.detail} for name, check in anatomy.checks.items()}


def training_entry(trained: Trained | None, recipe: Recipe, subject: Subject) -> dict[str, Any]:
    """The report's ``training``."""
    if trained is None:
        return dict(NOT_TRAINED)
    from ..training.loop import SNAPSHOT_RULE

    rows = len(subject.data.train) + len(subject.data.facts) * recipe.facts_repeat
    return {
        "optimizer": recipe.optimizer,
        "steps": trained.steps,
        "examples_seen": trained.examples_seen,
        "tokens_seen": trained.tokens_seen,
        "effective_batch_size": min(recipe.batch_size, rows),
        "stop_reason": trained.stop_reason,
        "snapshots": {"pre_memorization": trained.pre_step, "post_memorization": trained.steps},
        "snapshot_rule": SNAPSHOT_RULE.format(share=recipe.snapshot_share),
    }


def artifacts(folder: Path) -> list[dict[str, Any]]:
    """Every file of a cell with its hash, but the report and what is written while the cell runs."""
    skipped = {"report.json", "training-state.pt", "run.log"}
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in skipped and not p.name.startswith("."))
    files = [p for p in files if p.relative_to(folder).parts[0] != TRACKING]
    return [{"path": p.relative_to(folder).as_posix(), "sha256": sha256(p), "bytes": p.stat().st_size} for p in files]
