"""Every diagnostic of a cell, each on its own: whatever breaks in one leaves the rest of the report alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..diagnostics import NotApplicable
from ..report import write
from ..report.record import DiagnosticEntry, Metric
from ..spec.options import build as build_options
from .accept import Accepted, accept

if TYPE_CHECKING:
    from ..plugins import Registry
    from ..spec.model import DiagnosticSpec
    from ..subject import Subject
    from .cell import Cell


def diagnose(cell: Cell, subject: Subject) -> tuple[dict[str, DiagnosticEntry], dict[str, Metric]]:
    """Run the diagnostics of the spec.

    Returns:
        What became of each, and all their metrics, by name.
    """
    table, chosen = cell.registry.table("diagnostics"), cell.spec.diagnostics
    owners = {measure.name: each.name for each in reversed(chosen) for measure in table[each.name].metrics}
    entries: dict[str, DiagnosticEntry] = {}
    metrics: dict[str, Metric] = {}
    for number, each in enumerate(chosen, 1):
        cell.progress.stage(f"diagnosing {number}/{len(chosen)}: {each.name}")
        others = {metric: owner for metric, owner in owners.items() if owner != each.name}
        entry, measured = _one(cell, subject, each, others)
        entries[each.name] = entry
        metrics |= measured
    return entries, metrics


def _one(
    cell: Cell, subject: Subject, chosen: DiagnosticSpec, others: Mapping[str, str]
) -> tuple[DiagnosticEntry, Mapping[str, Metric]]:
    cls = cell.registry.table("diagnostics")[chosen.name]
    before = time.monotonic()
    accepted = Accepted({}, {}, {})

    def entry(status: Literal["success", "failed", "not_applicable"], reason: str | None) -> DiagnosticEntry:
        return DiagnosticEntry(
            status=status,
            reason=reason,
            version=cls.version,
            seconds=time.monotonic() - before,
            metrics=tuple(sorted(accepted.metrics)),
            details=accepted.details,
        )

    try:
        diagnostic = cls(build_options(cls.Options, chosen.options), subject.spec.seeds.bootstrap)
        found = accept(diagnostic, diagnostic.run(subject), subject, others)
        if found.records:
            write.write_table(cell.folder / f"{chosen.name}.parquet", found.records)
    except NotApplicable as error:
        return entry("not_applicable", str(error) or "it does not say why"), {}
    except (Exception, SystemExit) as error:  # a stranger's failure belongs into the report and must harm nothing else
        reason = _one_line(error)
        cell.warn(f"diagnostic {chosen.name} failed: {reason}")
        if cell.progress.debug:
            raise
        return entry("failed", reason), {}
    accepted = found
    return entry("success", None), accepted.metrics


def draw_figures(
    diagnostics: Mapping[str, DiagnosticEntry],
    registry: Registry,
    folder: Path,
    *,
    warn: Callable[[str], None],
    debug: bool = False,
) -> list[Path]:
    """One figure for each diagnostic that has one; a figure that fails is a warning.

    Args:
        warn: receives a line for each that fails.
        debug: let the error of a figure through.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, entry in diagnostics.items():
        cls = registry.table("diagnostics").get(name)
        if cls is None or entry.status != "success":
            continue
        path, partial = folder / f"{name}.png", folder / f".{name}.png"
        try:
            if not cls.draw(entry.details, partial):
                continue
            if not partial.is_file():
                raise FileNotFoundError("draw says that it wrote a file, and there is none")
            os.replace(partial, path)
            drawn.append(path)
        except (Exception, SystemExit) as error:  # the numbers are worth more than their picture
            warn(f"figure of {name} failed: {_one_line(error)}")
            if debug:
                raise
        finally:
            partial.unlink(missing_ok=True)
    return drawn


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
