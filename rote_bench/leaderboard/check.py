"""A submission is computed again, metric by metric, from everything that came with it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..report.write import FILE, find_reports
from . import details, regenerate, verify
from .recompute import SOURCES, Recomputed, answers

if TYPE_CHECKING:
    from ..plugins import Registry

CONFIRMED, DIFFERS, UNKNOWN = "confirmed", "differs", "not recomputed"
EXACT = 1e-9
VALUES = ("value", "ci_low", "ci_high")
Rerun = Callable[[Any, str, float, Mapping[str, Any]], Mapping[str, Any]]


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


@dataclass
class Check:
    """All outcomes of one report."""

    path: str
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Nothing differs."""
        return all(outcome.verdict != DIFFERS for outcome in self.outcomes)

    def entry(self) -> dict[str, Any]:
        """As JSON."""
        return {"path": self.path, "holds": self.holds, "outcomes": [asdict(outcome) for outcome in self.outcomes]}

    def table(self, style: str = "simple") -> str:
        """As text."""
        from tabulate import tabulate

        rows = [[o.claim, o.verdict, o.claimed, o.recomputed, o.note] for o in self.outcomes]
        header = ["claim", "", "claimed", "recomputed", "from, or why not"]
        counts = ", ".join(
            f"{sum(o.verdict == verdict for o in self.outcomes)} {verdict}" for verdict in (CONFIRMED, DIFFERS, UNKNOWN)
        )
        return f"{self.path}\n\n{tabulate(rows, headers=header, tablefmt=style, disable_numparse=True)}\n\n{counts}"


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
    if report["status"] != "success":
        raise UserError(f"the run did not succeed, so that it claims nothing: {report['status']}", where=str(file))
    done.outcomes += _itself(report, file.parent)
    done.outcomes += _examples(report, file.parent, registry)
    done.outcomes += _metrics(report, file.parent)
    if rerun is not None:
        done.outcomes += _again(report, registry, rerun)
    return done


def _itself(report: Mapping[str, Any], folder: Path) -> Iterator[Outcome]:
    """What needs nothing but the report and its folder."""
    try:
        present, missing = verify.check_artifacts(report, folder)
        note = f"{present} files are as described" + (f", {missing} are not here" if missing else "")
        yield Outcome("artifacts", CONFIRMED if present else UNKNOWN, note=note)
    except verify.Refused as error:
        yield Outcome("artifacts", DIFFERS, note=str(error))
    for claim, test, note in (
        ("numbers", verify.check_numbers, "none is NaN, infinite or beyond what is measured"),
        ("identity", verify.check_identity, "the hash is that of its parts, and they are the report's"),
        ("consistency", verify.check_metrics, "the metrics agree with each other and with their details"),
        ("findings", verify.check_findings, "the verdicts follow from the metrics"),
    ):
        try:
            test(report)
            yield Outcome(claim, CONFIRMED, note=note)
        except verify.Refused as error:
            yield Outcome(claim, DIFFERS, note=str(error))


def _examples(report: Mapping[str, Any], folder: Path, registry: Registry) -> Iterator[Outcome]:
    """The examples made again, and compared with those that were asked."""
    try:
        spec = regenerate.spec_of(report, registry)
        data = regenerate.data_of(report, spec, registry)
    except (UserError, ValueError) as error:
        yield Outcome("data", UNKNOWN, note=" ".join(str(error).split()))
        return
    claimed, found = report["data"]["fingerprint"], data.fingerprint()
    counts = report["data"]["counts"] == data.counts() and report["data"]["n_noisy"] == len(data.train.noisy)
    if claimed == found and counts:
        yield Outcome("data", CONFIRMED, note="all examples and labels made again from the task and its seeds")
    else:
        yield Outcome("data", DIFFERS, claimed[:12], found[:12], "fingerprint or counts of the examples made again")
    asked, why = answers(report, folder)
    if asked is None:
        yield Outcome("samples", UNKNOWN, note=why)
        return
    wrong = [*regenerate.mismatches(asked, data), *asked.contradictions()]
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        yield Outcome("samples", DIFFERS, note=f"{wrong[0]}{more}")
    else:
        yield Outcome("samples", CONFIRMED, note="the examples asked are those, and each verdict fits its answer")


