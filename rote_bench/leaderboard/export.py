"""Reports in the interchange schema of Every Eval Ever (EvalEval Coalition), one file for each.

The schema asks for a time of retrieval. A board holds nothing that changes between two builds, so that is always the
epoch, and the record says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from ..measures import Measure
from ..pipeline.cell import folder_name
from ..plain import JsonObject
from ..report.record import Metric, Report
from .entry import Entry

SCHEMA_VERSION = "0.2.1"
RETRIEVED = "0"


def file_name(entry: Entry) -> str:
    """Where a record goes, relative to the export's folder."""
    report = entry.report
    return f"{folder_name(report.task.label)}/{folder_name(report.model.name)}/{report.identity.hash}.json"


def record(entry: Entry, measures: Mapping[str, Measure], version: str) -> JsonObject:
    """A report as the schema has it.

    Args:
        measures: the declared metrics. A continuous score needs bounds; one without, such as a ratio, has no place.
        version: of this rote-bench.
    """
    report, environment = entry.report, entry.report.environment
    results: list[JsonObject] = []
    left_out: list[str] = []
    for name, metric in sorted(report.metrics.items()):
        measure = measures.get(name)
        if metric.value is None:
            continue
        if measure is None or measure.bounds is None:
            left_out.append(name)
        else:
            results.append(_result(report, metric, measure, measure.bounds))
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"rote-bench/{report.task.label}/{report.model.name}/{report.identity.hash}",
        "retrieved_timestamp": RETRIEVED,
        "dedupe_identity": {
            "run_fingerprint": report.identity.hash,
            "content_hash": entry.sha256,
            "hash_algorithm": "sha256",
        },
        "source_metadata": {
            "source_name": "rote-bench",
            "source_type": "evaluation_run",
            "source_organization_name": "rote-bench",
            "evaluator_relationship": "other",
            "additional_details": {
                "retrieved_timestamp": "fixed, so that the same report always gives the same record",
                "recipe_sha256": entry.cell.recipe,
                "report": entry.path,
                "report_sha256": entry.sha256,
                **({"metrics_without_bounds": ", ".join(left_out)} if left_out else {}),
            },
        },
        "eval_library": {
            "name": "rote-bench",
            "version": environment.rote_bench,
            "additional_details": {
                "exported_by": version,
                "git_commit": str(environment.git_commit),
                "torch": environment.torch,
                "transformers": environment.transformers,
                "cpu": environment.cpu,
            },
        },
        "model_info": _model(report),
        "evaluation_results": results,
    }


def _model(report: Report) -> JsonObject:
    model = report.model
    details = {"model_type": model.model_type, "source": model.source, "parameters": str(model.parameters)}
    return {"name": model.name, "id": model.name.removeprefix("hf:"), "additional_details": details}


def _result(report: Report, metric: Metric, measure: Measure, bounds: tuple[float, float]) -> JsonObject:
    uncertainty: dict[str, object] = {"num_samples": metric.n}
    if metric.ci_low is not None and metric.ci_high is not None:
        uncertainty["confidence_interval"] = {
            "lower": metric.ci_low,
            "upper": metric.ci_high,
            "confidence_level": 0.95,
            "method": metric.ci_method or "unknown",
        }
    task, rate = report.task, report.data.noise_rate
    direction = {True: "higher", False: "lower", None: "descriptive"}[measure.higher_is_better]
    return {
        "evaluation_name": f"{task.label} at noise rate {rate:g}: {measure.name}",
        "source_data": {
            "dataset_name": task.label,
            "source_type": "other",
            "additional_details": {
                "task_version": str(task.version),
                "content_hash": task.content_hash,
                "noise_rate": f"{rate:g}",
                **{f"seed_{key}": str(value) for key, value in asdict(report.seeds).items()},
            },
        },
        "metric_config": {
            "evaluation_description": measure.meaning,
            "lower_is_better": measure.higher_is_better is False,
            "score_type": "continuous",
            "min_score": bounds[0],
            "max_score": bounds[1],
            "additional_details": {"direction": direction},
        },
        "score_details": {"score": metric.value, "uncertainty": uncertainty},
    }
