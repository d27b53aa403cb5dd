"""From admitted reports to the content of ``leaderboard.json``: equal reports give equal content, in any order."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..findings import INCONCLUSIVE, NOT_APPLICABLE, NOT_REPLICATED, REPLICATED
from ..report import compare
from ..report.provenance import DISTRIBUTION, installed
from .collect import Collection
from .entry import COMPONENTS, CURVES, Entry
from .rank import GATES, RULE, Row, comparisons, measure, rank, rounded

SCHEMA_VERSION = 1
MAIN_RATE = 0.05
MOST_SERIES = 5  # cells of a row whose curves are kept
VERDICTS = (REPLICATED, NOT_REPLICATED, INCONCLUSIVE, NOT_APPLICABLE)
Known = Mapping[str, tuple[int, str]]


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


def assemble(collection: Collection, known: Known) -> dict[str, Any]:
    """The whole board.

    Args:
        known: label of each shipped task -> its version and content hash.
    """
    refused = [{"path": r.path, "reason": r.reason, "kind": "refused"} for r in collection.refusals]
    entries = sorted(collection.entries, key=lambda e: e.path)
    counted, aside = select(entries, known)
    groups = group(counted, known)
    failed = Counter(r.cell for r in collection.refusals if r.cell is not None)
    findings = _findings(groups)
    tasks = [_task(one, failed if one.main else Counter(), findings.get(one.label, [])) for one in groups]
    return {
        "schema_version": SCHEMA_VERSION,
        "rote_bench": installed(DISTRIBUTION),
        "rule": RULE,
        "gates": dict(GATES),
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


def select(entries: Sequence[Entry], known: Known) -> tuple[list[Entry], list[dict[str, str]]]:
    """The reports that count, and those that are set aside with the reason."""
    newest: dict[str, int] = {label: version for label, (version, _) in known.items()}
    for entry in entries:
        newest[entry.task] = max(entry.version, newest.get(entry.task, 0))
    aside: list[dict[str, str]] = []
    by_identity: dict[str, Entry] = {}
    by_cell: dict[tuple[Any, ...], Entry] = {}
    # A report from committed code stands for its cell before one from changed code does.
    for entry in sorted(entries, key=lambda e: (bool(e.environment["git_dirty"]), e.path)):
        cell = (entry.task, entry.content, entry.model, entry.setup, entry.rate, entry.seeds)
        kind, reason = "barred", entry.barred
        if reason is None and entry.version < newest[entry.task]:
            reason = f"version {entry.version} of the task {entry.task}; version {newest[entry.task]} is the newest"
        elif reason is None and entry.identity in by_identity:
            kind, reason = "duplicate", f"the same cell as {by_identity[entry.identity].path}"
        elif reason is None and cell in by_cell:
            reason = f"another run of the cell in {by_cell[cell].path}, which differs in code or precision"
        if reason is None:
            by_identity[entry.identity] = by_cell[cell] = entry
        else:
            aside.append({"path": entry.path, "reason": reason, "kind": kind})
    return sorted(by_cell.values(), key=lambda e: e.path), aside


def group(entries: Sequence[Entry], known: Known) -> list[Group]:
    """Reports by task, those with other examples under a label of their own."""
    by_task: dict[str, dict[str, list[Entry]]] = {}
    for entry in entries:
        by_task.setdefault(entry.task, {}).setdefault(entry.content, []).append(entry)
    out = []
    for task, contents in sorted(by_task.items()):
        common = min(contents, key=lambda content: (-len(contents[content]), content))
        main = known[task][1] if task in known else common
        for content, members in sorted(contents.items()):
            own = content == main
            out.append(Group(task if own else f"{task} [{content[:8]}]", own, members))
    return out


def rows_of(one: Group, failed: Mapping[tuple[str, str, float], int]) -> list[Row]:
    """A row for each model, setup and noise rate; the setup of most of a model's reports has its plain name."""
    by_model: dict[str, dict[str, list[Entry]]] = {}
    for entry in one.entries:
        by_model.setdefault(entry.model, {}).setdefault(entry.setup, []).append(entry)
    out = []
    for model, setups in sorted(by_model.items()):
        main = min(setups, key=lambda setup: (-len(setups[setup]), setup))
        for setup, members in sorted(setups.items()):
            twins = [e for e in members if e.rate == 0]
            for rate in sorted({e.rate for e in members}):
                cells = sorted((e for e in members if e.rate == rate), key=lambda e: (e.seeds, e.path))
                own = setup == main
                name = model if own else f"{model} [{setup[:8]}]"
                count = failed.get((one.label, model, rate), 0) if own else 0
                out.append(Row(name, rate, cells, [] if rate == 0 else twins, count, not own))
    return out


