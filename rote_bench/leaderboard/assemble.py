"""From admitted reports to the content of ``leaderboard.json``: equal reports give equal content, in any order."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..findings import VERDICTS, decide_across
from ..measures import Measure, in_columns
from ..report.provenance import DISTRIBUTION, installed
from .collect import Collection
from .entry import Entry
from .rank import GATES, RANKING, RULE, Row, measure, rank, rounded

SCHEMA_VERSION = 3
MAIN_RATE = 0.05
MOST_SERIES = 5  # cells of a row whose curves are kept
Known = Mapping[str, tuple[int, str]]
Measures = Mapping[str, Measure]


@dataclasses.dataclass
class Group:
    """All reports of a task with the same examples.

    Attributes:
        label: the task with its profile, and a part of its content's hash when that is not the task's own.
        main: whether the content is that of the shipped task, or else that of most reports.
    """

    label: str
    main: bool
    entries: list[Entry]


def assemble(collection: Collection, known: Known, measures: Measures) -> dict[str, Any]:
    """The whole board.

    Args:
        known: label of each shipped task -> its version and content hash.
        measures: name -> declaration of every metric that is known.
    """
    refused = [{"path": r.path, "reason": r.reason, "kind": "refused"} for r in collection.refusals]
    entries = sorted(collection.entries, key=lambda e: e.path)
    counted, aside = select(entries, known)
    groups = group(counted, known)
    failed = Counter(r.cell for r in collection.refusals if r.cell is not None)
    findings = _findings(groups)
    tasks = [_task(one, failed if one.main else Counter(), findings.get(one.label, []), measures) for one in groups]
    return {
        "schema_version": SCHEMA_VERSION,
        "rote_bench": installed(DISTRIBUTION),
        "rule": RULE,
        "gates": dict(GATES),
        "columns": [one.name for one in in_columns(measures.values())],
        "metrics": _declared(tasks, measures),
        "reports": {
            "found": len(entries) + len(refused),
            "counted": len(counted),
            "refused": len(refused),
            "barred": sum(one["kind"] == "barred" for one in aside),
            "duplicates": sum(one["kind"] == "duplicate" for one in aside),
        },
        "artifacts": {
            "present": sum(e.artifacts[0] for e in counted),
            "missing": sum(e.artifacts[1] for e in counted),
        },
        "tasks": tasks,
        "refused": sorted([*refused, *aside], key=lambda one: (one["path"], one["reason"])),
    }


def _declared(tasks: Sequence[Mapping[str, Any]], measures: Measures) -> dict[str, dict[str, Any]]:
    """What is said of every metric that has a column or stands in a row."""
    there = {name for task in tasks for row in task["rows"] for name in row["metrics"]}
    return {
        name: {"heading": one.heading, "meaning": one.meaning, "higher_is_better": one.higher_is_better}
        for name, one in sorted(measures.items())
        if name in there or one.column is not None
    }


def select(entries: Sequence[Entry], known: Known) -> tuple[list[Entry], list[dict[str, str]]]:
    """The reports that count, and those that are set aside with the reason."""
    newest: dict[str, int] = {label: version for label, (version, _) in known.items()}
    for entry in entries:
        task = entry.report.task
        newest[task.label] = max(task.version, newest.get(task.label, 0))
    aside: list[dict[str, str]] = []
    by_identity: dict[str, Entry] = {}
    by_cell: dict[tuple[object, ...], Entry] = {}
    # A report from committed code stands for its cell before one from changed code does.
    for entry in sorted(entries, key=lambda e: (bool(e.report.environment.git_dirty), e.path)):
        report, task = entry.report, entry.report.task
        cell = (task.label, task.content_hash, report.model.name, entry.setup, report.data.noise_rate, report.seeds)
        identity = report.identity.hash
        kind, reason = "barred", entry.barred
        if reason is None and task.version < newest[task.label]:
            reason = f"version {task.version} of the task {task.label}; version {newest[task.label]} is the newest"
        elif reason is None and identity in by_identity:
            kind, reason = "duplicate", f"the same cell as {by_identity[identity].path}"
        elif reason is None and cell in by_cell:
            reason = f"another run of the cell in {by_cell[cell].path}, which differs in code or precision"
        if reason is None:
            by_identity[identity] = by_cell[cell] = entry
        else:
            aside.append({"path": entry.path, "reason": reason, "kind": kind})
    return sorted(by_cell.values(), key=lambda e: e.path), aside


def group(entries: Sequence[Entry], known: Known) -> list[Group]:
    """Reports by task, those with other examples under a label of their own."""
    by_task: dict[str, dict[str, list[Entry]]] = {}
    for entry in entries:
        task = entry.report.task
        by_task.setdefault(task.label, {}).setdefault(task.content_hash, []).append(entry)
    out = []
    for label, contents in sorted(by_task.items()):
        common = min(contents, key=lambda content: (-len(contents[content]), content))
        main = known[label][1] if label in known else common
        for content, members in sorted(contents.items()):
            own = content == main
            out.append(Group(label if own else f"{label} [{content[:8]}]", own, members))
    return out


def rows_of(one: Group, failed: Mapping[tuple[str, str, float], int]) -> list[Row]:
    """A row for each model, setup and noise rate; the setup of most of a model's reports has its plain name."""
    by_model: dict[str, dict[str, list[Entry]]] = {}
    for entry in one.entries:
        by_model.setdefault(entry.report.model.name, {}).setdefault(entry.setup, []).append(entry)
    out = []
    for model, setups in sorted(by_model.items()):
        main = min(setups, key=lambda setup: (-len(setups[setup]), setup))
        for setup, members in sorted(setups.items()):
            by_rate: dict[float, list[Entry]] = {}
            for entry in sorted(members, key=lambda e: (dataclasses.astuple(e.report.seeds), e.path)):
                by_rate.setdefault(float(entry.report.data.noise_rate), []).append(entry)
            for rate, cells in sorted(by_rate.items()):
                own = setup == main
                name = model if own else f"{model} [{setup[:8]}]"
                count = failed.get((one.label, model, rate), 0) if own else 0
                twins = [] if rate == 0 else by_rate.get(0.0, [])
                out.append(Row(name, rate, cells, twins, count, not own))
    return out


