"""Reports as they are read again: loaded, shown, drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError
from .plugins import load as load_plugins
from .progress import Progress
from .report import write
from .report.record import Metric
from .report.record import Report as Record
from .report.schema import write as to_json


@dataclass(frozen=True)
class Report:
    """A report and the folder it stands in.

    Attributes:
        record: the content of ``report.json``, typed.
        folder: where it and its artifacts are.
    """

    record: Record
    folder: Path

    @property
    def data(self) -> dict[str, Any]:
        """The content of ``report.json`` as plain data."""
        plain: dict[str, Any] = to_json(self.record)
        return plain

    @property
    def status(self) -> str:
        """``success``, ``failed`` or ``interrupted``."""
        return self.record.status

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Name -> value, interval and what else is known of it."""
        return self.record.metrics

    @property
    def findings(self) -> Mapping[str, str]:
        """Id -> verdict."""
        return {finding.id: finding.verdict for finding in self.record.findings}

    def value(self, metric: str) -> float | None:
        """The value of a metric.

        Raises:
            KeyError: when the report has no such metric.
        """
        return self.record.metrics[metric].value

    def __str__(self) -> str:
        from .report.view import render

        return render(self.record, load_plugins().measures())


def load_report(path: str | Path) -> Report:
    """A report from its file or folder.

    Raises:
        UserError: when it is missing, damaged or of another version.
    """
    file = Path(path)
    return Report(write.load_report(file), file if file.is_dir() else file.parent)


def load_reports(folder: str | Path) -> list[Report]:
    """Every report under a folder.

    Raises:
        UserError: when there is none, or one cannot be read.
    """
    found = write.find_reports(folder)
    if not found:
        raise UserError("holds no reports", where=str(folder), hint="`rote-bench run` makes some")
    return [load_report(file) for file in found]


def show(path: str | Path, *, style: str = "simple", color: bool = False, width: int | None = None) -> str:
    """One report as text, or a folder of reports as a table.

    Raises:
        UserError: when there is no report.
    """
    from .report import view

    folder, measures = Path(path), load_plugins().measures()
    if folder.is_dir() and not (folder / write.FILE).is_file():
        return _table([each.record for each in load_reports(folder)], style)
    return view.render(write.load_report(path), measures, width=width, color=color)


def _table(reports: Sequence[Record], style: str) -> str:
    from .report import compare, table

    parts = [table.render(reports, style), compare.render(reports, style)]
    return "\n\n".join(part for part in parts if part) + "\n"


def plot(path: str | Path, *, plugins: Sequence[str | Path] = ()) -> list[Path]:
    """Draw the figures of a report again, into ``figures`` beside it.

    Raises:
        UserError: when there is no report, or the folder cannot be written.
    """
    from .pipeline.diagnose import draw_figures

    report = load_report(path)
    try:
        return draw_figures(
            report.record.diagnostics, load_plugins(plugins), report.folder / "figures", warn=Progress().warn
        )
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=str(report.folder / "figures")) from None