def _task(one: Group, failed: Mapping[tuple[str, str, float], int], findings: list[dict[str, Any]]) -> dict[str, Any]:
    rows = rows_of(one, failed)
    for row in rows:
        row.marks += _marks(row)
        measure(row)
    rank(rows)
    rates = sorted({row.rate for row in rows})
    noisy = [rate for rate in rates if rate > 0]
    main = MAIN_RATE if MAIN_RATE in noisy else noisy[0] if noisy else None

    def order(row: Row) -> tuple[Any, ...]:
        return (row.rate != main, row.rate == 0, row.rate, row.rank is None, row.rank or 0, row.model)

    first = one.entries[0]
    return {
        "task": one.label,
        "name": first.name,
        "profile": first.profile,
        "title": first.title,
        "version": first.version,
        "content_hash": first.content,
        "main_rate": main,
        "noise_rates": rates,
        "rows": [_row(row) for row in sorted(rows, key=order)],
        "comparisons": comparisons(rows),
        "findings": findings,
    }


def _row(row: Row) -> dict[str, Any]:
    first, cells = row.cells[0], row.cells
    return {
        "model": row.model,
        "model_type": first.model_type,
        "source": first.source,
        "parameters": first.parameters,
        "setup": first.setup,
        "noise_rate": row.rate,
        "rank": row.rank,
        "reason": row.reason,
        "marks": sorted(set(row.marks)),
        "seeds": [cell.seed for cell in cells],
        "cells": len(cells),
        "failed": row.failed,
        "metrics": dict(sorted(row.metrics.items())),
        "findings": _counts(cells),
        "series": _series(cells[:MOST_SERIES]),
        "environment": {
            "git_commits": _each(cells, "git_commit"),
            "torch": _each(cells, "torch"),
            "transformers": _each(cells, "transformers"),
            "cpu": _each(cells, "cpu"),
            "precision": _each(cells, "precision"),
            "rote_bench": _each(cells, "rote_bench"),
        },
        "artifacts": {
            "present": sum(cell.artifacts[0] for cell in cells),
            "missing": sum(cell.artifacts[1] for cell in cells),
        },
        "reports": [{"path": c.path, "sha256": c.sha256, "identity": c.identity, "seed": c.seed} for c in cells],
    }


def _each(cells: Sequence[Entry], key: str) -> list[str]:
    return sorted({str(cell.environment[key]) for cell in cells if cell.environment[key] is not None})


def _marks(row: Row) -> list[str]:
    """What a reader should know about a row before trusting it."""
    cells = row.cells
    n = len(cells)
    out = []
    for key, text in (
        ("git_dirty", "from code with uncommitted changes"),
        ("remote_code", "with code that came with the weights"),
    ):
        count = sum(bool(cell.environment[key]) for cell in cells)
        if count:
            out.append(f"{text}: {count} of {n} cells")
    if n == 1:
        out.append("one seed, so that nothing is known about others")
    if row.other_setup:
        out.append("recipe, overrides, weights or dtype differ from those under the plain name")
    if len(_each(cells, "precision")) > 1:
        out.append("cells differ in arithmetic precision")
    name = row.cells[0].model
    if name.startswith("hf:") and name[3:4] in "./~":
        out.append("weights from a local folder, which others cannot load")
    odd = Counter(text for cell in cells for text in cell.odd)
    out += [f"diagnostic {text} in {count} of {n} cells" for text, count in odd.items()]
    return out


def _counts(cells: Sequence[Entry]) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {}
    for cell in cells:
        for name, (claim, verdict) in cell.findings.items():
            entry = out.setdefault(name, {"claim": claim, **dict.fromkeys(VERDICTS, 0)})
            entry[verdict] += 1
    return dict(sorted(out.items()))


def _series(cells: Sequence[Entry]) -> dict[str, list[dict[str, Any]]]:
    """What the page draws of the first cells: learning curves, the lens on noisy examples, patching."""
    columns = ("step", "examples_seen", *CURVES)
    learning = [
        {
            "seed": cell.seed,
            "snapshots": dict(sorted(cell.snapshots.items())),
            "points": [dict(zip(columns, point, strict=True)) for point in cell.curve],
        }
        for cell in cells
        if cell.curve
    ]
    lens = [
        {"seed": cell.seed, "layers": cell.lens[0], "true_top1": cell.lens[1], "label_top1": cell.lens[2]}
        for cell in cells
        if cell.lens is not None
    ]
    patching = [
        {
            "seed": cell.seed,
            "layers": cell.patching["layers"],
            "components": {
                c: {key: cell.patching[f"{c} {key}"] for key in ("validation_accuracy", "memorization_rate")}
                for c in COMPONENTS
                if f"{c} validation_accuracy" in cell.patching
            },
        }
        for cell in cells
        if cell.patching is not None
    ]
    return {"learning": learning, "lens": lens, "patching": patching}


def _findings(groups: Sequence[Group]) -> dict[str, list[dict[str, Any]]]:
    """Label -> the findings that need several cells, from the tasks' own examples and the models' main setups."""
    reports = []
    for one in groups:
        if one.main:
            kept = {cell.path for row in rows_of(one, {}) if not row.other_setup for cell in row.cells}
            reports += [entry.as_report() for entry in one.entries if entry.path in kept]
    labels = sorted(one.label for one in groups if one.main)
    out: dict[str, list[dict[str, Any]]] = {}
    for finding in compare.decide(reports):
        found = dict(finding)
        for key in ("value", "ci_low", "ci_high"):
            found[key] = rounded(found[key])
        task = finding["task"]
        home = task if task in labels else next(label for label in labels if label.startswith(f"{task}-"))
        out.setdefault(home, []).append(found)
    return out
