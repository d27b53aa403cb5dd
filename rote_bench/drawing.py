"""Figures drawn again: those of a report, and those of a folder's cells over their seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from . import terminal
from .errors import UserError
from .paths import of_user
from .plugins import Registry
from .plugins import load as load_plugins
from .progress import Progress
from .reading import Report, is_folder_of_reports, load_report, load_reports
from .report.record import DiagnosticEntry
from .report.record import Report as Record
from .report.seeds import Group, groups
from .report.sentences import about

FIGURES = "figures"
MOST_GAPS = 3  # that are told of a figure


def plot(path: str | Path, *, plugins: Sequence[str | Path] = (), progress: Progress | None = None) -> list[Path]:
    """Draw the figures of a report again, into ``figures`` beside it; or those of a folder's cells over their seeds.

    Cells of a folder that differ in their seeds alone are drawn as one, into
    ``figures/<task>-<model>-noise-<rate>`` in that folder: means, with intervals over at least three seeds. What one
    seed's cells show is drawn as it is.

    Returns:
        The files.

    Raises:
        UserError: when there is no report or nothing to draw, or the folder cannot be written.
    """
    progress, registry = progress or Progress(), load_plugins(plugins)
    if not is_folder_of_reports(path):
        report = load_report(path)
        folder = report.folder / FIGURES
        return _draw(report.record.diagnostics, _about(report.record), folder, registry, progress.warn)
    reports, unread = load_reports(path)
    for line in unread:
        progress.warn(line)
    drawn = list(_over_seeds(of_user(path), reports, registry, progress))
    if not drawn:
        raise UserError(
            f"nothing to draw: no figure could be made of {len(reports)} reports",
            where=str(path),
            hint="`rote-bench show` says what became of each",
        )
    return drawn


def _about(report: Record) -> str:
    return about(report.task.label, report.model.name, report.data.noise_rate, report.seeds.label)


def _draw(
    diagnostics: Mapping[str, DiagnosticEntry], text: str, folder: Path, registry: Registry, warn: Callable[[str], None]
) -> list[Path]:
    from .pipeline.diagnose import draw_figures

    try:
        return draw_figures(diagnostics, registry, folder, about=text, warn=warn)
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=str(folder)) from None


def _over_seeds(folder: Path, reports: Mapping[str, Report], registry: Registry, progress: Progress) -> Iterator[Path]:
    found, left_out = groups({name: each.record for name, each in reports.items()})
    for line in left_out:
        progress.warn(terminal.clean(line))
    taken: dict[str, int] = {}
    for group in found:
        cells = sorted((reports[name].record for name in group.names), key=lambda r: _order(r))
        name = _folder(group)
        taken[name] = taken.get(name, 0) + 1
        if cells:
            place = folder / FIGURES / (name if taken[name] == 1 else f"{name}-{taken[name]}")
            yield from _group(group, cells, place, registry, progress)


def _order(report: Record) -> tuple[int, ...]:
    seeds = report.seeds
    return seeds.data, seeds.noise, seeds.init, seeds.order, seeds.bootstrap


def _folder(group: Group) -> str:
    from .pipeline.cell import folder_name

    return f"{folder_name(group.task)}-{folder_name(group.model)}-noise-{group.noise_rate:g}"


def _group(
    group: Group, cells: Sequence[Record], place: Path, registry: Registry, progress: Progress
) -> Iterator[Path]:
    """The figures of cells that differ in their seeds."""
    text = about(group.task, group.model, group.noise_rate, _listed([cell.seeds.label for cell in cells]))
    text += f" ({group.differs})" if group.differs else ""
    if len(cells) == 1:
        progress.say(terminal.clean(f"drawing {text}: the only seed, drawn as it is"))
        yield from _draw(cells[0].diagnostics, text, place, registry, progress.warn)
        return
    progress.say(terminal.clean(f"drawing {text}"))
    for name in dict.fromkeys(name for cell in cells for name in cell.diagnostics):
        entries = [cell.diagnostics.get(name) for cell in cells]
        done = [entry for entry in entries if entry is not None and entry.status == "success"]
        if 0 < len(done) < len(cells):
            told = f"figure of {name} is left out: it was measured in {len(done)} of {len(cells)} seeds"
            progress.warn(terminal.clean(told))
        elif done:
            yield from _merged(name, done, text, place, registry, progress)


def _merged(
    name: str, entries: Sequence[DiagnosticEntry], text: str, place: Path, registry: Registry, progress: Progress
) -> Iterator[Path]:
    from .report.merge import merge

    try:
        merged = merge([entry.details for entry in entries])
    except (ArithmeticError, RecursionError) as error:
        progress.warn(f"figure of {name} is left out: its details cannot be brought together ({error})")
        return
    how = "means, 95 % intervals over seeds" if merged.intervals else "means over seeds"
    entry = replace(entries[0], details=merged.details)
    yield from _draw(
        {name: entry}, f"{text}: {how}", place, registry, lambda line: progress.warn(line + _told(merged.gaps))
    )


def _told(gaps: Sequence[str]) -> str:
    """Why a figure may have failed: what the seeds do not share."""
    if not gaps:
        return ""
    more = len(gaps) - MOST_GAPS
    return f" ({'; '.join(gaps[:MOST_GAPS])}{f'; and {more} more' if more > 0 else ''})"


def _listed(labels: Sequence[str]) -> str:
    """``0, 1, 2``, or ``0 to 9``."""
    numbers = [int(label) for label in labels if label.isdecimal()]
    if len(numbers) == len(labels) > MOST_GAPS and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(labels)
