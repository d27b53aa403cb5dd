"""Reports as they are read again: loaded, shown, compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from .errors import UserError, did_you_mean
from .paths import of_user, placed
from .plugins import load as load_plugins
from .progress import Progress
from .report import beside, escape, write
from .report.record import DiagnosticEntry, Metric
from .report.record import Report as Record
from .report.schema import write as to_json

if TYPE_CHECKING:
    from pandas import DataFrame

    from .opening import Snapshot
    from .plugins import Registry
    from .report.contrast import Contrast
    from .report.inline import Figures
    from .report.page import Picture
    from .statistics import Estimate


@dataclass(frozen=True, repr=False)
class Report:
    """A report and the folder it stands in. A notebook shows it; ``print`` has all of it.

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
    def twin(self) -> Report | None:
        """The report of the same cell without wrong labels, where it lies beside this one."""
        from .report.twin import place_of

        found = self._twin
        return None if found is None else Report(found, place_of(self.folder))

    @property
    def _twin(self) -> Record | None:
        from .report.twin import beside

        return beside(self.record, self.folder)

    @property
    def noise_transfer(self) -> Estimate:
        """What a wrong label costs of a held-out answer against the twin beside this cell; one seed decides nothing."""
        from .report.twin import cost

        return cost(self.record, self._twin)

    def value(self, metric: str) -> float | None:
        """The value of a metric.

        Raises:
            KeyError: when the report has no such metric.
        """
        if metric not in self.metrics:
            raise KeyError(f"no metric {metric!r} ({did_you_mean(metric, self.metrics)})")
        return self.metrics[metric].value

    def metrics_frame(self) -> DataFrame:
        """All metrics, a row each, with their intervals and the diagnostic that measured them."""
        import pandas

        owner = self.record.measured_by()
        rows = {name: {**asdict(entry), "diagnostic": owner.get(name)} for name, entry in self.metrics.items()}
        return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("metric")

    def curve(self) -> DataFrame:
        """The evaluations made during training, a row each.

        Raises:
            UserError: when the cell was not trained, or its curve is not there.
        """
        import pandas

        found = beside.curve(self.record, self.folder)
        if not found:
            trained = self.record.training.steps
            why = f"its curve is neither in {beside.DYNAMICS} nor in the report" if trained else "it was not trained"
            raise UserError(why, where=str(self.folder))
        return pandas.DataFrame([point.plain() for point in found]).set_index("step")

    def samples(self) -> DataFrame:
        """What the model said to each question that it was asked at the end, a row each.

        Raises:
            UserError: when ``samples.parquet`` is not the file that the report names.
        """
        return beside.samples(self.record, self.folder).to_pandas()

    def records(self, diagnostic: str) -> DataFrame:
        """What a diagnostic kept of each example, a row each.

        Raises:
            UserError: when there is no such diagnostic, or it kept nothing.
        """
        return beside.records(self.record, self.folder, diagnostic).to_pandas()

    @property
    def figures(self) -> Figures:
        """The figures beside the report, by the names of their diagnostics; a notebook shows them."""
        from .report.inline import Figure, Figures
        from .report.page import picture

        names = {Path(each.path).stem: each.path for each in self.record.artifacts if each.path.startswith("figures/")}
        own = {name: path for name, path in names.items() if beside.is_artifact(self.record, self.folder, path)}
        kept = {name: (self.folder / path, picture(self.folder / path)) for name, path in own.items()}
        return Figures({name: Figure(path, each.sentence) for name, (path, each) in kept.items() if each is not None})

    def load(
        self,
        snapshot: str = "post",
        *,
        task: str | Path | None = None,
        model: Any = None,
        device: str = "cpu",
        plugins: Sequence[str | Path] = (),
    ) -> Snapshot:
        """The weights of a snapshot with their tokenizer, and the cell's examples, encoded, with named positions.

        Args:
            snapshot: ``post`` or ``pre``, after and before memorization.
            task: the task file; needed where the questions stand in files.
            model: the module or function that was run, where the model is no name.

        Raises:
            UserError: when there is no such snapshot, its files are not those that the report names, or its examples
                cannot be made again.
        """
        from .opening import open_snapshot

        return open_snapshot(self.record, self.folder, snapshot, task=task, model=model, device=device, plugins=plugins)

    def __hash__(self) -> int:
        return hash((self.record.identity.hash, self.folder))

    def __repr__(self) -> str:
        from .report.inline import line

        return line(self.record, self.folder)

    def _repr_html_(self) -> str:
        from .report import inline, page

        registry, name = load_plugins(), page.FIRST
        entry = self.record.diagnostics.get(name)
        shown = {name: entry} if entry is not None and entry.status == "success" else {}
        curve = _pictures(self, registry, Progress(quiet=True), shown).get(name)
        return inline.html(self.record, registry.measures(), twin=self._twin, curve=curve)

    def __str__(self) -> str:
        from .report.view import render

        return render(self.record, load_plugins().measures(), twin=self._twin)


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
        return view.render(report.record, registry.measures(), width=width, color=color, twin=report._twin)
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
    samples = report.folder / beside.SAMPLES
    known = beside.is_artifact(report.record, report.folder, beside.SAMPLES)
    return page.render(
        report.record,
        registry,
        twin=report._twin,
        pictures=_pictures(report, registry, progress, report.record.diagnostics),
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


def _pictures(
    report: Report, registry: Registry, progress: Progress, diagnostics: Mapping[str, DiagnosticEntry]
) -> dict[str, Picture]:
    """The figure of each of these diagnostics that has one: as it was drawn by the run, or else anew."""
    from .pipeline.diagnose import draw_figures
    from .report import page
    from .report.sentences import about

    cell, found, rest = report.record, {}, {}
    for name in page.figure_names(diagnostics):
        file = f"figures/{name}.png"
        kept = page.picture(report.folder / file) if beside.is_artifact(cell, report.folder, file) else None
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
