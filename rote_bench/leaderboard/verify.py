"""What is checked before a report may stand on a board: that it is whole, its own, and agrees with itself.

A report that passes is consistent, which an honest report is and a carelessly changed one is not. Whether it is true,
only running the cell again can tell: ``leaderboard check --rerun``.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..findings import decide
from ..hashing import canonical, digest, sha256
from ..measures import DIFFERENCE, HEADLINE, OF_NOISE, OOD, SHARE, Measure
from ..models.names import NAME, is_sized, parse
from ..report import schema
from ..report.conditions import at
from ..report.record import SCHEMA_VERSION, Report
from ..report.write import faults
from ..spec.model import WHENCE, TaskSpec
from ..statistics import Estimate, minus, within
from . import counted, course, intervals
from .answers import Answers
from .implied import Differs, agree, asked, diagnostic, implied, listed, shown
from .untrusted import LARGEST_TEXT, Unreadable, loads, printable

if TYPE_CHECKING:
    from ..plugins import Registry

ANSWERED = tuple(measure.name for measure in (*HEADLINE, OOD))  # what needs no diagnostic
PROPORTIONS = tuple(measure.name for measure in HEADLINE if measure.bounds == SHARE)
TASK = re.compile(r"[a-z][a-z0-9_]{0,99}")
PROFILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
MODEL = NAME
METRIC = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
RESOLVED = {f.name for f in fields(TaskSpec)} - set(WHENCE)  # what stands in a resolved task file
UNIDENTIFIED = ("transformers_version", "_name_or_path")  # of a model's configuration
READABLE = 2**20  # bytes of a report whose faults are looked for at leisure
MOST_FILES = 10_000  # artifacts of a report


class Refused(Exception):
    """The report may not stand on a board; the message is the reason, in one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(printable(reason)[:300])


def read(path: Path) -> tuple[Report, str]:
    """A report that fits the schema, and the SHA-256 of its file.

    Raises:
        Refused: when it is missing, cut short, of another version or no valid report.
    """
    try:
        if path.exists() and not path.is_file():  # what is no file may never end
            raise Refused("is no file")
        if path.stat().st_size > LARGEST_TEXT:
            raise Refused(f"is larger than {LARGEST_TEXT >> 20} MiB")
        data = loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused(f"cannot be read: {error.strerror}") from None
    except ValueError as error:  # which a text that is no UTF-8 is too
        raise Refused(f"is not a complete JSON report: {error}") from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise Refused(f"is of schema version {version!r}; this rote-bench reads {SCHEMA_VERSION}")
    misfit = _misfit(data)
    if misfit is not None:
        found = faults(data) if path.stat().st_size <= READABLE else [misfit]
        if found:
            raise Refused(f"is not a valid report: {found[0]}")
    return schema.read(data), sha256(path)


@lru_cache(maxsize=1)
def _compiled() -> Any:
    import fastjsonschema

    # A relative $id would have it look for the definitions elsewhere.
    return fastjsonschema.compile({k: v for k, v in schema.schema().items() if k != "$id"}, use_default=False)


def _misfit(data: Any) -> str | None:
    """In what a report is not valid, some thirty times as fast as jsonschema, whose messages are better."""
    import fastjsonschema

    try:
        _compiled()(data)
    except fastjsonschema.JsonSchemaException as error:
        return str(error)
    return None


def verify(report: Report, folder: Path, registry: Registry) -> tuple[int, int]:
    """Everything that must hold for a valid report in its folder.

    Returns:
        How many of its artifacts are there, and how many are not.

    Raises:
        Refused: naming the first thing that does not hold.
    """
    if report.status != "success":
        error = f": {report.error}" if report.error and report.error.isprintable() else ""
        raise Refused(f"the run {'was interrupted' if report.status == 'interrupted' else 'failed'}{error}")
    check_numbers(report)
    check_names(report)
    check_task(report)
    check_identity(report)
    present = check_artifacts(report, folder)
    check_counts(report, registry)
    check_training(report)
    check_metrics(report, registry)
    check_details(report, registry)
    check_answers(report, folder)
    check_findings(report)
    return present


def check_numbers(report: Report) -> None:
    """No number beyond what is ever measured."""
    for name, m in report.metrics.items():
        if any(abs(number or 0) > 1e12 for number in (m.value, m.ci_low, m.ci_high, m.n)):
            raise Refused(f"{name} is larger than anything that is measured")
    seeds = report.seeds
    counts = (report.model.parameters, report.task.version, *(entry.version for entry in report.diagnostics.values()))
    counts += (seeds.data, seeds.noise, seeds.init, seeds.order, seeds.bootstrap)
    if any(abs(count) >= 2**63 for count in counts):
        raise Refused("holds a count larger than anything that is measured")


