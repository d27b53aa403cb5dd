"""What the board keeps of a report: a few kilobytes of its content, and nothing that was not looked at."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..findings import decide
from ..plain import JsonObject
from ..report.conditions import setup
from ..report.record import Report
from .series import series

if TYPE_CHECKING:
    from ..plugins import Registry


@dataclass(frozen=True, slots=True)
class Entry:
    """One admitted report.

    Attributes:
        path: relative to the common root, with forward slashes.
        sha256: of its file.
        report: without details, configuration, identity parts and artifacts, which no board needs.
        setup: hash of what decides a model's result apart from task, noise rate and seeds.
        drawn: ``series`` as JSON, which takes a tenth of the memory.
        artifacts: how many of the files beside the report are there, and how many are not.
    """

    path: str
    sha256: str
    report: Report
    setup: str
    drawn: str
    artifacts: tuple[int, int]

    @property
    def seed(self) -> str:
        """A short name: the seed, or all five when they differ."""
        return self.report.seeds.label

    @property
    def series(self) -> Mapping[str, JsonObject]:
        """Diagnostic -> what the page draws of it."""
        found: Mapping[str, JsonObject] = json.loads(self.drawn)
        return found

    @property
    def barred(self) -> str | None:
        """Why the report does not count although nothing is wrong with it."""
        limit = self.report.data.limit
        return None if limit is None else f"only {limit} examples of each split were used (--limit)"


def make(report: Report, registry: Registry, *, path: str, sha256: str, artifacts: tuple[int, int]) -> Entry:
    """The entry of a report that was found to be sound."""
    return Entry(path, sha256, _slim(report), setup(report), json.dumps(series(report, registry)), artifacts)


def _slim(report: Report) -> Report:
    task, spec = report.task, report.task.spec
    # texts that thousands of reports share are kept once
    metrics = {
        sys.intern(name): replace(m, split=sys.intern(m.split), ci_method=m.ci_method and sys.intern(m.ci_method))
        for name, m in report.metrics.items()
    }
    return replace(
        report,
        identity=replace(report.identity, parts={}, code={}),
        task=replace(task, spec={key: spec.get(key) for key in ("name", "profile", "title")}),
        model=replace(report.model, config={}, anatomy={}),
        metrics=metrics,
        findings=decide(report),  # equal to its own, or it would not be sound
        diagnostics={name: replace(entry, metrics=(), details={}) for name, entry in report.diagnostics.items()},
        artifacts=(),
        warnings=(),
    )
