"""Cells of a board: one that was really trained, and others made of it that agree with themselves as it does."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

from rote_bench.cli import main
from rote_bench.diagnostics.learning_dynamics import LearningDynamics, asked_of
from rote_bench.findings import decide
from rote_bench.hashing import digest, sha256
from rote_bench.leaderboard.answers import Answers
from rote_bench.measures import OF_NOISE
from rote_bench.plugins import built_in
from rote_bench.report.schema import read, write
from rote_bench.spec.options import build as build_options
from rote_bench.statistics import Estimate, minus, wilson, within


def judge(report: dict[str, Any]) -> None:
    """Make the findings those of the report again."""
    report["findings"] = write(decide(read(report)))


def identify(report: dict[str, Any]) -> None:
    """Make the identity that of the report again, as somebody who tampers with care would."""
    parts = report["identity"]["parts"]
    parts["seeds"] = report["task"]["spec"]["seeds"] = report["seeds"]
    parts["noise_rate"], parts["limit"] = report["data"]["noise_rate"], report["data"]["limit"]
    name = report["model"]["name"]
    if "-" not in name:  # none that a type and a size make
        report["model"]["source"] = "plugin"
    parts["model"].update(name=name, source=report["model"]["source"])
    report["identity"]["hash"] = digest(parts)


def put(folder: Path, report: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report))
    return folder


def build(places: list[Path], output: Path, *flags: str) -> dict[str, Any]:
    assert main(["leaderboard", "build", *map(str, places), "-o", str(output), "--quiet", *flags]) == 0
    board: dict[str, Any] = json.loads((output / "leaderboard.json").read_text())
    return board


def accuracy(report: dict[str, Any], right: int) -> None:
    """Another held-out accuracy, with its interval."""
    n = report["metrics"]["validation_accuracy"]["n"]
    e = wilson(right, n)
    entry = report["metrics"]["validation_accuracy"]
    entry.update(value=e.value, ci_low=e.ci_low, ci_high=e.ci_high, ci_method=e.ci_method)


def beyond_control(report: dict[str, Any]) -> None:
    """What is memorised beyond the control, as it follows from both shares."""
    memorised, phantom = (read(report).metrics[name] for name in ("memorization_rate", "phantom_rate"))
    e = within(minus(memorised, phantom), (-1.0, 1.0))
    report["metrics"]["counterfactual_memorization"].update(value=e.value, ci_low=e.ci_low, ci_high=e.ci_high, n=e.n)


def draw_again(report: dict[str, Any], seed: int) -> None:
    """Intervals that are drawn from the details, as a run with another seed would draw them."""
    options = {name: given for chosen in report["task"]["spec"]["diagnostics"] for name, given in chosen.items()}
    for name, entry in report["diagnostics"].items():
        if entry["status"] == "success":
            cls = built_in().table("diagnostics")[name]
            implied = cls(build_options(cls.Options, options[name]), seed).implied(entry["details"], {})
            for metric, e in implied.items():
                if isinstance(e, Estimate) and metric in report["metrics"]:
                    drawn = {key: getattr(e, key) for key in ("ci_low", "ci_high", "reason_if_null")}
                    report["metrics"][metric].update(drawn)


def cell(report: dict[str, Any], model: str, rate: float, seed: int, wrong: int, *, memorised: bool = True) -> Any:
    """A cell made from a real one: as many held-out questions wrong, all noise memorised or none."""
    made = copy.deepcopy(report)
    made["model"]["name"] = model
    made["seeds"] = dict.fromkeys(made["seeds"], seed)
    made["data"]["noise_rate"] = rate
    accuracy(made, made["metrics"]["validation_accuracy"]["n"] - wrong)
    n = made["data"]["n_noisy"] = round(rate * made["data"]["counts"]["train"])
    for name, hits, of in (
        ("memorization_rate", n if memorised else 0, n),
        ("noisy_true_rate", 0 if memorised else n, n),
        ("phantom_rate", 0, made["metrics"]["phantom_rate"]["n"]),
    ):
        e = wilson(hits, max(1, of))
        made["metrics"][name].update(n=of, value=e.value, ci_low=e.ci_low, ci_high=e.ci_high, ci_method=e.ci_method)
    if rate:
        beyond_control(made)
    else:
        without_noise(made)
    draw_again(made, seed)
    judge(made)
    trained(made, f"{model} {rate:g} {seed}")
    identify(made)
    return made


def without_noise(report: dict[str, Any]) -> None:
    """Nothing is known of wrong labels where there are none."""
    none = dict.fromkeys(("value", "ci_low", "ci_high", "ci_method", "reason_if_no_interval"))
    for name in OF_NOISE:
        report["metrics"][name].update(n=0, reason_if_null="no noisy labels at this noise rate", **none)


def trained(report: dict[str, Any], name: str) -> None:
    """Make the report one of a training of its own: other losses, other weights."""
    rng = random.Random(name)
    for entry in report["diagnostics"].values():
        for point in entry["details"].get("curve", ()):
            point["loss"] *= rng.uniform(0.9, 1.1)
    for artifact in report["artifacts"]:
        artifact["sha256"] = digest([name, artifact["path"]])


def answers(folder: Path, report: dict[str, Any], rng: random.Random | None = None) -> Path:
    """Put a report into its folder with a file of answers that its shares are those of.

    Args:
        rng: who chooses which answers are wrong; the same in every file when None.
    """
    import pyarrow
    import pyarrow.parquet

    rng = rng or random.Random(0)
    metrics = report["metrics"]
    shares = {
        "validation": (metrics["validation_accuracy"], None),
        "train_clean": (metrics["train_clean_accuracy"], None),
        "train_noisy": (metrics["noisy_true_rate"], metrics["memorization_rate"]),
    }
    rows: list[dict[str, Any]] = []
    for split, (right, wrong) in shares.items():
        n = right["n"]
        if not n:
            continue
        hits, labels = round(right["value"] * n), 0 if wrong is None else round(wrong["value"] * n)
        flags = [(True, False)] * hits + [(False, True)] * labels + [(False, False)] * (n - hits - labels)
        rng.shuffle(flags)
        for index, (is_answer, is_label) in enumerate(flags):
            label = "a" if split == "train_clean" else "b"
            said = "a" if is_answer else label if is_label else f"c{rng.random():.3f}"
            texts = {"group": str(index), "prompt": f"q{index}", "answer": "a", "label": label, "prediction": said}
            rows.append({"split": split, "index": index, **texts, "is_answer": is_answer, "is_label": is_label})
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "samples.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    for artifact in report["artifacts"]:
        if artifact["path"] == file.name:
            artifact.update(sha256=sha256(file), bytes=file.stat().st_size)
    _on_those_answers(report, file)
    return put(folder, report)


def _on_those_answers(report: dict[str, Any], file: Path) -> None:
    """Let the curve be one of the questions that were asked in the end."""
    answers, details = Answers.load(file), report["diagnostics"]["learning_dynamics"]["details"]
    asked: dict[str, Any] = {}
    for name, split in (("noisy", "train_noisy"), ("validation", "validation"), ("clean", "train_clean")):
        there = split in answers.splits
        asked[name] = (answers.splits[split]["answer"] if there else [], answers.clusters(split) if there else [])
    found, commonest = asked_of(asked, report["task"]["spec"]["training"]["evaluation_examples"])
    details.update(found)
    if asked["noisy"][0]:
        details["early_clean_peak"]["commonest_answer"] = commonest
    for name, e in LearningDynamics(LearningDynamics.Options()).implied(details, {}).items():
        if name in report["metrics"]:
            drawn = ("value", "ci_low", "ci_high", "ci_method", "n", "reason_if_null", "reason_if_no_interval")
            report["metrics"][name].update({key: getattr(e, key) for key in drawn})
    judge(report)
