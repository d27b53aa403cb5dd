"""Many reports as one table: models side by side, seeds aggregated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..statistics import Estimate, across_seeds
from .view import MEANINGS

COLUMNS: tuple[tuple[str, str], ...] = (
    ("validation_accuracy", "held-out accuracy"),
    ("counterfactual_memorization", "memorization"),
    ("early_clean_peak", "early clean peak"),
    ("memorization_lag", "memorization lag"),
    ("override_depth", "override depth"),
    ("patch_dissociation", "patch dissociation"),
)


def task_label(report: Mapping[str, Any]) -> str:
    """The task with its profile."""
    spec = report["task"]["spec"]
    return f"{spec['name']}-{spec['profile']}" if spec.get("profile") else str(spec["name"])


def columns(reports: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    """(metric, title) of every column: the main metrics, then those that only plugins measure."""
    more = sorted({name for report in reports for name in report["metrics"]} - MEANINGS.keys())
    return (*COLUMNS, *((name, name.replace("_", " ")) for name in more))


def rows(reports: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each task, model and noise rate, with every column's estimate over seeds."""
    reports = list(reports)
    shown = columns(reports)
    groups: dict[tuple[str, str, float], list[Mapping[str, Any]]] = {}
    for report in reports:
        key = (task_label(report), report["model"]["name"], report["data"]["noise_rate"])
        groups.setdefault(key, []).append(report)
    out = []
    for (task, model, rate), members in sorted(groups.items()):
        done = [r for r in members if r["status"] == "success"]
        row: dict[str, Any] = {
            "task": task,
            "model": model,
            "noise": rate,
            "seeds": len(done),
            "parameters": members[0]["model"]["parameters"],
            "failed": len(members) - len(done),
        }
        for name, _ in shown:
            row[name] = aggregate([r["metrics"].get(name) for r in done])
        out.append(row)
    return out


def aggregate(entries: Sequence[Mapping[str, Any] | None]) -> Estimate:
    """One metric over seeds; with one seed its own interval over examples."""
    known = [e for e in entries if e is not None and e["value"] is not None]
    if len(known) == 1 == len(entries):
        e = known[0]
        return Estimate(e["value"], e["ci_low"], e["ci_high"], e["ci_method"], e["n"])
    if not known or len(known) < len(entries):
        reasons = sorted({str(e["reason_if_null"]) for e in entries if e is not None and e["value"] is None})
        why = f": {reasons[0]}" if len(reasons) == 1 else ""
        return Estimate.missing(f"known for {len(known)} of {len(entries)} seeds{why}")
    return across_seeds([float(e["value"]) for e in known], np.random.default_rng(0))


def render(reports: Iterable[Mapping[str, Any]], style: str = "simple") -> str:
    """The table as text; ``style`` is any format of tabulate, such as ``github`` or ``latex``."""
    from tabulate import tabulate

    def cell(e: Estimate) -> str:
        if e.value is None:
            return "-"
        return f"{e.value:.3f}" if e.ci_low is None else f"{e.value:.3f} [{e.ci_low:.2f}, {e.ci_high:.2f}]"

    reports = list(reports)
    shown = columns(reports)
    header = ["task", "model", "parameters", "noise", "seeds", *(title for _, title in shown)]
    body = [
        [
            r["task"],
            r["model"],
            f"{r['parameters'] / 1e6:.2f}M",
            f"{r['noise']:g}",
            r["seeds"] if not r["failed"] else f"{r['seeds']} (+{r['failed']} failed)",
        ]
        + [cell(r[name]) for name, _ in shown]
        for r in rows(reports)
    ]
    return str(tabulate(body, headers=header, tablefmt=style, disable_numparse=True))