def _task(
    one: Group, failed: Mapping[tuple[str, str, float], int], findings: list[dict[str, Any]], measures: Measures
) -> dict[str, Any]:
    rows = rows_of(one, failed)
    for row in rows:
        row.marks += _marks(row)
        measure(row, measures)
    comparisons = rank(rows)
    rates = sorted({row.rate for row in rows})
    noisy = [rate for rate in rates if rate > 0]
    main = MAIN_RATE if MAIN_RATE in noisy else noisy[0] if noisy else None

    def order(row: Row) -> tuple[Any, ...]:
        return (row.rate != main, row.rate == 0, row.rate, row.ranks is None, row.value(RANKING) or 0.0, row.model)

    task = one.entries[0].report.task
    return {
        "task": one.label,
        "name": task.name,
        "profile": task.profile,
        "title": task.title,
        "version": task.version,
        "content_hash": task.content_hash,
        "main_rate": main,
        "noise_rates": rates,
        "rows": [_row(row) for row in sorted(rows, key=order)],
        "comparisons": [comparison.entry() for comparison in comparisons],
        "findings": findings,
    }


def _row(row: Row) -> dict[str, Any]:
    first, model, cells = row.cells[0], row.cells[0].report.model, row.cells
    return {
        "model": row.model,
        "model_type": model.model_type,
        "source": model.source,
        "parameters": model.parameters,
        "setup": first.setup,
        "noise_rate": row.rate,
        "rank_low": None if row.ranks is None else row.ranks[0],
        "rank_high": None if row.ranks is None else row.ranks[1],
        "reason": row.reason,
        "marks": sorted(set(row.marks)),
        "seeds": [cell.seed for cell in cells],
        "cells": len(cells),
        "failed": row.failed,
        "metrics": {name: dataclasses.asdict(number) for name, number in sorted(row.metrics.items())},
        "findings": _counts(cells),
        "series": _series(cells[:MOST_SERIES]),
        "environment": {
            "git_commits": _each(cells, "git_commit"),
            **{key: _each(cells, key) for key in ("torch", "transformers", "cpu", "precision", "rote_bench")},
        },
        "artifacts": {
            "present": sum(cell.artifacts[0] for cell in cells),
            "missing": sum(cell.artifacts[1] for cell in cells),
        },
        "reports": [
            {"path": cell.path, "sha256": cell.sha256, "identity": cell.report.identity.hash, "seed": cell.seed}
            for cell in cells
        ],
    }


