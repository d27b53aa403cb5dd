"""A submission is computed again, metric by metric, from everything that came with it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from .. import terminal
from ..errors import UserError
from ..pipeline.settings import Settings
from ..plain import JsonObject
from ..report.conditions import at
from ..report.record import Metric, Report
from ..report.table import text
from ..report.write import FILE, find_reports
from ..statistics import Estimate
from . import regenerate, verify
from .answers import Answers, Unreadable
from .implied import EXACT, Differs, agree, close, implied, listed, records, shown

if TYPE_CHECKING:
    from ..plugins import Registry
    from ..spec.model import TaskSpec

CONFIRMED, DIFFERS, UNKNOWN = "confirmed", "differs", "not recomputed"
SAMPLES, DYNAMICS = "samples.parquet", "dynamics.jsonl"
# Trains and diagnoses a cell: the task, the model's name, the noise rate, and the options of the run.
Rerun: TypeAlias = "Callable[[TaskSpec, str, float, Settings], Report]"


@dataclass(frozen=True)
class Outcome:
    """What became of one claim.

    Attributes:
        claim: a metric, or another part of the report.
        verdict: confirmed, differs, or not recomputed.
        claimed, recomputed: as text, empty where there is none.
        note: from what it was recomputed, or why it could not be.
    """

    claim: str
    verdict: str
    claimed: str = ""
    recomputed: str = ""
    note: str = ""

    def lines(self, columns: int) -> list[str]:
        """As text that keeps to a width."""
        found = f"claimed {self.claimed or '-'}, recomputed {self.recomputed or '-'}"
        if self.claimed == self.recomputed:
            found = self.claimed
        told = "; ".join(part for part in (found, self.note) if part)
        lines = terminal.fold(f"{self.verdict:<15}{self.claim}", columns, hang="  ")
        return [*lines, *terminal.fold(told, columns, "  ")] if told else lines


@dataclass
class Check:
    """All outcomes of one report."""

    path: str
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Nothing differs."""
        return all(outcome.verdict != DIFFERS for outcome in self.outcomes)

    def entry(self) -> JsonObject:
        """As JSON."""
        return {"path": self.path, "holds": self.holds, "outcomes": [asdict(outcome) for outcome in self.outcomes]}

    def table(self, style: str = "simple") -> str:
        """As text."""
        rows = [[o.claim, o.verdict, o.claimed, o.recomputed, o.note] for o in self.outcomes]
        header = ["claim", "", "claimed", "recomputed", "from, or why not"]
        found = text(header, rows, style)
        if style == "simple" and max(map(len, found.splitlines())) > terminal.width():
            found = "\n".join(line for outcome in self.outcomes for line in outcome.lines(terminal.width()))
        counts = ", ".join(
            f"{sum(o.verdict == verdict for o in self.outcomes)} {verdict}" for verdict in (CONFIRMED, DIFFERS, UNKNOWN)
        )
        return f"{self.path}\n\n{found}\n\n{counts}"


def reports_of(place: str | Path) -> list[Path]:
    """The reports that a place means: a ``report.json``, its folder, or a folder that holds several.

    Raises:
        UserError: when it holds none.
    """
    path = Path(place)
    if not path.is_dir() or (path / FILE).is_file():
        return [path]
    found = find_reports(path)
    if not found:
        raise UserError("holds no reports", where=str(place), hint="`rote-bench run` makes some")
    return [file.parent for file in found]


def check(path: Path, registry: Registry, rerun: Rerun | None = None) -> Check:
    """Compute a report again.

    Args:
        path: a ``report.json`` or its folder.
        rerun: trains and diagnoses a cell; given, the whole cell is repeated.

    Raises:
        UserError: when there is no report that could be checked.
    """
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise UserError("no report here", where=str(path), hint="give a report.json or the folder that holds it")
    try:
        report, _ = verify.read(file)
        verify.check_names(report)
    except verify.Refused as error:
        raise UserError(str(error), where=str(file)) from None
    done = Check(str(path))
    if report.status != "success":
        raise UserError(f"the run did not succeed, so that it claims nothing: {report.status}", where=str(file))
    done.outcomes += _itself(report, file.parent, registry)
    done.outcomes += _examples(report, file.parent, registry)
    done.outcomes += _metrics(report, file.parent, registry)
    if rerun is not None:
        done.outcomes += _again(report, registry, rerun)
    return done