def _metrics(report: Mapping[str, Any], folder: Path) -> Iterator[Outcome]:
    """Every metric, from the records beside the report where they allow it."""
    found: dict[str, Recomputed] = {}
    reasons: dict[str, str] = {}
    for source, of in SOURCES:
        values, why = source(report, folder)
        found.update(values)
        if why:
            reasons.update(dict.fromkeys(of, why))
    implied = details.recompute(report)
    for name, claimed in report["metrics"].items():
        if name in found:
            yield _compared(name, claimed, found[name])
        elif name in implied:
            agrees = details.agree(claimed["value"], implied[name])
            why = reasons.get(name, "no per-example records are kept")
            note = f"its details agree, but {why}" if agrees else "from the details of its diagnostic"
            again = details.shown(implied[name])
            yield Outcome(name, UNKNOWN if agrees else DIFFERS, shown(claimed), "" if agrees else again, note)
        else:
            yield Outcome(name, UNKNOWN, shown(claimed), note=reasons.get(name, "no per-example records are kept"))


def _compared(name: str, claimed: Mapping[str, Any], again: Recomputed) -> Outcome:
    new = {"value": again.estimate.value, "ci_low": again.estimate.ci_low, "ci_high": again.estimate.ci_high}
    same = all(_close(claimed[key], new[key], EXACT) for key in VALUES)
    return Outcome(name, CONFIRMED if same else DIFFERS, shown(claimed), shown(new), again.source)


def _close(a: float | None, b: float | None, tolerance: float) -> bool:
    return a is b if a is None or b is None else math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)


def shown(entry: Mapping[str, Any]) -> str:
    """A value with its interval."""
    if entry["value"] is None:
        return "null"
    if entry["ci_low"] is None:
        return f"{entry['value']:.6g}"
    return f"{entry['value']:.6g} [{entry['ci_low']:.4g}, {entry['ci_high']:.4g}]"


def _again(report: Mapping[str, Any], registry: Registry, rerun: Rerun) -> Iterator[Outcome]:
    """The cell repeated. On the same machine and versions its numbers are the same; elsewhere intervals must meet."""
    environment, identity = report["environment"], report["identity"]["parts"]
    if identity.get("snapshots"):
        yield Outcome("rerun", UNKNOWN, note="the run used snapshots from folders that are not here")
        return
    if environment["remote_code"]:
        yield Outcome("rerun", UNKNOWN, note="code that comes with the weights is not run here")
        return
    try:
        spec = regenerate.spec_of(report, registry)
    except UserError as error:
        yield Outcome("rerun", UNKNOWN, note=str(error))
        return
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "output": Path(folder),
            "dtype": environment["dtype"],
            "limit": report["data"]["limit"],
            "train": identity.get("recipe") is not None,
            "threads": environment["threads"],
            "compile": environment.get("compiled", False),
        }
        repeated = rerun(spec, report["model"]["name"], report["data"]["noise_rate"], settings)
    keys = ("torch", "transformers", "platform", "cpu", "device", "threads", "dtype", "precision", "deterministic")
    here = repeated["environment"]
    changed = [key for key in keys if environment[key] != here[key]]
    changed += ["torch.compile"] if environment.get("compiled", False) != here.get("compiled", False) else []
    exact = not changed and environment["deterministic"]
    note = "must be equal: same machine and versions"
    if not exact:
        note = f"intervals must meet: {', '.join(changed) or 'order of operations'} differs"
    for name, claimed in report["metrics"].items():
        new = repeated["metrics"].get(name)
        if new is None:
            yield Outcome(f"rerun: {name}", DIFFERS, shown(claimed), note="the repeated run has no such metric")
            continue
        same = all(_close(claimed[key], new[key], EXACT) for key in VALUES) if exact else _meet(claimed, new)
        yield Outcome(f"rerun: {name}", CONFIRMED if same else DIFFERS, shown(claimed), shown(new), note)


def _meet(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two metrics' intervals have a point in common; a number without one may differ by a tenth."""
    if a["value"] is None or b["value"] is None:
        return a["value"] is b["value"]
    spans = []
    for entry in (a, b):
        low, high = entry["ci_low"], entry["ci_high"]
        spans.append((entry["value"] - 0.1, entry["value"] + 0.1) if low is None or high is None else (low, high))
    return bool(spans[0][0] <= spans[1][1] + EXACT and spans[1][0] <= spans[0][1] + EXACT)
