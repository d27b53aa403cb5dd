"""A report, and its figures, as a notebook shows them below a cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..findings import unmet
from ..terminal import near
from . import markup
from .page import LONGEST_NAME, Picture, cut, picture
from .record import Report
from .sentences import about, sentences

if TYPE_CHECKING:
    from ..measures import Measure

WIDTH = 720  # pixels of a figure at most


@dataclass(frozen=True, repr=False)
class Figure:
    """A figure of a report; a notebook shows it.

    Attributes:
        path: of the PNG file.
        sentence: what it shows, in words.
    """

    path: Path
    sentence: str

    def __repr__(self) -> str:
        return f"<Figure {near(self.path)}: {self.sentence}>"

    def _repr_png_(self) -> tuple[bytes, dict[str, int]] | None:
        found = picture(self.path)
        return None if found is None else (found.data, {"width": min(WIDTH, found.width)})


class Figures(Mapping[str, Figure]):
    """The figures of a report by the names of their diagnostics; a notebook shows them all."""

    def __init__(self, figures: Mapping[str, Figure]) -> None:
        self._figures = dict(figures)

    def __getitem__(self, name: str) -> Figure:
        return self._figures[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._figures)

    def __len__(self) -> int:
        return len(self._figures)

    def __repr__(self) -> str:
        return f"<Figures {', '.join(self._figures) or 'none'}>"

    def _repr_html_(self) -> str:
        found = [(name, picture(figure.path)) for name, figure in self._figures.items()]
        pictures = [(name, each) for name, each in found if each is not None]
        template = markup.environment().get_template("figures.html")
        return template.render(pictures=pictures, width=WIDTH, longest=LONGEST_NAME)


def line(report: Report, folder: Path) -> str:
    """What a report is and what it says, in a line."""
    what = about(report.task.label, report.model.name, report.data.noise_rate, report.seeds.label)
    shown = (("held-out", "validation_accuracy"), ("memorised", "memorization_rate"))
    levels = ((name, report.value(metric)) for name, metric in shown)
    said = "".join(f", {name} {value:.3f}" for name, value in levels if value is not None)
    return f"<Report {what}: {report.status}{said}; {near(folder)}>"


def html(
    report: Report, measures: Mapping[str, Measure], *, twin: Report | None = None, curve: Picture | None = None
) -> str:
    """The result, its verdicts and metrics, and the learning curve.

    Args:
        measures: what is declared about metrics.
        twin: the report of the same cell without wrong labels.
        curve: the figure of the learning curve.
    """
    made = markup.environment()
    made.filters.update(cut=cut)
    rows = [
        (name, entry, measures[name].meaning if name in measures else "")
        for name, entry in report.metrics.items()
        if entry.value is not None
    ]
    found: Sequence[str] = sentences(report, twin)
    return made.get_template("cell.html").render(
        report=report,
        about=about(report.task.label, report.model.name, report.data.noise_rate, report.seeds.label),
        sentences=found,
        faults=unmet(report),
        findings=[f for f in report.findings if f.verdict != "not_applicable"],
        rows=rows,
        curve=curve,
        width=WIDTH,
        longest=LONGEST_NAME,
    )
