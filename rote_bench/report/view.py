"""A report in the terminal, readable when piped too."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from .. import terminal
from ..findings import unmet
from .sentences import STOPS, sentences

if TYPE_CHECKING:
    from ..measures import Measure
    from ..spec.model import Seeds
    from .record import Finding, Metric, Report

STAGES = ("data", "training", "evaluation", "diagnostics", "figures")
VERDICTS = {
    "replicated": "replicated",
    "not_replicated": "NOT replicated",
    "inconclusive": "inconclusive",
    "not_applicable": "not applicable",
}
STYLES = {"replicated": "32", "not_replicated": "31", "inconclusive": "33", "not_applicable": "2"}
BOLD, RED, YELLOW = "1", "1;31", "33"
WIDE = 70  # columns from which what belongs to a word stands beside it


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


class _Page:
    """Lines of text that keep to a width.

    Args:
        color: whether styles are shown.
    """

    def __init__(self, width: int, *, color: bool) -> None:
        self.width, self.color = width, color
        self.lines: list[str] = []

    def put(self, text: str, style: str = "", *, indent: int = 0, hang: int | None = None) -> None:
        """Fold a text into lines; what a terminal would obey is spelled out."""
        hanging = " " * (indent if hang is None else hang)
        for line in terminal.fold(terminal.clean(text), self.width, " " * indent, hanging):
            self.lines.append(f"\x1b[{style}m{line}\x1b[0m" if style and self.color and line else line)

    def beside(self, word: str, text: str, style: str, column: int) -> None:
        """A word in its style, and a text that is folded beside it."""
        first = len(self.lines)
        self.put(f"{word.ljust(column)}{text}", hang=column)
        if self.color and self.lines[first].startswith(word):
            self.lines[first] = f"\x1b[{style}m{word}\x1b[0m{self.lines[first][len(word) :]}"

    def gap(self) -> None:
        if self.lines and self.lines[-1]:
            self.lines.append("")


def render(
    report: Report,
    measures: Mapping[str, Measure],
    *,
    width: int | None = None,
    color: bool = False,
    twin: Report | None = None,
    brief: bool = False,
) -> str:
    """The report as text.

    Args:
        measures: what is declared about metrics; one that is not there is told by the diagnostic that measured it.
        width: of the lines; the terminal's when None.
        color: whether verdicts and headings are coloured.
        twin: the report of the same cell without wrong labels.
        brief: end with what was found, a line for each verdict, and without their reasons.
    """
    page = _Page(width or terminal.width(), color=color)
    _head(page, report)
    said = " ".join(sentences(report, twin))
    if said and not brief:
        page.gap()
        page.put(said)
    page.gap()
    _metrics(page, report, measures)
    if not brief:
        page.gap()
        for finding, others in _alike(report.findings):
            _finding(page, finding, others)
    page.gap()
    _rest(page, report)
    if brief and (said or report.findings):
        page.gap()
        page.put(said)
        page.gap()
        _verdicts(page, report)
    return "\n".join(page.lines).rstrip("\n") + "\n"


def _head(page: _Page, report: Report) -> None:
    model, data, training = report.model, report.data, report.training
    page.put(report.task.title, BOLD)
    seeds = f"seed {report.seeds.label}" if "-" not in report.seeds.label else f"seeds {_by_kind(report.seeds)}"
    page.put(
        f"{model.name} ({model.parameters:,} parameters), noise {data.noise_rate:g} ({data.n_noisy} wrong labels),"
        f" {seeds}"
    )
    if report.status != "success":
        page.put(f"{report.status}: {report.error}", RED)
    for line in unmet(report):
        page.put(line, "1;33")
    if training.steps:
        stop = STOPS[training.stop_reason]
        page.put(f"{training.steps} steps, {training.examples_seen:,} examples seen; stopped because {stop}")
    if data.limit is not None:
        page.put(f"cut short with --limit {data.limit}: not for comparison", YELLOW)


def _metrics(page: _Page, report: Report, measures: Mapping[str, Measure]) -> None:
    """Every metric with its meaning; those without a value by the reason that they share."""
    measured_by = report.measured_by()
    rows, missing = [], []
    for name, entry in report.metrics.items():
        known = measures.get(name)
        meaning = known.meaning if known else f"measured by {measured_by.get(name, 'a plugin')}"
        if entry.value is None:
            missing.append((name, entry.reason_if_null or "it has no value"))
        else:
            rows.append((name, with_interval(entry), meaning))
    if rows:
        header = ("metric", "value [95 % interval]", "what it says")
        first_width, second = (max(map(len, column)) for column in list(zip(header, *rows, strict=True))[:2])
        beside = page.width - first_width - second - 2 * terminal.GAP >= terminal.READABLE
        if beside:
            first, *others = terminal.grid(header, rows, page.width).splitlines()
            page.put(first, BOLD)
            page.lines += others[1:]
        else:
            for row in rows:
                _metric(page, *row, fits=first_width + terminal.GAP + second <= page.width, column=first_width)
    for reason, names in _by_reason(missing).items():
        page.put(f"no value: {', '.join(names)} ({reason})", hang=2)


def _metric(page: _Page, name: str, value: str, meaning: str, *, fits: bool, column: int) -> None:
    if fits:
        page.put(f"{name.ljust(column)}  {value}")
    else:
        page.put(name)
        page.put(value, indent=2)
    page.put(meaning, indent=2)


def _alike(findings: Iterable[Finding]) -> list[tuple[Finding, list[str]]]:
    """Findings in their order, those that are not applicable for one reason gathered at the first of them."""
    findings = list(findings)
    reasons = _by_reason([(f.id, f.reason or "") for f in findings if f.verdict == "not_applicable"])
    out: list[tuple[Finding, list[str]]] = []
    for finding in findings:
        group = next((names for names in reasons.values() if finding.id in names), [])
        if finding.verdict != "not_applicable" or len(group) < 2:
            out.append((finding, []))
        elif group[0] == finding.id:
            reason = next(reason for reason, names in reasons.items() if names is group)
            out.append((dataclasses.replace(finding, reason=reason), group))
    return out


def _by_reason(named: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Reason -> names, in the order given; a reason that only goes on after another one counts as that."""
    named = list(named)
    reasons = sorted({reason for _, reason in named}, key=len)
    out: dict[str, list[str]] = {}
    for name, reason in named:
        shortest = next(r for r in reasons if reason == r or reason.startswith(f"{r}; "))
        out.setdefault(shortest, []).append(name)
    return out


