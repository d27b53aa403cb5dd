"""Reports as they are read again: loaded, shown, drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError
from .plugins import load as load_plugins
from .progress import Progress
from .report import write
from .report.record import Metric
from .report.record import Report as Record
from .report.schema import write as to_json

if TYPE_CHECKING:
    from .report.contrast import Contrast
    from .statistics import Estimate


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

    @property
    def twin(self) -> Record | None:
        """The report of the same cell without wrong labels, where it lies beside this one."""
        from .report.twin import beside

        return beside(self.record, self.folder)

    @property
    def noise_transfer(self) -> Estimate:
        """What a wrong label costs of a held-out answer against the twin beside this cell; one seed decides nothing."""
        from .report.twin import cost

        return cost(self.record, self.twin)

    def value(self, metric: str) -> float | None:
        """The value of a metric.

        Raises:
            KeyError: when the report has no such metric.
        """
        return self.record.metrics[metric].value

    def __str__(self) -> str:
        from .report.view import render

        return render(self.record, load_plugins().measures(), twin=self.twin)


def load_report(path: str | Path) -> Report:
    """A report from its file or folder.

    Raises:
        UserError: when it is missing, damaged or of another version.
    """
    file = Path(path)
    return Report(write.load_report(file), file if file.is_dir() else file.parent)


def load_reports(folder: str | Path) -> dict[str, Report]:
    """Every report under a folder, by its path.

    Raises:
        UserError: when there is none, or one cannot be read.
    """
    found = write.find_reports(folder)
    if not found:
        raise UserError("holds no reports", where=str(folder), hint="`rote-bench run` makes some")
    return {str(file): load_report(file) for file in found}


def is_folder_of_reports(path: str | Path) -> bool:
    """Whether a path is a folder of cells and not one of them."""
    folder = Path(path)
    return folder.is_dir() and not (folder / write.FILE).is_file()


def show(path: str | Path, *, style: str = "simple", color: bool = False, width: int | None = None) -> str:
    """One report as text, or a folder of reports as a table.

    Raises:
        UserError: when there is no report.
    """
    from .report import table, view

    registry = load_plugins()
    if not is_folder_of_reports(path):
        report = load_report(path)
        return view.render(report.record, registry.measures(), width=width, color=color, twin=report.twin)
    return table.render({name: each.record for name, each in load_reports(path).items()}, registry, style, width) + "\n"


def show_data(path: str | Path) -> dict[str, Any]:
    """What ``show`` says, as plain data: a report, or the rows of the table and what is left out of it.

    Raises:
        UserError: when there is no report.
    """
    from .report import table

    if not is_folder_of_reports(path):
        return load_report(path).data
    return asdict(table.collect({name: each.record for name, each in load_reports(path).items()}))


def compare(first: str | Path, second: str | Path) -> Contrast:
    """Two cells, or two folders of cells: every metric on both sides, and the difference with its interval.

    Raises:
        UserError: when there is no report, or the sides differ in what makes their numbers incomparable.
    """
    from .report import contrast

    return contrast.compare(first, second)


def plot(path: str | Path, *, plugins: Sequence[str | Path] = ()) -> list[Path]:
    """Draw the figures of a report again, into ``figures`` beside it.

    Raises:
        UserError: when there is no report, or the folder cannot be written.
    """
    from .pipeline.diagnose import draw_figures
    from .report.sentences import about

    report = load_report(path)
    cell, folder = report.record, report.folder / "figures"
    named = about(cell.task.label, cell.model.name, cell.data.noise_rate, cell.seeds.label)
    try:
        return draw_figures(cell.diagnostics, load_plugins(plugins), folder, about=named, warn=Progress().warn)
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=str(folder)) from None
