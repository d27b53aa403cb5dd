"""What is checked before a report may stand on a board: that it is whole, its own, and agrees with itself.

A report that passes is consistent, which an honest report is and a carelessly changed one is not. Whether it is true,
only running the cell again can tell: ``leaderboard check --rerun``.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..findings import decide
from ..hashing import canonical, digest, sha256
from ..measurement import OF_NOISE
from ..report.write import SCHEMA_VERSION, faults, schema
from . import details
from .answers import Answers, Unreadable

LARGEST = 64 * 2**20  # bytes of a report
PROPORTIONS = ("validation_accuracy", "train_clean_accuracy", "memorization_rate", "noisy_true_rate", "phantom_rate")
ANSWERED = (*PROPORTIONS, "counterfactual_memorization")  # what needs no diagnostic
TASK = re.compile(r"[a-z][a-z0-9_]{0,99}")
PROFILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
MODEL = re.compile(r"[A-Za-z0-9](?:[\w .:/@+=~,-]{0,198}[\w.-])?", re.ASCII)
METRIC = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")


class Refused(Exception):
    """The report may not stand on a board; the message is the reason, in one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(" ".join(reason.split())[:300])


def read(path: Path) -> tuple[dict[str, Any], str]:
    """A report that fits the schema, and the SHA-256 of its file.

    Raises:
        Refused: when it is missing, cut short, of another version or no valid report.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise Refused(f"is larger than {LARGEST >> 20} MiB")
        text = path.read_text(encoding="utf-8")
        report = json.loads(text, parse_constant=_reject, parse_float=_finite)
    except OSError as error:
        raise Refused(f"cannot be read: {error.strerror}") from None
    except RecursionError:
        raise Refused("is nested too deeply to be a report") from None
    except ValueError as error:  # which a text that is no UTF-8 is too
        raise Refused(f"is not a complete JSON report: {error}") from None
    version = report.get("schema_version") if isinstance(report, dict) else None
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise Refused(f"is of schema version {version!r}; this rote-bench reads {SCHEMA_VERSION}")
    if not _fits(report):
        found = faults(report)
        if found:
            raise Refused(f"is not a valid report: {found[0]}")
    return report, sha256(path)


def _reject(name: str) -> float:
    raise ValueError(f"{name} is not allowed")


def _finite(text: str) -> float:
    number = float(text)
    if number - number:  # NaN for infinity, which is what a number such as 1e999 is read as
        raise ValueError(f"{text[:20]} is infinite")
    return number


@lru_cache(maxsize=1)
def _compiled() -> Any:
    import fastjsonschema

    # A relative $id would have it look for the definitions elsewhere.
    return fastjsonschema.compile({k: v for k, v in schema().items() if k != "$id"}, use_default=False)


def _fits(report: Any) -> bool:
    """Whether a report is valid, some thirty times as fast as jsonschema, whose messages are better."""
    import fastjsonschema

    try:
        _compiled()(report)
    except fastjsonschema.JsonSchemaException:
        return False
    return True


def verify(report: Mapping[str, Any], folder: Path) -> tuple[int, int]:
    """Everything that must hold for a valid report in its folder.

    Returns:
        How many of its artifacts are there, and how many are not.

    Raises:
        Refused: naming the first thing that does not hold.
    """
    if report["status"] != "success":
        raise Refused(f"the run {'was interrupted' if report['status'] == 'interrupted' else 'failed'}{_why(report)}")
    check_numbers(report)
    check_names(report)
    check_identity(report)
    present = check_artifacts(report, folder)
    check_metrics(report)
    check_answers(report, folder)
    check_findings(report)
    return present


def _why(report: Mapping[str, Any]) -> str:
    error = report["error"]
    return f": {error}" if error and error.isprintable() else ""


def check_numbers(report: Mapping[str, Any]) -> None:
    """No number beyond what is ever measured."""
    large = [name for name, entry in report["metrics"].items() for key in _VALUES if abs(entry[key] or 0) > 1e12]
    if large:
        raise Refused(f"{large[0]} is larger than anything that is measured")
    counts = (report["model"]["parameters"], report["task"]["version"], *report["seeds"].values())
    if any(abs(count) >= 2**63 for count in counts):
        raise Refused("holds a count larger than anything that is measured")


_VALUES = ("value", "ci_low", "ci_high", "n")


def check_names(report: Mapping[str, Any]) -> None:
    """Names of models, tasks and metrics are plain, and so is every other text that a board shows."""
    task, model = report["task"], report["model"]
    profile = task["spec"].get("profile")
    for what, text, pattern in (
        ("model", model["name"], MODEL),
        ("model type", model["model_type"], MODEL),
        ("task", task["name"], TASK),
        ("profile", "none" if profile is None else profile, PROFILE),
        *(("metric", name, METRIC) for name in report["metrics"]),
    ):
        if not isinstance(text, str) or not pattern.fullmatch(text):
            raise Refused(f"no {what} can be called {str(text)[:80]!a}")
    if task["spec"].get("name") != task["name"]:
        raise Refused("the name of the task differs between the report and its specification")
    if len(report["metrics"]) > 500:
        raise Refused("holds more than 500 metrics")
    environment = report["environment"]
    shown = [task["spec"].get("title", ""), *(v for v in environment.values() if isinstance(v, str))]
    shown += [e["reason_if_null"] or "" for e in report["metrics"].values()]
    shown += [e["ci_method"] or "" for e in report["metrics"].values()]
    for text in shown:
        if not isinstance(text, str) or len(text) > 500 or not text.isprintable():
            raise Refused(f"holds a text that cannot be shown: {str(text)[:60]!a}")


def check_identity(report: Mapping[str, Any]) -> None:
    """The identity is the digest of its parts, and the parts are those of the report."""
    identity, task, data = report["identity"], report["task"], report["data"]
    parts, spec = identity["parts"], task["spec"]
    if digest(parts) != identity["hash"]:
        raise Refused("the identity hash is not that of its parts")
    content = {key: spec.get(key) for key in ("name", "version", "generator", "parameters", "splits")}
    noise = spec.get("noise")
    noise = noise if isinstance(noise, Mapping) else {}
    if digest({**content, "noise": {k: noise.get(k) for k in ("kind", "options")}}) != task["content_hash"]:
        raise Refused("the content hash of the task is not that of its specification")
    named = parts.get("task"), parts.get("model")
    in_task, in_model = (part if isinstance(part, Mapping) else {} for part in named)
    for what, given, identified in (
        ("name of the task", task["name"], spec.get("name")),
        ("version of the task", task["version"], spec.get("version")),
        ("content of the task", task["content_hash"], in_task.get("content")),
        ("fingerprint of the data", data["fingerprint"], in_task.get("data")),
        ("noise rate", data["noise_rate"], parts.get("noise_rate")),
        ("limit", data["limit"], parts.get("limit")),
        ("name of the model", report["model"]["name"], in_model.get("name")),
        ("revision of the model", report["model"]["revision"], in_model.get("revision")),
        ("seeds", report["seeds"], parts.get("seeds")),
        ("seeds", report["seeds"], spec.get("seeds")),
        ("precision", report["environment"]["precision"], parts.get("precision")),
        ("dtype", report["environment"]["dtype"], parts.get("dtype")),
    ):
        if canonical(given) != canonical(identified):
            raise Refused(f"the {what} differs between the report and its identity")
    ran = parts.get("diagnostics")
    ran = ran if isinstance(ran, Mapping) else {}
    for name, entry in report["diagnostics"].items():
        code = ran[name].get("code") if isinstance(ran.get(name), Mapping) else None
        if not str(code).startswith(f"{entry['version']}+"):
            raise Refused(f"the version of {name[:80]!a} differs between the report and its identity")
    if parts.get("recipe") is not None and canonical(parts["recipe"]) != canonical(spec.get("training")):
        raise Refused("the recipe differs between the report and its identity")


def check_artifacts(report: Mapping[str, Any], folder: Path) -> tuple[int, int]:
    """Every artifact lies inside the folder, and those that are there are the ones that the report describes."""
    present = missing = 0
    root = folder.resolve()
    for artifact in report["artifacts"]:
        path = artifact["path"]
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
        if not file.is_file() or file.stat().st_size != artifact["bytes"] or sha256(file) != artifact["sha256"]:
            raise Refused(f"the artifact {path[:80]!a} is not the file that the report describes")
        present += 1
    return present, missing


def check_metrics(report: Mapping[str, Any]) -> None:
    """Every metric comes from the answers or from one diagnostic, and follows from the details beside it."""
    metrics, owned = report["metrics"], set(ANSWERED)
    for name, entry in report["diagnostics"].items():
        for metric in entry["metrics"]:
            if metric not in metrics:
                raise Refused(f"{name} lists the metric {metric}, which is missing")
            if metric in owned:
                raise Refused(f"two sources give the metric {metric}")
            owned.add(metric)
    strange = sorted(set(metrics) - owned)
    if strange:
        raise Refused(f"no diagnostic gives the metric {strange[0]}")
    absent = [name for name in ANSWERED if name not in metrics]
    if absent:
        raise Refused(f"the metric {absent[0]} is missing")
    sizes = {"validation_accuracy": report["data"]["counts"].get("validation")}
    if report["data"]["n_noisy"]:
        sizes |= dict.fromkeys(("memorization_rate", "noisy_true_rate"), report["data"]["n_noisy"])
    for name in PROPORTIONS:
        entry = metrics[name]
        value, n = entry["value"], entry["n"]
        if value is None:
            if name not in OF_NOISE or report["data"]["n_noisy"]:
                raise Refused(f"{name} has no value")
            continue
        if not 0 <= value <= 1 or abs(value * n - round(value * n)) > 1e-6 * max(1, n):
            raise Refused(f"{name} {value:.6g} is no share of {n} examples")
        if name in sizes and n != sizes[name]:
            raise Refused(f"{name} is measured on {n} examples, but there are {sizes[name]}")
        low, high = entry["ci_low"], entry["ci_high"]
        if low is None or high is None or not low - 1e-9 <= value <= high + 1e-9:
            raise Refused(f"{name} {value:.6g} lies outside its own interval")
    difference = metrics["counterfactual_memorization"]["value"]
    rates = [metrics[name]["value"] for name in ("memorization_rate", "phantom_rate")]
    expected = None if None in rates else rates[0] - rates[1]
    if (difference is None) != (expected is None) or not math.isclose(difference or 0, expected or 0, abs_tol=1e-9):
        raise Refused("counterfactual_memorization is not memorization_rate minus phantom_rate")
    wrong = details.differing(report)
    if wrong:
        raise Refused(wrong[0])


def check_answers(report: Mapping[str, Any], folder: Path) -> None:
    """The shares of right answers are those of ``samples.parquet``, where it is there."""
    if not (folder / "samples.parquet").is_file() or not listed(report, "samples.parquet"):
        return
    try:
        found = Answers.load(folder / "samples.parquet").values()
    except Unreadable as error:
        raise Refused(f"samples.parquet {error}") from None
    for name, value in found.items():
        claimed = report["metrics"][name]["value"]
        if claimed is None or not math.isclose(claimed, value, abs_tol=1e-9):
            raise Refused(f"{name} is {details.shown(claimed)}, but samples.parquet gives {value:.6g}")


def listed(report: Mapping[str, Any], path: str) -> bool:
    """Whether a file is among the artifacts, so that its hash was checked."""
    return any(artifact["path"] == path for artifact in report["artifacts"])


def check_findings(report: Mapping[str, Any]) -> None:
    """The verdicts are those that the rules give on the report's metrics."""
    expected = decide(report["metrics"])
    given = {finding["id"]: finding for finding in report["findings"]}
    if len(given) != len(report["findings"]):
        raise Refused("a finding stands in the report twice")
    for finding in expected:
        found = given.pop(finding["id"], None)
        if found is None:
            raise Refused(f"the finding {finding['id']} is missing")
        if found["verdict"] != finding["verdict"]:
            raise Refused(
                f"the finding {finding['id']} is {found['verdict']}, but its metrics give {finding['verdict']}"
            )
        if found != finding:
            raise Refused(f"the finding {finding['id']} is worded otherwise than its rule")
    if given:
        raise Refused(f"no rule decides the finding {sorted(given)[0][:80]!a}")
