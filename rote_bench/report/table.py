"""Many reports as one table: models side by side, seeds aggregated, and only what may be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import terminal
from ..contrasts import across_seeds
from ..findings import decide_across
from ..hashing import digest
from ..measures import HEADLINE, OOD, in_columns, words
from ..plugins import BUILT_IN
from ..spec.model import Seeds
from ..statistics import Estimate
from . import escape
from .conditions import conditions
from .record import Metric, Report
from .seeds import groups

if TYPE_CHECKING:
    from ..plugins import Registry


@dataclass(frozen=True)
class Row:
    """Cells of one task, model and noise rate that were made under the same conditions.

    Attributes:
        task: with its profile.
        seeds: how many sets of seeds.
        failed: cells that broke.
        interrupted: cells that go on when they are started again.
        differs: in what its conditions differ from those of other rows of the same task, model and noise rate.
        metrics: over the seeds.
    """

    task: str
    model: str
    parameters: int
    noise_rate: float
    seeds: int
    failed: int
    interrupted: int
    differs: str
    metrics: Mapping[str, Estimate]


@dataclass(frozen=True)
class Table:
    """The rows, and a line about every cell that is in none of them."""

    rows: Sequence[Row]
    left_out: Sequence[str]


def columns(reports: Iterable[Report], registry: Registry) -> list[tuple[str, str]]:
    """(metric, heading): what is declared with a place among the columns, then what only plugins measure."""
    declared = registry.measures()
    own = {measure.name for measure in (*HEADLINE, OOD)}
    for name, diagnostic in registry.table("diagnostics").items():
        if registry.source_of("diagnostics", name) == BUILT_IN:
            own |= {measure.name for measure in diagnostic.metrics}
    placed = [(m.name, m.heading) for m in in_columns(declared.values())]
    others = sorted({name for report in reports for name in report.metrics} - own - {name for name, _ in placed})
    return placed + [(name, declared[name].heading if name in declared else words(name)) for name in others]


def collect(reports: Mapping[str, Report]) -> Table:
    """One row for each task, model, noise rate and set of conditions, with every metric over the seeds.

    Args:
        reports: by a name to be called by, as their path.
    """
    found, left_out = groups(reports)
    rows = []
    for group in found:
        cells = [reports[name] for name in group.names]
        ended = Counter(reports[name].status for name in group.all_names)
        names = {name: None for cell in cells for name in cell.metrics}
        metrics = {name: aggregate([cell.metrics.get(name) for cell in cells]) for name in names}
        parameters = reports[group.all_names[0]].model.parameters
        rows.append(
            Row(
                group.task,
                group.model,
                parameters,
                group.noise_rate,
                len(cells),
                ended["failed"],
                ended["interrupted"],
                group.differs,
                metrics,
            )
        )
    return Table(rows, left_out)


def comparable(reports: Iterable[Report]) -> list[Report]:
    """Of each task and model the cells of the conditions that most of them were made under, each seed once.

    How the learning rate was timed and what was diagnosed may differ: no finding over several cells hangs on that.
    """
    groups: dict[tuple[str, str], dict[str, dict[tuple[float, Seeds], Report]]] = {}
    for report in reports:
        if report.status == "success":
            found = {k: v for k, v in conditions(report).items() if k not in ("schedule", "diagnostics")}
            alike = groups.setdefault((report.task.label, report.model.name), {}).setdefault(digest(found), {})
            alike.setdefault((report.data.noise_rate, report.seeds), report)
    return [report for alike in groups.values() for report in max(alike.values(), key=len).values()]


def aggregate(entries: Sequence[Metric | None]) -> Estimate:
    """One metric over seeds; with one seed its own interval over examples."""
    known = [e for e in entries if e is not None and e.value is not None]
    if len(known) == 1 == len(entries):
        e = known[0]
        return Estimate(e.value, e.ci_low, e.ci_high, e.ci_method, e.n)
    if not known or len(known) < len(entries):
        reasons = sorted({str(e.reason_if_null) for e in entries if e is not None and e.value is None})
        why = f": {reasons[0]}" if len(reasons) == 1 else ""
        return Estimate.missing(f"known for {len(known)} of {len(entries)} seeds{why}")
    return across_seeds([float(e.value) for e in known if e.value is not None])


def shown(estimate: Estimate | None) -> str:
    """A number with its interval, a dash where there is none."""
    if estimate is None or estimate.value is None:
        return "-"
    text = fixed(estimate.value, 3)
    if estimate.ci_low is None or estimate.ci_high is None:
        return text
    return f"{text} [{fixed(estimate.ci_low, 2)}, {fixed(estimate.ci_high, 2)}]"


def fixed(value: float, digits: int) -> str:
    """A number with so many decimals, and no negative zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def render(
    reports: Mapping[str, Report],
    registry: Registry,
    style: str = "simple",
    width: int | None = None,
    unread: Sequence[str] = (),
) -> str:
    """The table and the findings over several cells as text.

    Args:
        reports: by a name to be called by, as their path.
        style: any format of tabulate, such as ``github`` or ``latex``; ``simple`` keeps to the width.
        width: of the lines, the terminal's when None.
        unread: a line about each report that could not be read.
    """
    of_metrics, table = columns(reports.values(), registry), collect(reports)
    apart = ["differs"] if any(row.differs for row in table.rows) else []
    header = ["task", "model", "parameters", "noise", "seeds", *apart, *(heading for _, heading in of_metrics)]
    body = [
        [
            row.task,
            row.model,
            f"{row.parameters / 1e6:.2f}M",
            f"{row.noise_rate:g}",
            _seeds(row),
            *([row.differs] if apart else []),
            *(shown(row.metrics.get(name)) for name, _ in of_metrics),
        ]
        for row in table.rows
    ]
    left_out = "\n".join(
        line
        for each in (*table.left_out, *unread)
        for line in terminal.fold(each, width or terminal.width(), hang="  ")
    )
    parts = [fitted(header, body, style, width), left_out, findings(comparable(reports.values()), style, width)]
    return "\n\n".join(part for part in parts if part)


def _seeds(row: Row) -> str:
    """How many seeds there are, and how many more did not come to their end."""
    others = {"failed": row.failed, "interrupted": row.interrupted}
    unended = ", ".join(f"{count} {how}" for how, count in others.items() if count)
    return f"{row.seeds} (+{unended})" if unended else str(row.seeds)


def findings(reports: Iterable[Report], style: str = "simple", width: int | None = None) -> str:
    """The findings over several cells as a table, empty when there are none."""
    header = ["task", "model", "noise", "finding", "verdict", "noise transfer", "because"]
    body = [
        [
            f.task,
            f.model,
            "-" if f.noise_rate is None else f"{f.noise_rate:g}",
            f.id,
            f.verdict.replace("_", " "),
            shown(f.estimate),
            f.reason,
        ]
        for f in decide_across(reports)
    ]
    return fitted(header, body, style, width) if body else ""


def fitted(header: Sequence[str], body: Sequence[Sequence[str]], style: str, width: int | None = None) -> str:
    """A table that keeps to the width, the terminal's when None; in another style than ``simple`` as it comes."""
    if style != "simple":
        return text(header, body, style)
    return terminal.grid(header, body, width or terminal.width())


def text(header: Sequence[str], body: Sequence[Sequence[str]], style: str) -> str:
    """A table whose cells show as they are given, in any format of tabulate."""
    from tabulate import tabulate

    shown = escape.of_style(style)
    rows = [list(map(shown, row)) for row in body]
    return str(tabulate(rows, headers=list(map(shown, header)), tablefmt=style, disable_numparse=True))
