"""The files beside a report, read where they are those that it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError, did_you_mean
from ..hashing import sha256
from ..training.curve import Evaluation
from .record import Report

if TYPE_CHECKING:
    from pyarrow import Table

DYNAMICS, SAMPLES = "dynamics.jsonl", "samples.parquet"
CURVES = "learning_dynamics"  # the diagnostic whose details hold the curve


def is_artifact(report: Report, folder: Path, name: str) -> bool:
    """Whether a file beside a report is the one that the report names."""
    known = next((each.sha256 for each in report.artifacts if each.path == name), None)
    try:
        return known is not None and sha256(folder / name) == known
    except OSError:
        return False


def require(report: Report, folder: Path, name: str) -> Path:
    """A file beside a report.

    Raises:
        UserError: when the report names no such file, or another one stands there.
    """
    if all(each.path != name for each in report.artifacts):
        raise UserError(f"the report names no {name}", where=str(folder))
    if not (folder / name).is_file():
        raise UserError("is missing", where=str(folder / name))
    if not is_artifact(report, folder, name):
        raise UserError("is not the file that the report names", where=str(folder / name))
    return folder / name


def curve(report: Report, folder: Path) -> list[Evaluation]:
    """The evaluations that were made during training; none where neither the file that the report names nor the report
    itself has them all."""
    points: object = None
    if is_artifact(report, folder, DYNAMICS):
        points = [json.loads(line) for line in (folder / DYNAMICS).read_text(encoding="utf-8").splitlines()]
    elif CURVES in report.diagnostics:
        points = report.diagnostics[CURVES].details.get("curve")
    try:
        found = [Evaluation.read(point) for point in points] if isinstance(points, list) else []
    except ValueError:
        return []
    return found if found and found[-1].step == report.training.steps else []


def samples(report: Report, folder: Path) -> Table:
    """What the model said to each question that it was asked at the end.

    Raises:
        UserError: when the file is not there.
    """
    return _table(require(report, folder, SAMPLES))


def records(report: Report, folder: Path, diagnostic: str) -> Table:
    """What a diagnostic kept of each example.

    Raises:
        UserError: when there is no such diagnostic, or it kept nothing.
    """
    kept = {name: f"{name}.parquet" for name in report.diagnostics}
    if diagnostic not in kept:
        raise UserError(f"no diagnostic {diagnostic!r}", where=str(folder), hint=did_you_mean(diagnostic, kept))
    named = {artifact.path for artifact in report.artifacts}
    if kept[diagnostic] not in named:
        others = ", ".join(name for name, file in kept.items() if file in named) or "none"
        raise UserError(f"{diagnostic} kept no records", where=str(folder), hint=f"those that did: {others}")
    return _table(require(report, folder, kept[diagnostic]))


def _table(file: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(file)
    except pyarrow.ArrowException as error:
        raise UserError(f"cannot be read: {error}", where=str(file)) from None