def check_names(report: Report) -> None:
    """Names of models, tasks and metrics are plain, and so is every other text that a board shows."""
    task, model, environment = report.task, report.model, report.environment
    profile = task.spec.get("profile")
    for what, text, pattern in (
        ("model", model.name, MODEL),
        ("model type", model.model_type, MODEL),
        ("task", task.name, TASK),
        ("profile", "none" if profile is None else profile, PROFILE),
        *(("metric", name, METRIC) for name in report.metrics),
        *(("diagnostic", name, METRIC) for name in report.diagnostics),
        *(("split", name, METRIC) for name in report.data.counts),
        *(("snapshot", name, METRIC) for name in report.training.snapshots),
        *(("proof", name, METRIC) for name in model.anatomy),
    ):
        if not isinstance(text, str) or not pattern.fullmatch(text):
            raise Refused(f"no {what} can be called {str(text)[:80]!a}")
    if task.spec.get("name") != task.name:
        raise Refused("the name of the task differs between the report and its specification")
    if len(report.metrics) > 500:
        raise Refused("holds more than 500 metrics")
    if len(report.artifacts) > MOST_FILES:
        raise Refused(f"lists more than {MOST_FILES} files")
    if report.error is not None and report.status == "success":
        raise Refused("names an error although it succeeded")
    texts = [task.spec.get("title", ""), *(v for v in vars(environment).values() if isinstance(v, str))]
    for metric in report.metrics.values():
        texts += [text or "" for text in (metric.ci_method, metric.reason_if_null, metric.reason_if_no_interval)]
    for text in texts:
        if not isinstance(text, str) or len(text) > 500 or not text.isprintable():
            raise Refused(f"holds a text that cannot be shown: {str(text)[:60]!a}")


def check_task(report: Report) -> None:
    """The task is resolved, as every run writes it: it sends its reader to no other file."""
    for key in sorted(report.task.spec.keys() - RESOLVED):
        raise Refused(f"the task has {key[:80]!a}, unlike the resolved one that a run writes")


def check_counts(report: Report, registry: Registry) -> None:
    """There are as many examples and wrong labels as task, noise rate and answers say."""
    wrong = next(counted.faults(report, registry), None)
    if wrong is not None:
        raise Refused(wrong)


def check_training(report: Report) -> None:
    """What is said of the training follows from the recipe and from the learning curve, where the details hold it."""
    curves = (at(entry.details, "curve") for entry in report.diagnostics.values())
    wrong = next(course.faults(report, next((curve for curve in curves if curve is not None), None)), None)
    if wrong is not None:
        raise Refused(wrong)


def check_identity(report: Report) -> None:
    """The identity is the digest of its parts, and the parts are those of the report."""
    task, parts = report.task, report.identity.parts
    if digest(parts) != report.identity.hash:
        raise Refused("the identity hash is not that of its parts")
    content = {key: task.spec.get(key) for key in ("name", "version", "generator", "parameters", "splits")}
    noise = {key: at(task.spec, "noise", key) for key in ("kind", "options")}
    if digest({**content, "noise": noise}) != task.content_hash:
        raise Refused("the content hash of the task is not that of its specification")
    for what, given, identified in _identified(report):
        if canonical(given) != canonical(identified):
            raise Refused(f"the {what} differs between the report and its identity")
    options = asked(report)
    for name, entry in report.diagnostics.items():
        version = at(parts, "diagnostics", name, "version")
        # that of a plugin comes with the digest of its file
        if str(version).partition("+")[0] != str(entry.version):
            raise Refused(f"the version of {name[:80]!a} differs between the report and its identity")
        if canonical(at(parts, "diagnostics", name, "options")) != canonical(options.get(name)):
            raise Refused(f"the options of {name[:80]!a} differ between the report and its identity")