def _each(cells: Sequence[Entry], key: str) -> list[str]:
    values = (getattr(cell.report.environment, key) for cell in cells)
    return sorted({str(value) for value in values if value is not None})


def _marks(row: Row) -> list[str]:
    """What a reader should know about a row before trusting it."""
    environments = [cell.report.environment for cell in row.cells]
    n = len(environments)
    out = []
    for count, text in (
        (sum(bool(environment.git_dirty) for environment in environments), "from code with uncommitted changes"),
        (sum(environment.remote_code for environment in environments), "with code that came with the weights"),
    ):
        if count:
            out.append(f"{text}: {count} of {n} cells")
    if n == 1:
        out.append("one seed, so that nothing is known about others")
    if row.other_setup:
        out.append("recipe, overrides, weights, dtype or versions differ from those under the plain name")
    if len(_each(row.cells, "precision")) > 1:
        out.append("cells differ in arithmetic precision")
    name = row.cells[0].report.model.name
    if name.startswith("hf:") and name[3:4] in "./~":
        out.append("weights from a local folder, which others cannot load")
    failed = Counter(
        name
        for cell in row.cells
        for name, entry in sorted(cell.report.diagnostics.items())
        if entry.status == "failed"
    )
    out += [f"diagnostic {name} failed in {count} of {n} cells" for name, count in failed.items()]
    return out


def _counts(cells: Sequence[Entry]) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {}
    for cell in cells:
        for finding in cell.report.findings:
            entry = out.setdefault(finding.id, {"claim": finding.claim, **dict.fromkeys(VERDICTS, 0)})
            entry[finding.verdict] += 1
    return dict(sorted(out.items()))


def _series(cells: Sequence[Entry]) -> dict[str, list[dict[str, Any]]]:
    """What the page draws of the first cells, by diagnostic."""
    found = [(cell.seed, cell.series) for cell in cells]
    names = sorted({name for _, series in found for name in series})
    return {name: [{**series[name], "seed": seed} for seed, series in found if name in series] for name in names}


def _findings(groups: Sequence[Group]) -> dict[str, list[dict[str, Any]]]:
    """Label -> the findings that need several cells, from the tasks' own examples and the models' main setups."""
    main = [one for one in groups if one.main]
    rows = [row for one in main for row in rows_of(one, {}) if not row.other_setup]
    labels = sorted(one.label for one in main)
    out: dict[str, list[dict[str, Any]]] = {}
    for finding in decide_across(cell.report for row in rows for cell in row.cells):
        estimate = finding.estimate
        task = finding.task
        home = task if task in labels else next(label for label in labels if label.startswith(f"{task}-"))
        out.setdefault(home, []).append(
            {
                "task": task,
                "model": finding.model,
                "noise": finding.noise_rate,
                "id": finding.id,
                "verdict": finding.verdict,
                "reason": finding.reason,
                **{key: rounded(getattr(estimate, key, None)) for key in ("value", "ci_low", "ci_high")},
            }
        )
    return out
