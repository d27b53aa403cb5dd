"""A diagnostic's metrics again, from what a report keeps of it, by the diagnostic itself."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..report.record import Metric, Report
from ..spec.options import OptionFaults, build
from ..statistics import Estimate
from .untrusted import Unreadable, read_table

if TYPE_CHECKING:
    from ..diagnostics import Diagnostic, Records
    from ..plugins import Registry

Implied: TypeAlias = Estimate | float | None
EXACT = 1e-9
ROUNDING = 1e-6  # of a value that details kept in single precision


class Differs(Exception):
    """Something in a report is not what its diagnostic makes of it; the message says what."""


def diagnostic(report: Report, name: str, registry: Registry) -> Diagnostic[Any]:
    """The diagnostic that a report names, with the options that it ran with.

    Raises:
        Differs: when it is not known here, in that version or with those options.
    """
    version = report.diagnostics[name].version
    known = registry.table("diagnostics").get(name)
    if known is None:
        raise Differs(f"the diagnostic {name[:80]!a} is not known here; it needs its plugin")
    if version != known.version:
        raise Differs(f"{name}: its version {version} is not known here; this rote-bench has {known.version}")
    options = asked(report).get(name)
    if options is None:
        raise Differs(f"the task asks for no diagnostic {name}")
    try:
        found: Diagnostic[Any] = known(build(known.Options, options), seed=report.seeds.bootstrap)
    except (OptionFaults, TypeError) as error:
        raise Differs(f"the options of {name} are not its own: {error}") from None
    return found


def asked(report: Report) -> dict[str, Mapping[str, Any]]:
    """The diagnostics of the task file with their options."""
    listed = report.task.spec.get("diagnostics")
    return {
        str(name): options if isinstance(options, Mapping) else {}
        for one in (listed if isinstance(listed, list) else [])
        for name, options in (one.items() if isinstance(one, Mapping) else [(one, {})])
    }


def implied(report: Report, name: str, registry: Registry, records: Records | None = None) -> dict[str, Implied]:
    """The metrics of one diagnostic that follow from its details and, where they are given, its records.

    Raises:
        Differs: when the diagnostic is not known, or its details or records are not of its making.
    """
    entry, again = report.diagnostics[name], diagnostic(report, name, registry)
    if entry.status != "success":
        return {}
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # as of the mean of an empty list
            found = again.implied(entry.details, records or {})
            out = {metric: _plain(value) for metric, value in found.items() if metric in entry.metrics}
    except Exception:  # details may hold anything, and whoever wrote the diagnostic need not have thought of it
        raise Differs(f"the details of {name} are not those that its metrics are made of") from None
    return out


def _plain(value: Implied) -> Implied:
    return value if value is None or isinstance(value, Estimate) else float(value)


def records(report: Report, folder: Path, name: str) -> tuple[Records, str]:
    """The records of a diagnostic, and why there are none.

    Raises:
        Unreadable: when the file is there and among the report's, and holds no records.
    """
    file = f"{name}.parquet"
    if not listed(report, file):
        return {}, "no per-example records are kept"
    if not (folder / file).is_file():
        return {}, f"{file} is not here"
    try:
        return read_table(folder / file), ""
    except Unreadable as error:
        raise Unreadable(f"{file} {error}") from None


class _Asked(Mapping[str, Any]):
    """No records, which remembers whether anybody looked for some."""

    def __init__(self) -> None:
        self.looked = False

    def _look(self) -> None:
        self.looked = True

    def __getitem__(self, key: str) -> Any:
        self._look()
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        self._look()
        return iter(())

    def __len__(self) -> int:
        self._look()
        return 0


def wants_records(report: Report, name: str, registry: Registry) -> bool:
    """Whether a diagnostic finds more of its metrics again where its records are there.

    Raises:
        Differs: when it is not known here.
    """
    asked_for, again = _Asked(), diagnostic(report, name, registry)
    with contextlib.suppress(Exception), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        again.implied(report.diagnostics[name].details, asked_for)
    return asked_for.looked


def listed(report: Report, path: str) -> bool:
    """Whether a file is among the artifacts, so that its hash was checked."""
    return any(artifact.path == path for artifact in report.artifacts)


def agree(claimed: Metric, found: Implied) -> bool:
    """Whether a metric is what was found again: an estimate as a whole, a number by its value."""
    if not isinstance(found, Estimate):
        return close(claimed.value, found, ROUNDING)
    same = all(close(getattr(claimed, key), getattr(found, key), EXACT) for key in ("value", "ci_low", "ci_high"))
    return same and claimed.n == found.n and claimed.ci_method == found.ci_method  # reasons are words


def close(a: float | None, b: float | None, tolerance: float) -> bool:
    """Whether two numbers are equal but for rounding, or both are missing."""
    return a is b if a is None or b is None else math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)


def shown(claimed: Metric | Implied) -> str:
    """A value, with its interval where it has one, as a message shows it."""
    value = claimed if claimed is None or isinstance(claimed, float | int) else claimed.value
    if value is None:
        return "null"
    if isinstance(claimed, float | int) or claimed is None or claimed.ci_low is None or claimed.ci_high is None:
        return f"{value:.6g}"
    return f"{value:.6g} [{claimed.ci_low:.4g}, {claimed.ci_high:.4g}]"