def _itself(report: Report, folder: Path, registry: Registry) -> Iterator[Outcome]:
    """What needs nothing but the report and its folder."""
    try:
        present, missing = verify.check_artifacts(report, folder)
        note = f"{present} files are as described" + (f", {missing} are not here" if missing else "")
        yield Outcome("artifacts", CONFIRMED if present else UNKNOWN, note=note)
    except verify.Refused as error:
        yield Outcome("artifacts", DIFFERS, note=str(error))
    tests: tuple[tuple[str, Callable[[], None], str], ...] = (
        ("numbers", lambda: verify.check_numbers(report), "none is NaN, infinite or beyond what is measured"),
        ("identity", lambda: verify.check_identity(report), "the hash is that of its parts, those of the report"),
        ("consistency", lambda: verify.check_metrics(report, registry), "the metrics are as declared, and agree"),
        (
            "details",
            lambda: verify.check_details(report, registry),
            "the metrics follow from their diagnostics' details",
        ),
        ("findings", lambda: verify.check_findings(report), "the verdicts follow from the metrics"),
    )
    for claim, test, note in tests:
        try:
            test()
            yield Outcome(claim, CONFIRMED, note=note)
        except verify.Refused as error:
            yield Outcome(claim, DIFFERS, note=str(error))
    yield from _curve(report, folder)


def _curve(report: Report, folder: Path) -> Iterator[Outcome]:
    """The evaluations during training, which stand in a file and in the details of whoever draws them."""
    held = {name: at(entry.details, "curve") for name, entry in report.diagnostics.items()}
    held = {name: curve for name, curve in held.items() if curve is not None}
    if not held or not listed(report, DYNAMICS):
        return
    if not (folder / DYNAMICS).is_file():
        yield Outcome("curve", UNKNOWN, note=f"{DYNAMICS} is not here")
        return
    try:
        curve = [json.loads(line) for line in (folder / DYNAMICS).read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, RecursionError):
        yield Outcome("curve", DIFFERS, note=f"{DYNAMICS} is no learning curve")
        return
    other = [name for name in held if held[name] != curve]
    note = f"{DYNAMICS} is {'not ' if other else ''}the curve in the details of {(other or list(held))[0]}"
    yield Outcome("curve", DIFFERS if other else CONFIRMED, note=note)


def _examples(report: Report, folder: Path, registry: Registry) -> Iterator[Outcome]:
    """The examples made again, and compared with those that were asked."""
    try:
        spec = regenerate.spec_of(report, registry)
        data = regenerate.data_of(report, spec, registry)
    except (UserError, ValueError) as error:
        yield Outcome("data", UNKNOWN, note=" ".join(str(error).split()))
        return
    claimed, found = report.data.fingerprint, data.fingerprint()
    counts = report.data.counts == data.counts() and report.data.n_noisy == len(data.train.noisy)
    if claimed == found and counts:
        yield Outcome("data", CONFIRMED, note="all examples and labels made again from the task and its seeds")
    else:
        yield Outcome("data", DIFFERS, claimed[:12], found[:12], "fingerprint or counts of the examples made again")
    asked, why = _answers(report, folder)
    if asked is None:
        yield Outcome("samples", UNKNOWN, note=why)
        return
    wrong = [*regenerate.mismatches(asked, data), *asked.contradictions()]
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        yield Outcome("samples", DIFFERS, note=f"{wrong[0]}{more}")
    else:
        yield Outcome("samples", CONFIRMED, note="the examples asked are those, and each verdict fits its answer")


def _answers(report: Report, folder: Path) -> tuple[Answers | None, str]:
    """The answers beside a report, or why there are none: a file that it does not list is nobody's claim."""
    if not (folder / SAMPLES).is_file():
        return None, f"{SAMPLES} is not here"
    if not listed(report, SAMPLES):
        return None, f"{SAMPLES} is not among the report's artifacts"
    try:
        return Answers.load(folder / SAMPLES), ""
    except Unreadable as error:
        return None, f"{SAMPLES} {error}"


