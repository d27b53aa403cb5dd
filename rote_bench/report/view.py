"""A report in the terminal, readable when piped too."""

from __future__ import annotations

import dataclasses
import io
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..findings import unmet

if TYPE_CHECKING:
    from ..measures import Measure
    from ..spec.model import Seeds
    from .record import Metric, Report

STAGES = ("data", "training", "evaluation", "diagnostics", "figures")
VERDICTS = {
    "replicated": "replicated",
    "not_replicated": "NOT replicated",
    "inconclusive": "inconclusive",
    "not_applicable": "not applicable",
}


def number(value: float | None) -> str:
    """Three decimals, or a dash."""
    return "-" if value is None else f"{value:.3f}"


def with_interval(entry: Metric) -> str:
    """``0.987 [0.981, 0.992]``."""
    if entry.value is None:
        return "-"
    if entry.ci_low is None:
        return number(entry.value)
    return f"{number(entry.value)} [{number(entry.ci_low)}, {number(entry.ci_high)}]"


def render(
    report: Report,
    measures: Mapping[str, Measure],
    *,
    width: int | None = None,
    color: bool = False,
    twin: Report | None = None,
) -> str:
    """The report as text.

    Args:
        measures: what is declared about metrics; one that is not there is told by the diagnostic that measured it.
        width: of the lines; the terminal's when None.
        color: whether verdicts and headings are coloured.
        twin: the report of the same cell without wrong labels.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from .sentences import sentences

    out = io.StringIO()
    console = Console(
        file=out, width=width or terminal_width(), force_terminal=color, no_color=not color, highlight=False
    )
    model, data, training = report.model, report.data, report.training
    console.print(Text(report.task.title, style="bold"))
    seeds = f"seed {report.seeds.label}" if "-" not in report.seeds.label else f"seeds {_by_kind(report.seeds)}"
    console.print(
        Text(
            f"{model.name} ({model.parameters:,} parameters), noise {data.noise_rate:g}"
            f" ({data.n_noisy} wrong labels), {seeds}"
        )
    )
    if report.status != "success":
        console.print(Text(f"{report.status}: {report.error}", style="bold red"))
    for line in unmet(report):
        console.print(Text(line, style="bold yellow"))
    if training.steps:
        stop = {"memorized": "memorization was complete", "budget": "its schedule ended"}[training.stop_reason]
        console.print(Text(f"{training.steps} steps, {training.examples_seen:,} examples seen; stopped because {stop}"))
    if data.limit is not None:
        console.print(Text(f"cut short with --limit {data.limit}: not for comparison", style="yellow"))
    said = " ".join(sentences(report, twin))
    if said:
        console.print()
        console.print(Text(said))
    metrics = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    metrics.add_column("metric")
    metrics.add_column("value [95 % interval]", no_wrap=True)
    metrics.add_column("what it says")
    measured_by = report.measured_by()
    for name, entry in report.metrics.items():
        known = measures.get(name)
        meaning = known.meaning if known else f"measured by {measured_by.get(name, 'a plugin')}"
        shown = entry.reason_if_null if entry.value is None else meaning
        metrics.add_row(Text(name), Text(with_interval(entry)), Text(shown or ""))
    console.print()
    console.print(metrics)
    findings = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    findings.add_column("finding")
    findings.add_column("verdict", no_wrap=True)
    findings.add_column("claim, and what decided it")
    styles = {"replicated": "green", "not_replicated": "red", "inconclusive": "yellow", "not_applicable": "dim"}
    for finding in report.findings:
        claim = f"{finding.claim} ({finding.source})" + (f"\n{finding.reason}" if finding.reason else "")
        findings.add_row(Text(finding.id), Text(VERDICTS[finding.verdict], style=styles[finding.verdict]), Text(claim))
    console.print()
    console.print(findings)
    for name, entry_ in report.diagnostics.items():
        if entry_.status != "success":
            console.print(
                Text(f"diagnostic {name}: {entry_.status.replace('_', ' ')}: {entry_.reason}", style="yellow")
            )
    for warning in report.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))
    timings = report.timings
    stages = ", ".join(f"{k} {getattr(timings, k):.0f}" for k in STAGES)
    console.print()
    console.print(
        Text(
            f"{timings.total:.0f} s ({stages}), {timings.cpu_seconds:.0f} s of processor time,"
            f" {timings.peak_memory_bytes / 2**20:.0f} MiB at the most"
        ),
        soft_wrap=True,
    )
    return out.getvalue()


def _by_kind(seeds: Seeds) -> str:
    return ", ".join(f"{name} {value}" for name, value in dataclasses.asdict(seeds).items())


def terminal_width() -> int:
    """Columns of the terminal, within what can be read; 100 where there is none."""
    return min(160, max(50, shutil.get_terminal_size((100, 24)).columns))
