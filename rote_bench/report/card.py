"""Model cards of the snapshots: what each is, with its results as Hugging Face's metadata holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ..measures import HEADLINE, SELECTION
from ..models.names import known_types
from ..training.curve import Evaluation
from . import escape, record, write

FILE = "README.md"
Metrics = Mapping[str, record.Metric]


def at_step(curve: Sequence[Evaluation], step: int) -> Metrics:
    """The metrics of the evaluation at a step: all that is known of a model in the middle of training."""
    point = next(each for each in curve if each.step == step)
    reason = "an evaluation in the middle of training keeps no answers"
    found = {}
    for measure in (*HEADLINE, SELECTION):
        value = getattr(point, measure.name, None)
        if value is not None:
            better, split = measure.higher_is_better, measure.split
            found[measure.name] = record.Metric(value, None, None, None, 0, better, split, None, reason)
    return found


def render(report: record.Report, snapshot: str, metrics: Metrics, of_module: str | None = None) -> str:
    """The card of one snapshot.

    Args:
        report: of the cell; only what was known before diagnosis is read.
        snapshot: a name under ``training.snapshots``.
        metrics: what was measured of this snapshot, as the report's ``metrics``.
        of_module: the class of which it is the weights, where transformers cannot read it by itself.
    """
    from huggingface_hub import EvalResult, ModelCardData

    task, data, training = report.task, report.data, report.training
    name, title = plain(report.model.name), plain(task.title)
    known = {metric: entry for metric, entry in metrics.items() if entry.value is not None}
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=plain(task.name),
            dataset_name=title,
            dataset_config=plain(task.profile) if task.profile else None,
            dataset_split=plain(entry.split),
            dataset_revision=task.content_hash,
            dataset_args={"noise_rate": data.noise_rate, "seed": asdict(report.seeds)},
            metric_type=metric,
            metric_name=metric.replace("_", " "),
            metric_value=entry.value,
            metric_args=None
            if entry.ci_low is None
            else {"ci_low": entry.ci_low, "ci_high": entry.ci_high, "n": entry.n},
        )
        for metric, entry in known.items()
    ]
    head = ModelCardData(
        library_name="transformers" if of_module is None else "pytorch",
        pipeline_tag="text-generation",
        base_model=base(report.model),
        tags=["rote-bench", "memorization", "label-noise"],
        model_name=f"{name} on {plain(task.name)}, {snapshot}",
        eval_results=results or None,
    )
    step = training.snapshots[snapshot]
    rows = (f"| {m.replace('_', ' ')} | {cell(e.split)} | {e.value:.4g} | {interval(e)} |" for m, e in known.items())
    lines = [
        "---",
        head.to_yaml(),
        "---",
        "",
        f"# {cell(name)} on {cell(title)}: {snapshot.replace('_', ' ')}",
        "",
        f"The model after step {step} of {training.steps}, trained by rote-bench on questions of which"
        f" {data.n_noisy} (noise rate {data.noise_rate:g}) carry a wrong label on purpose,"
        " to study how such labels are memorised; it is of no other use.",
        "",
        f"Which step it is: {cell(training.snapshot_rule)}.",
        "",
        "| metric | split | value | 95 % interval |",
        "|---|---|---:|---|",
        *rows,
        "",
        "The report of the whole run, with every diagnostic, stands two folders above in `report.json`.",
        "",
        "```python",
        *_loading(report.model, of_module),
        'tokenizer = AutoTokenizer.from_pretrained("this folder")',
        "```",
    ]
    return "\n".join(lines) + "\n"


def _loading(model: record.Model, of_module: str | None) -> list[str]:
    """The lines of Python that load a snapshot."""
    if of_module is None:
        known = model.builder is None or model.model_type in known_types()
        return [
            *([] if known else ["# first import what registers this type with AutoConfig and AutoModelForCausalLM"]),
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            'model = AutoModelForCausalLM.from_pretrained("this folder")',
        ]
    return [
        "from safetensors.torch import load_model",
        "from transformers import AutoTokenizer",
        "",
        f"model = ...  # a {plain(of_module)}, made as before training",
        'load_model(model, "this folder/model.safetensors")',
    ]


def base(model: record.Model) -> str | None:
    """The repository from which a pretrained model came; None for random weights and local files."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    name = model.name.removeprefix("hf:").partition("@")[0]
    if model.source != "pretrained" or Path(name).exists():
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name


def write_cards(folder: Path, report: record.Report, curve: Sequence[Evaluation]) -> None:
    """A card into the folder of each snapshot.

    Args:
        folder: of the snapshots.
        curve: training's evaluations; the last snapshot has the report's own metrics.
    """
    from ..models.keeping import of_module

    for snapshot, step in report.training.snapshots.items():
        metrics = report.metrics if snapshot == record.POST else at_step(curve, step)
        write.write_text(folder / snapshot / FILE, render(report, snapshot, metrics, of_module(folder / snapshot)))


def plain(text: object) -> str:
    """Text on one line that any file can hold: names and titles are the user's and may have anything in them."""
    return " ".join(str(text).encode("utf-8", "replace").decode().split())


def cell(text: object) -> str:
    """The same where Markdown would read more into it."""
    return escape.markdown(plain(text))


def interval(entry: record.Metric) -> str:
    """``0.98 to 0.99``, or nothing."""
    return "" if entry.ci_low is None else f"{entry.ci_low:.4g} to {entry.ci_high:.4g}"
