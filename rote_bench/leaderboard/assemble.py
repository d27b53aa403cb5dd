"""From admitted reports to the content of ``leaderboard.json``: equal reports give equal content, in any order."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Collection as Several
from collections.abc import Mapping, Sequence
from statistics import median_low, mode
from typing import Any

from ..findings import VERDICTS, AcrossFinding, decide_across
from ..hashing import digest
from ..measures import Measure, in_columns
from ..plain import JsonObject
from ..report import escape
from ..report.conditions import differing, flat, told
from ..report.provenance import DISTRIBUTION, installed
from ..report.record import Report
from .collect import Collection
from .disclose import disclosed, indexed
from .entry import SHORT, Cell, Checked, Entry
from .planned import contrasts
from .published import Accepted
from .rank import GATES, RANKING, RULE, Comparison, Row, measure, rank, rounded
from .select import BARRED, CONFLICT, DUPLICATE, REFUSED, failures, row_of, select
from .shipped import Known, Shipped, recipe_hash

SCHEMA_VERSION = 4
MAIN_RATE = 0.05
MOST_SERIES = 5  # cells of a row whose curves are kept
OF_ALL = ("leakage_kernel", "neighbourhood")  # diagnostics whose few numbers are kept of all cells
Measures = Mapping[str, Measure]


@dataclasses.dataclass
class Group:
    """All reports that are compared: of one task with the same examples, trained by the same recipe.

    Attributes:
        label: the task with its profile, and a part of a hash unless examples and recipe are those of the shipped task.
        main: whether they are.
        title: as the shipped task file has it; the label of any other task.
        recipe: in what the recipe differs from the shipped one, in words; None where it does not.
        published: the comparison whose cells these are, each model by its own recipe; None for all others.
        rows: once they are measured and ranked.
        pairs: every two models that are ranked.
    """

    label: str
    main: bool
    title: str
    recipe: str | None
    entries: list[Entry]
    published: Accepted | None = None
    rows: list[Row] = dataclasses.field(default_factory=list)
    pairs: list[Comparison] = dataclasses.field(default_factory=list)


def assemble(
    collection: Collection,
    known: Known,
    measures: Measures,
    published: Several[str] = (),
    accepted: Sequence[Accepted] = (),
) -> dict[str, Any]:
    """The whole board.

    Args:
        known: label of each shipped task -> what its file says.
        measures: name -> declaration of every metric that is known.
        published: hashes of the reports that stood on the board before.
        accepted: comparisons, made of the reports that count.
    """
    taken = {path for one in accepted for path in one.paths}
    refusals = [r for r in collection.refusals if r.path not in taken]
    refused = [{"path": r.path, "reason": r.reason, "kind": REFUSED} for r in refusals]
    chosen = select(collection.entries, known, published)
    groups = [*map(_published, accepted), *group([e for e in chosen.counted if e.path not in taken], known)]
    groups.sort(key=lambda one: (one.published is None, not one.main, one.label))
    failed = failures(((r.path, r.cell) for r in refusals if r.cell is not None), chosen.counted)
    for one in groups:
        one.rows = rows_of(one, failed)
        for row in one.rows:
            row.marks += [*_marks(row), *(mark for cell in row.cells for mark in chosen.marks.get(cell.path, ()))]
            measure(row, measures, None if one.published is None else one.published.asked)
        one.pairs = rank(one.rows)
    decided = _contrasts(groups)
    tasks = [_task(one, found, decided) for one, found in zip(groups, _findings(groups), strict=True)]
    aside = Counter(one["kind"] for one in chosen.aside)
    return {
        "schema_version": SCHEMA_VERSION,
        "rote_bench": installed(DISTRIBUTION),
        "rule": RULE,
        "gates": dict(GATES),
        "columns": [one.name for one in in_columns(measures.values())],
        "metrics": _declared(tasks, measures),
        "reports": {
            "found": len(collection.entries) + len(collection.refusals),
            "counted": len(chosen.counted) + len(collection.refusals) - len(refusals),
            "refused": len(refused) + aside[REFUSED],
            "barred": aside[BARRED],
            "conflicts": aside[CONFLICT],
            "duplicates": aside[DUPLICATE],
        },
        "artifacts": {
            "present": sum(e.artifacts[0] for e in chosen.counted),
            "missing": sum(e.artifacts[1] for e in chosen.counted),
        },
        "tasks": tasks,
        "refused": sorted([*refused, *chosen.aside], key=lambda one: (one["path"], one["reason"])),
    }


def _declared(tasks: Sequence[Mapping[str, Any]], measures: Measures) -> dict[str, dict[str, Any]]:
    """What is said of every metric that has a column or stands in a row."""
    there = {name for task in tasks for row in task["rows"] for name in row["metrics"]}
    return {
        name: {"heading": one.heading, "meaning": one.meaning, "higher_is_better": one.higher_is_better}
        for name, one in sorted(measures.items())
        if name in there or one.column is not None
    }


def group(entries: Sequence[Entry], known: Known) -> list[Group]:
    """What is compared with each other, shipped tasks first.

    Whether reports stand under the plain name of a task hangs on them and on the shipped file alone, never on others.
    """
    alike: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in entries:
        alike.setdefault((entry.cell.task, entry.cell.content, entry.cell.recipe), []).append(entry)
    out = [_group(*key, members, known.get(key[0])) for key, members in sorted(alike.items())]
    return sorted(out, key=lambda one: (not one.main, one.label))


def _group(label: str, content: str, recipe: str, members: list[Entry], shipped: Shipped | None) -> Group:
    if shipped is None or content != shipped.content:
        named = f"{label} [{digest([content, recipe])[:SHORT]}]"
        return Group(named, False, named, None, members)
    if recipe == recipe_hash(shipped.recipe):
        return Group(label, True, shipped.title, None, members)
    how = _told(json.loads(members[0].recipe), shipped)
    return Group(f"{label} [recipe {recipe[:SHORT]}]", False, f"{shipped.title}, another recipe", how, members)


def _told(recipe: Mapping[str, Any], shipped: Shipped) -> str:
    """In what a recipe differs from that of a shipped task, as far as a board lets reports speak."""
    ours = flat(shipped.recipe)
    given = {name: text for name, text in flat(recipe).items() if re.fullmatch(r"[\w.]{1,60}", name, re.ASCII)}
    shown = {name: text for name, text in given.items() if re.fullmatch(r"[\w.+-]{1,20}", text, re.ASCII)}
    return told(shown, [name for name in differing([ours, given]) if name in ours or name.startswith("model.")])


def rows_of(one: Group, failed: Mapping[Cell, int]) -> list[Row]:
    """A row for each model and noise rate."""
    by_model: dict[str, dict[float, list[Entry]]] = {}
    for entry in sorted(one.entries, key=lambda e: (dataclasses.astuple(e.report.seeds), e.path)):
        by_model.setdefault(entry.model, {}).setdefault(entry.cell.rate, []).append(entry)
    return [
        Row(model, rate, cells, [] if rate == 0 else by_rate.get(0.0, []), failed.get(row_of(cells[0].cell), 0))
        for model, by_rate in sorted(by_model.items())
        for rate, cells in sorted(by_rate.items())
    ]


def _published(found: Accepted) -> Group:
    """The cells of one task of a comparison, whatever recipe each model has."""
    comparison = found.comparison
    several = len({each.task for each in comparison.entrants}) > 1
    title = escape.plain(f"{comparison.title}: {found.task}" if several else comparison.title)
    return Group(f"{found.task} [comparison {comparison.name}]", False, title, None, found.entries, found)


def _contrasts(groups: Sequence[Group]) -> dict[str, dict[str, list[JsonObject]]]:
    """Comparison -> task -> its planned contrasts, corrected over all tasks of the comparison together."""
    rows: dict[str, dict[tuple[str, str, float], Row]] = {}
    published = {one.published.comparison.name: one.published.comparison for one in groups if one.published}
    for one in groups:
        if one.published is not None:
            rows.setdefault(one.published.comparison.name, {}).update(indexed(one.published, one.rows))
    out: dict[str, dict[str, list[JsonObject]]] = {}
    for name, comparison in published.items():
        by_task = out.setdefault(name, {})
        for contrast, found in zip(comparison.contrasts, contrasts(comparison.contrasts, rows[name]), strict=True):
            by_task.setdefault(contrast.tasks[0], []).append(found)
    return out


def _task(
    one: Group, findings: list[dict[str, Any]], decided: Mapping[str, Mapping[str, list[JsonObject]]]
) -> dict[str, Any]:
    rows = one.rows
    rates = sorted({row.rate for row in rows})
    noisy = [rate for rate in rates if rate > 0]
    main = MAIN_RATE if MAIN_RATE in noisy else noisy[0] if noisy else None

    def order(row: Row) -> tuple[Any, ...]:
        return (row.rate != main, row.rate == 0, row.rate, row.ranks is None, row.value(RANKING) or 0.0, row.model)

    said, found = None, one.published
    if found is not None:
        said = disclosed(found, rows, one.pairs, decided[found.comparison.name].get(found.task, []), main)
    name, profile, version, content = _examples(one)
    return {
        "task": one.label,
        "name": name,
        "profile": profile,
        "title": one.title,
        "recipe": one.recipe,
        "version": version,
        "content_hash": content,
        "main_rate": main,
        "noise_rates": rates,
        "rows": [_row(row) for row in sorted(rows, key=order)],
        "comparisons": [comparison.entry() for comparison in one.pairs],
        "findings": findings,
        "comparison": said,
    }


def _examples(one: Group) -> tuple[str, str | None, int, str]:
    """Name, profile, version and content of the task; of a comparison of which no model has cells, as it is planned."""
    if one.entries:
        task = one.entries[0].report.task
        return task.name, task.profile, task.version, task.content_hash
    assert one.published is not None
    spec = one.published.entrants[0].spec
    return spec.name, spec.profile, spec.version, spec.content_hash()


def _row(row: Row) -> dict[str, Any]:
    first, cells = row.cells[0], row.cells
    checked = zip(*(cell.checked for cell in cells), strict=True)
    return {
        "model": row.model,
        "model_type": mode(cell.report.model.model_type for cell in cells),
        "source": first.report.model.source,
        "parameters": median_low(cell.report.model.parameters for cell in cells),
        "setup": first.setup,
        "noise_rate": row.rate,
        "rank_low": None if row.ranks is None else row.ranks[0],
        "rank_high": None if row.ranks is None else row.ranks[1],
        "reason": row.reason,
        "marks": sorted(set(row.marks)),
        "seeds": [cell.seed for cell in cells],
        "cells": len(cells),
        "failed": row.failed,
        "values": [{"seed": seed, "value": rounded(value)} for seed, value in row.by_seed(RANKING).items()],
        "metrics": {name: dataclasses.asdict(number) for name, number in sorted(row.metrics.items())},
        "findings": _counts(cells),
        "series": _series(cells),
        "environment": {
            "git_commits": _each(cells, "git_commit"),
            **{key: _each(cells, key) for key in ("torch", "transformers", "cpu", "precision", "rote_bench")},
        },
        "artifacts": {
            "present": sum(cell.artifacts[0] for cell in cells),
            "missing": sum(cell.artifacts[1] for cell in cells),
        },
        "checked": dict(zip(Checked._fields, map(sum, checked), strict=True)),
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
    if len({cell.report.model.parameters for cell in row.cells}) > 1:
        out.append("cells differ in their numbers of parameters")
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
            entry = out.setdefault(finding.id, {"claim": finding.claim, **dict.fromkeys(VERDICTS, 0), "reasons": []})
            entry[finding.verdict] += 1
            told = {"verdict": finding.verdict, "reason": finding.reason}
            same = next((one for one in entry["reasons"] if told.items() <= one.items()), None)
            if same is None:
                entry["reasons"].append({**told, "seeds": [cell.seed]})
            else:
                same["seeds"].append(cell.seed)
    return dict(sorted(out.items()))


def _series(cells: Sequence[Entry]) -> dict[str, list[dict[str, Any]]]:
    """What the page draws of cells, by diagnostic: curves of the first ones, what takes little room of all."""
    found = [(cell.seed, cell.series) for cell in cells]
    out: dict[str, list[dict[str, Any]]] = {}
    for name in sorted({name for _, series in found for name in series}):
        some = found if name in OF_ALL else found[:MOST_SERIES]
        drawn = [{**series[name], "seed": seed} for seed, series in some if name in series]
        if drawn:
            out[name] = drawn
    return out


def _findings(groups: Sequence[Group]) -> list[list[dict[str, Any]]]:
    """Of each group the findings that need several cells.

    Those that need several profiles of a task are decided for shipped ones alone: of others nothing says that profiles
    of one name belong together.
    """
    out: list[list[dict[str, Any]]] = [[] for _ in groups]
    homes = {one.label: i for i, one in enumerate(groups) if one.main}
    for finding in decide_across(cell for one in groups if one.main for cell in _named(one)):
        task = finding.task
        home = task if task in homes else next(label for label in homes if label.startswith(f"{task}-"))
        out[homes[home]].append(_finding(finding, task))
    for i, one in enumerate(groups):
        if not one.main:
            alone = decide_across(_named(one))
            out[i] = [_finding(finding, one.label) for finding in alone if finding.noise_rate is not None]
    return out


def _named(one: Group) -> list[Report]:
    """The reports of a group, their models called as the board does."""
    return [dataclasses.replace(e.report, model=dataclasses.replace(e.report.model, name=e.model)) for e in one.entries]


def _finding(finding: AcrossFinding, task: str) -> dict[str, Any]:
    estimate = finding.estimate
    return {
        "task": task,
        "model": finding.model,
        "noise": finding.noise_rate,
        "id": finding.id,
        "verdict": finding.verdict,
        "reason": finding.reason,
        **{key: rounded(getattr(estimate, key, None)) for key in ("value", "ci_low", "ci_high")},
    }