def _identified(report: Report) -> Iterator[tuple[str, object, object]]:
    """What a report says in two places: its name, the report's own word, and that of its identity."""
    task, data, model, environment = report.task, report.data, report.model, report.environment
    schedule, parts = report.training.schedule, report.identity.parts
    seeds = vars(report.seeds)
    yield "version of the task", task.version, task.spec.get("version")
    yield "seeds", seeds, task.spec.get("seeds")
    for what, given, *path in (
        ("content of the task", task.content_hash, "task", "content"),
        ("fingerprint of the data", data.fingerprint, "task", "data"),
        ("noise rate", data.noise_rate, "noise_rate"),
        ("limit", data.limit, "limit"),
        ("name of the model", model.name, "model", "name"),
        ("source of the model", model.source, "model", "source"),
        ("revision of the model", model.revision, "model", "revision"),
        ("weights of the model", model.weights, "model", "weights"),
        ("tokenizer of the model", model.tokenizer, "model", "tokenizer"),
        ("base of the model", model.base, "model", "base"),
        ("builder of the model", model.builder, "model", "builder"),
        ("code of the model", model.remote_code, "model", "remote_code"),
        ("seeds", seeds, "seeds"),
        ("precision", environment.precision, "precision"),
        ("dtype", environment.dtype, "dtype"),
        ("schedule", schedule.settle, "schedule", "settle"),
        ("twin", schedule.twin, "schedule", "twin"),
        ("step of the schedule", schedule.step, "schedule", "step"),
        ("device", environment.device.partition(":")[0], "device"),
        ("way of training", report.training.way, "way"),
    ):
        yield what, given, at(parts, *map(str, path))
    if model.source == "scratch" and is_sized(model.name):
        yield "type of the model", model.model_type, parse(model.name).model_type
        for what in ("revision", "weights", "tokenizer", "base", "builder"):
            yield f"{what} of random weights", getattr(model, what), None
    own = {key: value for key, value in model.config.items() if key not in UNIDENTIFIED}
    yield "configuration of the model", own, at(parts, "model", "config")
    yield "code of the model", model.remote_code, environment.remote_code
    if parts.get("training") is not None:
        yield "recipe", task.spec.get("training"), parts["training"]


def check_artifacts(report: Report, folder: Path) -> tuple[int, int]:
    """Every artifact lies inside the folder, and those that are there are the ones that the report describes."""
    present = missing = 0
    root = folder.resolve()
    for artifact in report.artifacts:
        path = artifact.path
        parts = path.split("/")
        # An empty first part is an absolute path, a colon in it the drive of another system.
        outside = not parts[0] or ".." in parts or ":" in parts[0] or "\\" in path
        if outside or not path.isprintable():
            raise Refused(f"the artifact path {path[:80]!a} leaves the report's folder")
        if not os.path.lexists(os.path.join(folder, path)):
            missing += 1
            continue
        file = folder / path
        if not file.resolve().is_relative_to(root):
            raise Refused(f"the artifact {path[:80]!a} is a link that leaves the report's folder")
        if not file.is_file() or file.stat().st_size != artifact.bytes or sha256(file) != artifact.sha256:
            raise Refused(f"the artifact {path[:80]!a} is not the file that the report describes")
        present += 1
    return present, missing


def check_metrics(report: Report, registry: Registry) -> None:
    """Every metric is one that the answers or one diagnostic give, as it is declared."""
    answered = (*HEADLINE, OOD) if "ood" in report.data.counts else HEADLINE
    declared = {measure.name: measure for measure in answered}
    for name, entry in report.diagnostics.items():
        try:
            measures = {measure.name: measure for measure in diagnostic(report, name, registry).metrics}
        except Differs as error:
            raise Refused(str(error)) from None
        if entry.metrics and entry.status != "success":
            raise Refused(f"{name} has metrics although it did not succeed")
        for metric in entry.metrics:
            if metric not in report.metrics:
                raise Refused(f"{name} lists the metric {metric[:80]!a}, which is missing")
            if metric in declared:
                raise Refused(f"two sources give the metric {metric}")
            if metric not in measures:
                raise Refused(f"{name} measures no {metric[:80]!a}")
            declared[metric] = measures[metric]
    for metric in report.metrics:
        if metric not in declared:
            raise Refused(f"no diagnostic gives the metric {metric}")
    for metric, measure in declared.items():
        _as_declared(report, metric, measure)
    _shares(report)


def _as_declared(report: Report, name: str, measure: Measure) -> None:
    found = report.metrics.get(name)
    if found is None:
        raise Refused(f"the metric {name} is missing")
    if found.value is not None and not measure.allows(found.value):
        raise Refused(f"{name} {found.value:.6g} lies outside what is possible")
    wrong = intervals.fault(found, measure)
    if wrong is not None:
        raise Refused(f"{name} {wrong}")
    if found.split != measure.split:
        raise Refused(f"{name} is measured on {found.split[:80]!a} instead of {measure.split}")
    if found.higher_is_better != measure.higher_is_better:
        raise Refused(f"the direction of {name} is another one than its declaration's")


