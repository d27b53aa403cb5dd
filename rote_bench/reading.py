"""Reports as they are read again: loaded, shown, compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from .errors import UserError
from .paths import of_user, placed
from .plugins import load as load_plugins
from .progress import Progress
from .report import escape, write
from .report.record import Metric
from .report.record import Report as Record
from .report.schema import write as to_json

if TYPE_CHECKING:
    from .plugins import Registry
    from .report.contrast import Contrast
    from .report.page import Picture
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
    file = of_user(path)
    return Report(write.load_report(file), file if file.is_dir() else file.parent)


def load_reports(folder: str | Path) -> tuple[dict[str, Report], list[str]]:
    """Every report under a folder, by its path, and a line about each that cannot be read.

    Raises:
        UserError: when there is none that can.
    """
    found = write.find_reports(folder)
    if not found:
        raise UserError("holds no reports", where=str(folder), hint="`rote-bench run` makes some")
    reports: dict[str, Report] = {}
    errors: list[UserError] = []
    for file in found:
        try:
            reports[str(file)] = load_report(file)
        except UserError as error:
            errors.append(error)
    if not reports:
        raise errors[0]
    return reports, [escape.plain(f"left out: {error}") for error in errors]


def is_folder_of_reports(path: str | Path) -> bool:
    """Whether a path is a folder of cells and not one of them."""
    folder = of_user(path)
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
    reports, unread = load_reports(path)
    return table.render({name: each.record for name, each in reports.items()}, registry, style, width, unread) + "\n"


def show_data(path: str | Path) -> dict[str, Any]:
    """What ``show`` says, as plain data: a report, or the rows of the table and what is left out of it.

    Raises:
        UserError: when there is no report.
    """
    from .report import table

    if not is_folder_of_reports(path):
        return load_report(path).data
    reports, unread = load_reports(path)
    found = table.collect({name: each.record for name, each in reports.items()})
    return asdict(replace(found, left_out=[*found.left_out, *unread]))


def compare(first: str | Path, second: str | Path) -> Contrast:
    """Two cells, or two folders of cells: every metric on both sides, and the difference with its interval.

    Raises:
        UserError: when there is no report, or the sides differ in what makes their numbers incomparable.
    """
    from .report import contrast

    return contrast.compare(first, second)


def show_html(path: str | Path, *, plugins: Sequence[str | Path] = (), progress: Progress | None = None) -> str:
    """One report as a page that needs nothing beside it: no network, no scripts, its figures inside.

    Figures are those beside the report, where they are what the report names; others are drawn anew.

    Raises:
        UserError: when there is no report, or several.
    """
    from .report import page

    if is_folder_of_reports(path):
        raise UserError("holds no report of its own; a page shows one", where=str(path), hint="name one of its reports")
    report, registry, progress = load_report(path), load_plugins(plugins), progress or Progress()
    samples = report.folder / page.SAMPLES
    known = page.is_artifact(report.record, report.folder, page.SAMPLES)
    return page.render(
        report.record,
        registry,
        twin=report.twin,
        pictures=_pictures(report, registry, progress),
        asked=page.examples(samples) if known else (),
    )


def save_html(path: str | Path, file: str | Path | None = None, *, plugins: Sequence[str | Path] = ()) -> Path:
    """Write the page of a report, and say where: ``report.html`` beside it where no other file is named.

    Raises:
        UserError: when there is no report, or the file cannot be written or is not called as a page is.
    """
    report = of_user(path)
    place = placed(file) if file is not None else (report if report.is_dir() else report.parent) / write.PAGE
    if place.suffix.lower() not in (".html", ".htm"):  # a slip must not cost a report
        raise UserError("a page's name ends in .html", where=str(place))
    text = show_html(report, plugins=plugins)
    try:
        write.write_text(place, text)
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=str(place)) from None
    return place


def _pictures(report: Report, registry: Registry, progress: Progress) -> dict[str, Picture]:
    """The figure of each diagnostic that has one: as it was drawn by the run, or else anew."""
    from .pipeline.diagnose import draw_figures
    from .report import page
    from .report.sentences import about

    cell, found, rest = report.record, {}, {}
    for name in page.figure_names(cell.diagnostics):
        file = f"figures/{name}.png"
        kept = page.picture(report.folder / file) if page.is_artifact(cell, report.folder, file) else None
        if kept is not None and kept.sentence:
            found[name] = kept
        else:
            rest[name] = cell.diagnostics[name]
    if rest:
        progress.say(f"drawing {', '.join(rest)}")
        named = about(cell.task.label, cell.model.name, cell.data.noise_rate, cell.seeds.label)
        with TemporaryDirectory() as folder:
            drawn = draw_figures(rest, registry, Path(folder), about=named, warn=progress.warn)
            found |= {file.stem: kept for file in drawn if (kept := page.picture(file)) is not None}
    return found