def _finding(page: _Page, finding: Finding, others: list[str]) -> None:
    verdict, style = VERDICTS[finding.verdict], STYLES[finding.verdict]
    column = 16 if page.width >= WIDE else 2
    names = ", ".join(others) if others else finding.id
    if column > len(verdict):
        page.beside(verdict, names, style, column)
    else:
        page.put(verdict, style)
        page.put(names, indent=2)
    if not others:
        page.put(f"{finding.claim} ({finding.source})", indent=column)
    if finding.reason:
        page.put(finding.reason, indent=column)


def _verdicts(page: _Page, report: Report) -> None:
    """One line for each verdict, one for all claims that could not be tested."""
    untested = [finding.id for finding in report.findings if finding.verdict == "not_applicable"]
    for finding in report.findings:
        if finding.verdict != "not_applicable":
            page.beside(VERDICTS[finding.verdict], finding.id, STYLES[finding.verdict], 16)
    if untested:
        page.beside(VERDICTS["not_applicable"], ", ".join(untested), STYLES["not_applicable"], 16)


def _rest(page: _Page, report: Report) -> None:
    """What did not work, what the reader must know, and what it took."""
    apart = [(name, each.status, each.reason or "") for name, each in report.diagnostics.items()]
    for name, status, reason in apart:
        if status == "failed":
            page.put(f"diagnostic {name}: failed: {reason}", YELLOW, hang=2)
    groups = _by_reason([(name, reason) for name, status, reason in apart if status == "not_applicable"])
    if groups:
        said = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in groups.items())
        count = sum(map(len, groups.values()))
        page.put(f"diagnostic{'s' if count > 1 else ''} not applicable: {said}", YELLOW, hang=2)
    for warning in report.warnings:
        page.put(f"warning: {warning}", YELLOW, hang=2)
    page.gap()
    timings = report.timings
    stages = ", ".join(f"{k} {getattr(timings, k):.0f}" for k in STAGES)
    took = f"{timings.total:.0f} s ({stages}), {timings.cpu_seconds:.0f} s of processor time"
    if timings.peak_memory_bytes:  # some systems do not say
        took += f", {timings.peak_memory_bytes / 2**20:.0f} MiB at the most"
    page.put(took)


def _by_kind(seeds: Seeds) -> str:
    return ", ".join(f"{name} {value}" for name, value in dataclasses.asdict(seeds).items())
