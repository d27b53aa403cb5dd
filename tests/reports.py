"""Reports made by hand, for what reads reports and needs no model behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rote_bench.report import record
from rote_bench.spec.model import Seeds

HASH = "0" * 64


def metric(value: float | None, low: float | None = None, high: float | None = None, n: int = 100) -> record.Metric:
    """A metric, with an interval where bounds are given."""
    method = None if low is None else "by hand"
    reason = "not measured" if value is None else None
    without = "made by hand" if value is not None and low is None else None
    return record.Metric(value, low, high, method, n, None, "validation", reason, without)


def report(
    metrics: Mapping[str, float | record.Metric | None] | None = None,
    *,
    task: str = "thr",
    profile: str | None = None,
    model: str = "m",
    rate: float = 0.05,
    seed: int = 0,
    status: record.Status = "success",
    limit: int | None = None,
    content: str = HASH,
    fingerprint: str | None = None,
    dirty: bool = False,
    overrides: Mapping[str, Any] | None = None,
    parts: Mapping[str, Any] | None = None,
    n_noisy: int = 100,
    training: record.Training = record.NOT_TRAINED,
    details: Mapping[str, Mapping[str, Any]] | None = None,
) -> record.Report:
    """A report of these few things; all others are the same in each.

    Args:
        parts: instead of those of the identity that stand here.
        details: of diagnostics that succeeded.
    """
    found = {n: m if isinstance(m, record.Metric) else metric(m) for n, m in (metrics or {}).items()}
    own = {
        "training": {"max_steps": 100, "learning_rate": 0.01},
        "dtype": "float32",
        "snapshots": {},
        "schedule": {"settle": "event", "twin": None},
        "versions": {"training": 1},
        "task": {"version": 1, "noise": 1},
        "diagnostics": {"probe": {"version": 1, "options": {"examples": 10}}},
    }
    return record.Report(
        schema_version=2,
        status=status,
        error=None if status == "success" else "RuntimeError: by hand",
        identity=record.Identity(HASH, {**own, **(parts or {})}, {}, None),
        task=record.Task(task, 1, content, {"name": task, "profile": profile, "title": task, "model": overrides}),
        data=record.Data(
            {"train": round(n_noisy / rate) if rate else 1000, "validation": 100},
            fingerprint or f"{seed:064x}",
            n_noisy if rate else 0,
            rate,
            limit,
        ),
        model=record.Model(model, "gpt2", "scratch", None, 1_000_000, {}, {}, None, None, None, None, False),
        training=training,
        seeds=Seeds.all(seed),
        metrics=found if status == "success" else {},
        diagnostics={
            name: record.DiagnosticEntry("success", None, 1, 0, (), found) for name, found in (details or {}).items()
        },
        findings=(),
        environment=record.Environment(
            rote_bench="0",
            git_commit=None,
            git_dirty=dirty,
            python="3",
            torch="2",
            transformers="5",
            platform="p",
            cpu="c",
            device="cpu",
            threads=1,
            dtype="float32",
            processes=1,
            precision="float32",
            compiled=False,
            deterministic=True,
            remote_code=False,
            batch_size=None,
        ),
        timings=record.Timings(0, 0, 0, 0, 0, 0, 0, 0),
        artifacts=(),
        warnings=(),
    )
