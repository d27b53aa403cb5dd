"""Model cards of the snapshots: what each is, with its results as Hugging Face's metadata holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..training.curve import CurveName, Evaluation
from . import write

FILE = "README.md"
# The split behind each curve; the curves are all that is known of a model in the middle of training.
CURVES: Mapping[CurveName, str] = {
    "validation_accuracy": "validation",
    "train_clean_accuracy": "train_clean",
    "memorization_rate": "train_noisy",
    "noisy_true_rate": "train_noisy",
    "phantom_rate": "validation",
    "selection_accuracy": "selection",
}


def at_step(curve: Sequence[Evaluation], step: int) -> dict[str, dict[str, Any]]:
    """The metrics of the evaluation at a step, as entries of a report; the curves come without intervals."""
    point = next(point for point in curve if point.step == step)
    levels = {name: point.level(name) for name in CURVES}
    return {
        name: {"value": level, "ci_low": None, "ci_high": None, "split": CURVES[name]}
        for name, level in levels.items()
        if level is not None
    }


def render(report: Mapping[str, Any], snapshot: str, metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """The card of one snapshot.

    Args:
        report: of the cell; only what was known before diagnosis is read.
        snapshot: a name under ``training.snapshots``.
        metrics: what was measured of this snapshot, as the report's ``metrics``.
    """
    from huggingface_hub import EvalResult, ModelCardData

    task, model, training = report["task"], report["model"], report["training"]
    spec = task["spec"]
    name, title = plain(model["name"]), plain(spec["title"] or task["name"])
    known = {metric: entry for metric, entry in metrics.items() if entry["value"] is not None}
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=plain(task["name"]),
            dataset_name=title,
            dataset_config=plain(spec["profile"]) if spec.get("profile") else None,
            dataset_split=plain(entry["split"]),
            dataset_revision=task["content_hash"],
            dataset_args={"noise_rate": report["data"]["noise_rate"], "seed": dict(report["seeds"])},
            metric_type=metric,
            metric_name=metric.replace("_", " "),
            metric_value=entry["value"],
            metric_args=None
            if entry["ci_low"] is None
            else {"ci_low": entry["ci_low"], "ci_high": entry["ci_high"], "n": entry["n"]},
        )
        for metric, entry in known.items()
    ]
    head = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=base(model),
        tags=["rote-bench", "memorization", "label-noise"],
        model_name=f"{name} on {plain(task['name'])}, {snapshot}",
        eval_results=results or None,
    )
    step = training["snapshots"][snapshot]
    rows = (
        f"| {m.replace('_', ' ')} | {cell(e['split'])} | {e['value']:.4g} | {interval(e)} |" for m, e in known.items()
    )
    lines = [
        "---",
        head.to_yaml(),
        "---",
        "",
        f"# {cell(name)} on {cell(title)}: {snapshot.replace('_', ' ')}",
        "",
        f"The model after step {step} of {training['steps']}, trained by rote-bench on questions of which"
        f" {report['data']['n_noisy']} (noise rate {report['data']['noise_rate']:g}) carry a wrong label on purpose,"
        " to study how such labels are memorised; it is of no other use.",
        "",
        f"Which step it is: {cell(training['snapshot_rule'])}.",
        "",
        "| metric | split | value | 95 % interval |",
        "|---|---|---:|---|",
        *rows,
        "",
        "The report of the whole run, with every diagnostic, stands two folders above in `report.json`.",
        "",
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'model = AutoModelForCausalLM.from_pretrained("this folder")',
        'tokenizer = AutoTokenizer.from_pretrained("this folder")',
        "```",
    ]
    return "\n".join(lines) + "\n"


def base(model: Mapping[str, Any]) -> str | None:
    """The repository from which a pretrained model came; None for random weights and local files."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    name = str(model["name"]).removeprefix("hf:").partition("@")[0]
    if model["source"] != "pretrained" or Path(name).exists():
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name


def write_cards(folder: Path, report: Mapping[str, Any], curve: Sequence[Evaluation]) -> None:
    """A card into the folder of each snapshot.

    Args:
        folder: of the snapshots.
        curve: training's evaluations; the last snapshot has the report's own metrics.
    """
    for snapshot, step in report["training"]["snapshots"].items():
        metrics = report["metrics"] if snapshot == "post_memorization" else at_step(curve, step)
        write.write_text(folder / snapshot / FILE, render(report, snapshot, metrics))


def plain(text: Any) -> str:
    """Text on one line that any file can hold: names and titles are the user's and may have anything in them."""
    return " ".join(str(text).encode("utf-8", "replace").decode().split())


def cell(text: Any) -> str:
    """The same where Markdown would read more into it."""
    return "".join(f"\\{c}" if c in "\\`*_[]|<>#" else c for c in plain(text))


def interval(entry: Mapping[str, Any]) -> str:
    """``0.98 to 0.99``, or nothing."""
    return "" if entry["ci_low"] is None else f"{entry['ci_low']:.4g} to {entry['ci_high']:.4g}"
