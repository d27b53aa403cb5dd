"""A submission is computed again, metric by metric, from everything that came with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..report.conditions import at
from ..report.record import Report
from ..report.write import FILE, find_reports
from ..spec.loader import load_task
from ..statistics import Estimate
from . import counted, course, regenerate, repeat, verify
from .answers import Answers
from .implied import Differs, agree, implied, listed, records, shown, wants_records
from .outcome import CONFIRMED, DIFFERS, TRUST, UNKNOWN, Check, Outcome
from .repeat import Rerun
from .untrusted import Unreadable, lines

if TYPE_CHECKING:
    from ..plugins import Registry
    from ..spec.model import TaskSpec
    from ..splits import Data

SAMPLES, DYNAMICS = "samples.parquet", "dynamics.jsonl"
# What no file determines and only whoever made the report knows; docs/claims.md lists all of it.
WORD = "commit, processor, versions, times and warnings are the submitter's word"
ONLY_REPEATED = "proofs of the model's structure, tokens, and what diagnostics saw: only a repeated run can tell"


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


def check(path: Path, registry: Registry, rerun: Rerun | None = None, task: str | Path | None = None) -> Check:
    """Compute a report again.

    Args:
        path: a ``report.json`` or its folder.
        rerun: trains and diagnoses a cell; given, the whole cell is repeated.
        task: the reader's own task file, for questions that stand in files.

    Raises:
        UserError: when there is no report that could be checked, or no such task.
    """
    if task is not None:
        load_task(task, registry)
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
    try:
        verify.check_numbers(report)
    except verify.Refused as error:  # with such numbers nothing else can be computed
        done.outcomes.append(Outcome("numbers", DIFFERS, note=str(error)))
        return done
    again: Iterable[Outcome] = [Outcome("only repeated", TRUST, note=ONLY_REPEATED)]
    if rerun is not None:
        again = repeat.again(report, registry, rerun, task)
    for what, outcomes in (
        ("report", _itself(report, file.parent, registry)),
        ("training", _training(report, file.parent)),
        ("examples", _examples(report, file.parent, registry, task)),
        ("metrics", _metrics(report, file.parent, registry)),
        ("rerun", again),
        ("word", [Outcome("environment, timings", TRUST, note=WORD)]),
    ):
        done.outcomes += _contained(what, outcomes)
    return done


def _contained(what: str, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """Outcomes, as far as they come: whatever a report makes fail, it is that report's and nothing else's."""
    try:
        yield from outcomes
    except Exception as error:
        yield Outcome(what, UNKNOWN, note=f"checking it failed: {type(error).__name__}: {error}")


def _itself(report: Report, folder: Path, registry: Registry) -> Iterator[Outcome]:
    """What needs nothing but the report and its folder."""
    yield Outcome("numbers", CONFIRMED, note="none is NaN, infinite or beyond what is measured")
    try:
        present, missing = verify.check_artifacts(report, folder)
        note = f"{present} files are as described" + (f", {missing} are not here" if missing else "")
        yield Outcome("artifacts", CONFIRMED if present else UNKNOWN, note=note)
    except verify.Refused as error:
        yield Outcome("artifacts", DIFFERS, note=str(error))
    tests: tuple[tuple[str, Callable[[], None], str], ...] = (
        ("task", lambda: verify.check_task(report), "it is resolved and names no other file"),
        ("identity", lambda: verify.check_identity(report), "the hash is that of its parts, those of the report"),
        ("counts", lambda: verify.check_counts(report, registry), "those of task, noise rate and answers"),
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


def _training(report: Report, folder: Path) -> Iterator[Outcome]:
    """The evaluations during training, which stand in a file and in the details of whoever draws them, and what is
    said of the training, which follows from them."""
    held = {name: at(entry.details, "curve") for name, entry in report.diagnostics.items()}
    held = {name: curve for name, curve in held.items() if curve is not None}
    curve: object = next(iter(held.values()), None)
    if listed(report, DYNAMICS):
        if not (folder / DYNAMICS).is_file():
            yield Outcome("curve", UNKNOWN, note=f"{DYNAMICS} is not here")
        else:
            try:
                kept = lines(folder / DYNAMICS)
            except Unreadable as error:
                yield Outcome("curve", DIFFERS, note=f"{DYNAMICS} is no learning curve: it {error}")
                return
            other = [name for name in held if held[name] != kept]
            if held:
                note = f"{DYNAMICS} is {'not ' if other else ''}the curve in the details of {(other or list(held))[0]}"
                yield Outcome("curve", DIFFERS if other else CONFIRMED, note=note)
            curve = kept
    wrong = next(course.faults(report, curve), None)
    if wrong is not None:
        yield Outcome("training", DIFFERS, note=wrong)
    elif curve is None and report.identity.parts.get("training") is not None:
        yield Outcome("training", UNKNOWN, note="it fits the recipe; the learning curve is not here")
    else:
        yield Outcome("training", CONFIRMED, note="steps, snapshots and rates follow from the recipe and the curve")


def _examples(report: Report, folder: Path, registry: Registry, task: str | Path | None) -> Iterator[Outcome]:
    """The examples made again, and compared with those that were asked."""
    data = spec = None
    try:
        spec = regenerate.spec_of(report, registry, task)
        data = regenerate.data_of(report, spec, registry)
    except (UserError, ValueError, MemoryError) as error:
        yield Outcome("data", UNKNOWN, note=str(error) or type(error).__name__)
    if data is not None:
        claimed, found = report.data.fingerprint, data.fingerprint()
        counts = report.data.counts == data.counts() and report.data.n_noisy == len(data.train.noisy)
        if claimed == found and counts:
            yield Outcome("data", CONFIRMED, note="all examples and labels made again from the task and its seeds")
        else:
            yield Outcome("data", DIFFERS, claimed[:12], found[:12], "fingerprint or counts of the examples made again")
    yield from _contained("model", _model(report, spec, data, registry))
    try:
        asked, why = _answers(report, folder)
    except Unreadable as error:
        yield Outcome("samples", DIFFERS, note=str(error))
        return
    if asked is None:
        yield Outcome("samples", UNKNOWN, note=why)
        return
    wrong = [*([] if data is None else regenerate.mismatches(asked, data)), *asked.contradictions()]
    unlike = counted.unlike_answers(report, asked)
    wrong += [] if unlike is None else [unlike]
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        yield Outcome("samples", DIFFERS, note=f"{wrong[0]}{more}")
    elif data is None:
        yield Outcome("samples", UNKNOWN, note="each verdict fits its answer; the examples could not be made again")
    else:
        yield Outcome("samples", CONFIRMED, note="the examples asked are those, and each verdict fits its answer")


def _model(report: Report, spec: TaskSpec | None, data: Data | None, registry: Registry) -> Iterator[Outcome]:
    """Configuration and size of a model that starts from random weights, which its name and the task decide; its
    vocabulary and longest question are its own word where the examples cannot be made again."""
    try:
        found = regenerate.model_of(report, spec, data, registry)
    except UserError as error:
        yield Outcome("model", UNKNOWN, note=str(error))
        return
    if isinstance(found, str):
        yield Outcome("model", DIFFERS, report.model.source, found, "where its weights come from, by its name")
        return
    if found is None:
        yield Outcome("model", TRUST, note="its weights came from elsewhere: only a repeated run can tell")
        return
    config, parameters = found
    keys = (config.keys() | report.model.config.keys()) - {*verify.UNIDENTIFIED}
    wrong = sorted(key for key in keys if config.get(key) != report.model.config.get(key))
    if report.model.parameters == parameters and not wrong:
        note = "configuration and number of parameters made again from its name"
        if data is None:
            note += "; vocabulary and longest question are its own word"
        yield Outcome("model", CONFIRMED, note=note)
        return
    said = f"another configuration: {', '.join(wrong[:3])}" if wrong else "another number of parameters"
    mine, theirs = version("transformers"), report.environment.transformers
    if mine == theirs:
        yield Outcome("model", DIFFERS, str(report.model.parameters), str(parameters), said)
    else:
        note = f"transformers {theirs[:40]} is not here, and {mine} gives {said}"
        yield Outcome("model", UNKNOWN, str(report.model.parameters), str(parameters), note)


def _answers(report: Report, folder: Path) -> tuple[Answers | None, str]:
    """The answers beside a report, or why there are none: a file that it does not list is nobody's claim.

    Raises:
        Unreadable: when the file is there and among the report's, and holds no answers.
    """
    if not (folder / SAMPLES).is_file():
        return None, f"{SAMPLES} is not here"
    if not listed(report, SAMPLES):
        return None, f"{SAMPLES} is not among the report's artifacts"
    try:
        return Answers.load(folder / SAMPLES), ""
    except Unreadable as error:
        raise Unreadable(f"{SAMPLES} {error}") from None


def _metrics(report: Report, folder: Path, registry: Registry) -> Iterator[Outcome]:
    """Every metric, from the records beside the report where they allow it."""
    try:
        asked, why = _answers(report, folder)
    except Unreadable as error:
        asked, why = None, str(error)
    if asked is not None and report.data.n_noisy and not asked.marked().any():
        asked, why = None, f"{SAMPLES} holds no phantom labels"
    scored = {} if asked is None else asked.score()
    for name in verify.ANSWERED:
        if name in report.metrics:
            claimed = report.metrics[name]
            if name in scored:
                verdict = CONFIRMED if agree(claimed, scored[name]) else DIFFERS
                yield Outcome.of(name, verdict, claimed, scored[name], SAMPLES)
            else:
                yield Outcome(name, UNKNOWN, shown(claimed), note=why)
    for name in report.diagnostics:
        yield from _contained(name, _of_diagnostic(report, folder, registry, name))


def _of_diagnostic(report: Report, folder: Path, registry: Registry, name: str) -> Iterator[Outcome]:
    """The metrics of one diagnostic, from its details and records."""
    entry = report.diagnostics[name]
    try:
        kept, missing = records(report, folder, name)
        found = implied(report, name, registry, kept)
        # What it would find with records that it has not, could be found; what it never finds is taken on trust.
        verdict, why = TRUST, "nothing that the report keeps determines it"
        if not kept and wants_records(report, name, registry):
            verdict, why = UNKNOWN, missing
    except (Differs, Unreadable) as error:
        yield from (Outcome(m, DIFFERS, shown(report.metrics[m]), note=str(error)) for m in entry.metrics)
        return
    source = f"{name}.parquet and its details" if kept else "its details"
    for metric in entry.metrics:
        claimed = report.metrics[metric]
        if metric not in found:
            yield Outcome(metric, verdict, shown(claimed), note=why)
        elif not agree(claimed, again := found[metric]):
            yield Outcome.of(metric, DIFFERS, claimed, again, source)
        elif isinstance(again, Estimate):
            yield Outcome.of(metric, CONFIRMED, claimed, again, source)
        else:
            yield Outcome(metric, verdict, shown(claimed), note=f"its details agree, but {why}")
