"""Reports as they are read again: loaded, shown, drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError
from .plugins import load as load_plugins


@dataclass(frozen=True)
class Report:
    """A report and the folder it stands in.

    Attributes:
        data: the content of ``report.json``.
        folder: where it and its artifacts are.
    """

    data: Mapping[str, Any]
    folder: Path

    @property
    def status(self) -> str:
        return str(self.data["status"])

    @property
    def metrics(self) -> Mapping[str, Mapping[str, Any]]:
        """name -> {value, ci_low, ci_high, ...}."""
        metrics: Mapping[str, Mapping[str, Any]] = self.data["metrics"]
        return metrics

    @property
    def findings(self) -> Mapping[str, str]:
        """id -> verdict."""
        return {finding["id"]: finding["verdict"] for finding in self.data["findings"]}

    def value(self, metric: str) -> float | None:
        """The value of a metric."""
        value: float | None = self.metrics[metric]["value"]
        return value

    def __str__(self) -> str:
        from .report.view import render

        return render(self.data)


def load_report(path: str | Path) -> Report:
    """A report from its file or folder.

    Raises:
        UserError: when it is missing, damaged or of another version.
    """
    from .report.write import load_report as load

    file = Path(path)
    return Report(load(file), file if file.is_dir() else file.parent)


def show(path: str | Path, *, style: str = "simple", color: bool = False) -> str:
    """One report as text, or a folder of reports as a table.

    Raises:
        UserError: when there is no report.
    """
    from .report import compare, table, view
    from .report.write import FILE, find_reports
    from .report.write import load_report as load

    folder = Path(path)
    if folder.is_dir() and not (folder / FILE).is_file():
        found = find_reports(folder)
        if not found:
            raise UserError("holds no reports", where=str(path), hint="`rote-bench run` makes some")
        reports = [load(file) for file in found]
        parts = [table.render(reports, style), compare.render(reports, style)]
        return "\n\n".join(part for part in parts if part) + "\n"
    return view.render(load(path), color=color)


def plot(path: str | Path, *, plugins: Sequence[str | Path] = ()) -> list[Path]:
    """Draw the figures of a report again, into ``figures`` beside it.

    Raises:
        UserError: when there is no report, or the folder cannot be written.
    """
    from .pipeline.diagnose import draw_figures
    from .progress import Progress
    from .report.record import DiagnosticEntry

    report = load_report(path)
    try:
        entries = {name: DiagnosticEntry(**entry) for name, entry in report.data["diagnostics"].items()}
        return draw_figures(entries, load_plugins(plugins), report.folder / "figures", warn=Progress().warn)
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=str(report.folder / "figures")) from None