def _metrics(report: Report, folder: Path, registry: Registry) -> Iterator[Outcome]:
    """Every metric, from the records beside the report where they allow it."""
    asked, why = _answers(report, folder)
    if asked is not None and report.data.n_noisy and not asked.marked().any():
        asked, why = None, f"{SAMPLES} holds no phantom labels"
    scored = {} if asked is None else asked.score()
    for name in verify.ANSWERED:
        if name in report.metrics:
            claimed = report.metrics[name]
            yield _compared(name, claimed, scored[name], SAMPLES) if name in scored else _unknown(name, claimed, why)
    for name, entry in report.diagnostics.items():
        kept, missing = records(report, folder, name)
        missing = missing or "its records do not determine it"
        try:
            found = implied(report, name, registry, kept)
        except Differs as error:
            yield from (Outcome(m, DIFFERS, shown(report.metrics[m]), note=str(error)) for m in entry.metrics)
            continue
        source = f"{name}.parquet and its details" if kept else "its details"
        for metric in entry.metrics:
            claimed = report.metrics[metric]
            if metric not in found:
                yield _unknown(metric, claimed, missing)
            elif isinstance(again := found[metric], Estimate):
                yield _compared(metric, claimed, again, source)
            elif agree(claimed, again):
                yield _unknown(
                    metric, claimed, f"its details agree, but {missing or 'its records do not determine it'}"
                )
            else:
                yield Outcome(metric, DIFFERS, shown(claimed), shown(again), "from the details of its diagnostic")


def _compared(name: str, claimed: Metric, again: Estimate, source: str) -> Outcome:
    verdict = CONFIRMED if agree(claimed, again) else DIFFERS
    return Outcome(name, verdict, shown(claimed), shown(again), source)


def _unknown(name: str, claimed: Metric, why: str) -> Outcome:
    return Outcome(name, UNKNOWN, shown(claimed), note=why)


def _again(report: Report, registry: Registry, rerun: Rerun) -> Iterator[Outcome]:
    """The cell repeated. On the same machine and versions its numbers are the same; elsewhere intervals must meet."""
    environment, parts = report.environment, report.identity.parts
    if parts.get("snapshots"):
        yield Outcome("rerun", UNKNOWN, note="the run used snapshots from folders that are not here")
        return
    if environment.remote_code:
        yield Outcome("rerun", UNKNOWN, note="code that comes with the weights is not run here")
        return
    try:
        spec = regenerate.spec_of(report, registry)
    except UserError as error:
        yield Outcome("rerun", UNKNOWN, note=str(error))
        return
    step = report.training.schedule.step
    if step is not None:  # its twin's, which is not trained again
        schedule = replace(spec.training.schedule, settle=step)
        spec = spec.replace(training=replace(spec.training, schedule=schedule))
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.picked(
            {
                "output_path": Path(folder),
                "dtype": environment.dtype,
                "batch_size": environment.batch_size,
                "limit": report.data.limit,
                "train": parts.get("training") is not None,
                "threads": environment.threads,
                "compile": environment.compiled,
                "stacked": report.training.way == "stacked",
            }
        )
        repeated = rerun(spec, report.model.name, report.data.noise_rate, settings)
    keys = ("torch", "transformers", "platform", "cpu", "device", "threads", "dtype", "precision", "deterministic")
    changed = [key for key in (*keys, "compiled") if getattr(environment, key) != getattr(repeated.environment, key)]
    if report.training.way != repeated.training.way:
        changed.append("way of training")
    elif (report.training.stacked or 1) > 1:  # repeated in a stack of its own, where sums are rounded otherwise
        changed.append(f"size of the stack (1 instead of {report.training.stacked})")
    exact = not changed and environment.deterministic
    note = "must be equal: same machine and versions"
    if not exact:
        note = f"intervals must meet: {', '.join(changed) or 'order of operations'} differs"
    table, measured_by = registry.table("diagnostics"), report.measured_by()
    for name, claimed in report.metrics.items():
        new = repeated.metrics.get(name)
        if new is None and getattr(table.get(measured_by.get(name, "")), "compares_twin", False):
            yield _unknown(f"rerun: {name}", claimed, "it compares with the twin, which is not trained again")
            continue
        if new is None:
            yield Outcome(f"rerun: {name}", DIFFERS, shown(claimed), note="the repeated run has no such metric")
            continue
        same = _equal(claimed, new) if exact else _meet(claimed, new)
        yield Outcome(f"rerun: {name}", CONFIRMED if same else DIFFERS, shown(claimed), shown(new), note)


def _equal(a: Metric, b: Metric) -> bool:
    return all(close(getattr(a, key), getattr(b, key), EXACT) for key in ("value", "ci_low", "ci_high"))


def _meet(a: Metric, b: Metric) -> bool:
    """Whether two metrics' intervals have a point in common; a number without one may differ by a tenth."""
    if a.value is None or b.value is None:
        return a.value is b.value

    def span(metric: Metric, value: float) -> tuple[float, float]:
        if metric.ci_low is None or metric.ci_high is None:
            return value - 0.1, value + 0.1
        return metric.ci_low, metric.ci_high

    first, second = span(a, a.value), span(b, b.value)
    return first[0] <= second[1] + EXACT and second[0] <= first[1] + EXACT