def _shares(report: Report) -> None:
    """Shares of right answers are shares of as many examples as there are, and agree with each other."""
    n_noisy = report.data.n_noisy
    sizes: dict[str, int | None] = {"validation_accuracy": report.data.counts.get("validation")}
    extra = [OOD.name] if "ood" in report.data.counts else []
    sizes |= {name: report.data.counts.get("ood") for name in extra}
    if n_noisy:
        sizes |= dict.fromkeys(("memorization_rate", "noisy_true_rate"), n_noisy)
    for name in (*PROPORTIONS, *extra):
        found = report.metrics[name]
        value, n, low, high = found.value, found.n, found.ci_low, found.ci_high
        if value is None:
            if name not in OF_NOISE or n_noisy:
                raise Refused(f"{name} has no value")
            continue
        if abs(value * n - round(value * n)) > 1e-6 * max(1, n):
            raise Refused(f"{name} {value:.6g} is no share of {n} examples")
        if name in sizes and n != sizes[name]:
            raise Refused(f"{name} is measured on {n} examples, but there are {sizes[name]}")
        if low is None or high is None or not low - 1e-9 <= value <= high + 1e-9:
            raise Refused(f"{name} {value:.6g} lies outside its own interval")
    either = [report.metrics[name].value or 0.0 for name in ("memorization_rate", "noisy_true_rate")]
    if sum(either) > 1 + 1e-9:  # one question has one answer
        said = " and ".join(f"{value:.6g}" for value in either)
        raise Refused(f"memorization_rate and noisy_true_rate, {said}, exceed 1, but are shares of the same answers")
    _difference(report)


def _difference(report: Report) -> None:
    """What is memorised beyond the control is the difference of both shares, with the interval that follows."""
    both = report.metrics["memorization_rate"], report.metrics["phantom_rate"]
    claimed, known = report.metrics["counterfactual_memorization"], all(one.value is not None for one in both)
    if (claimed.value is None) != (not known):
        raise Refused("counterfactual_memorization has a value where both its shares have none, or the reverse")
    found = within(minus(*both), DIFFERENCE)
    if known and not agree(claimed, replace(found, ci_method=claimed.ci_method)):
        gives = f"memorization_rate and phantom_rate give {shown(found)}"
        raise Refused(f"counterfactual_memorization is {shown(claimed)}, but {gives}")


def check_details(report: Report, registry: Registry) -> None:
    """Every metric follows from the details of its diagnostic, whose records would take a thousand times as long."""
    for name, entry in report.diagnostics.items():
        try:
            found = implied(report, name, registry)
            measures = {measure.name: measure for measure in diagnostic(report, name, registry).metrics}
        except Differs as error:
            raise Refused(str(error)) from None
        for metric, again in found.items():
            claimed = report.metrics[metric]
            if not agree(claimed, again):
                raise Refused(f"{metric} is {shown(claimed)}, but the details of its diagnostic give {shown(again)}")
        for metric in entry.metrics:
            wrong = None
            if metric in measures and not isinstance(found.get(metric), Estimate):
                wrong = intervals.boundless(report.metrics[metric], measures[metric])
            if wrong is not None:
                raise Refused(f"{metric} {wrong}")


def check_answers(report: Report, folder: Path) -> None:
    """The shares of right answers are those of ``samples.parquet``, where it is there."""
    if not (folder / "samples.parquet").is_file() or not listed(report, "samples.parquet"):
        return
    try:
        answers = Answers.load(folder / "samples.parquet")
    except Unreadable as error:
        raise Refused(f"samples.parquet {error}") from None
    for name, value in answers.values().items():
        claimed = report.value(name)
        if claimed is None or not math.isclose(claimed, value, abs_tol=1e-9):
            raise Refused(f"{name} is {shown(claimed)}, but samples.parquet gives {value:.6g}")
    fault = counted.unlike_answers(report, answers)
    if fault is not None:
        raise Refused(fault)


def check_findings(report: Report) -> None:
    """Verdicts and reasons are those that the rules give on the report."""
    given = {finding.id: finding for finding in report.findings}
    if len(given) != len(report.findings):
        raise Refused("a finding stands in the report twice")
    for finding in decide(report):
        found = given.pop(finding.id, None)
        if found is None:
            raise Refused(f"the finding {finding.id} is missing")
        if found.verdict != finding.verdict:
            raise Refused(f"the finding {finding.id} is {found.verdict}, but its numbers give {finding.verdict}")
        if found.reason != finding.reason:
            raise Refused(f"the reason of the finding {finding.id} is not that of its numbers: {finding.reason}")
        if found != finding:
            raise Refused(f"the finding {finding.id} is worded otherwise than its rule")
    if given:
        raise Refused(f"no rule decides the finding {sorted(given)[0][:80]!a}")
