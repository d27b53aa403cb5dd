"""Reports in the interchange schema of Every Eval Ever (EvalEval Coalition), one file for each.

The schema asks for a time of retrieval. A board holds nothing that changes between two builds, so that is always the
epoch, and the record says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..pipeline.cell import folder_name
from ..report.view import MEANINGS
from .entry import Entry

SCHEMA_VERSION = "0.2.1"
RETRIEVED = "0"
SHARE, DIFFERENCE = (0.0, 1.0), (-1.0, 1.0)
# A continuous score needs its bounds; a metric without bounds, such as a ratio, has no place in the schema.
BOUNDS = {
    "validation_accuracy": SHARE,
    "train_clean_accuracy": SHARE,
    "memorization_rate": SHARE,
    "noisy_true_rate": SHARE,
    "phantom_rate": SHARE,
    "counterfactual_memorization": DIFFERENCE,
    "early_clean_peak": SHARE,
    "clean_label_depth": SHARE,
    "override_depth": SHARE,
    "patched_mlp_validation_accuracy": SHARE,
    "patched_mlp_memorization_rate": SHARE,
    "probe_accuracy_noisy": SHARE,
    "probe_control_noisy": SHARE,
    "interchange_accuracy": SHARE,
    "interchange_control": SHARE,
    "distributedness_k50": SHARE,
    "position_spread_memorization": SHARE,
    "position_spread_validation": SHARE,
    "neighbour_leakage": DIFFERENCE,
    "neighbour_same_label": SHARE,
}


def file_name(entry: Entry) -> str:
    """Where a record goes, relative to the export's folder."""
    return f"{folder_name(entry.task)}/{folder_name(entry.model)}/{entry.identity}.json"


def record(entry: Entry, version: str) -> dict[str, Any]:
    """A report as the schema has it.

    Args:
        version: of this rote-bench.
    """
    results: list[dict[str, Any]] = []
    left_out: list[str] = []
    for name in sorted(entry.metrics):
        bounds = _bounds(name, entry)
        if entry.value(name) is None:
            continue
        if bounds is None:
            left_out.append(name)
        else:
            results.append(_result(name, entry, bounds))
    details = {
        "retrieved_timestamp": "fixed, so that the same report always gives the same record",
        "report": entry.path,
        "report_sha256": entry.sha256,
        **({"metrics_without_bounds": ", ".join(left_out)} if left_out else {}),
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"rote-bench/{entry.task}/{entry.model}/{entry.identity}",
        "retrieved_timestamp": RETRIEVED,
        "dedupe_identity": {
            "run_fingerprint": entry.identity,
            "content_hash": entry.sha256,
            "hash_algorithm": "sha256",
        },
        "source_metadata": {
            "source_name": "rote-bench",
            "source_type": "evaluation_run",
            "source_organization_name": "rote-bench",
            "evaluator_relationship": "other",
            "additional_details": details,
        },
        "eval_library": {
            "name": "rote-bench",
            "version": str(entry.environment["rote_bench"]),
            "additional_details": {
                "exported_by": version,
                **{key: str(entry.environment[key]) for key in ("git_commit", "torch", "transformers", "cpu")},
            },
        },
        "model_info": _model(entry),
        "evaluation_results": results,
    }


def _model(entry: Entry) -> dict[str, Any]:
    details = {"model_type": entry.model_type, "source": entry.source, "parameters": str(entry.parameters)}
    return {"name": entry.model, "id": entry.model.removeprefix("hf:"), "additional_details": details}


def _bounds(name: str, entry: Entry) -> tuple[float, float] | None:
    if name != "memorization_lag":
        return BOUNDS.get(name)
    last = max((point[1] or 1 for point in entry.curve), default=1)
    most = math.log2(max(last, 2))  # both times lie between the first example and the last
    return -most, most


def _result(name: str, entry: Entry, bounds: Sequence[float]) -> dict[str, Any]:
    metric = entry.metric(name)
    assert metric is not None
    better = metric["higher_is_better"]
    uncertainty: dict[str, Any] = {"num_samples": metric["n"]}
    if metric["ci_low"] is not None and metric["ci_high"] is not None:
        uncertainty["confidence_interval"] = {
            "lower": metric["ci_low"],
            "upper": metric["ci_high"],
            "confidence_level": 0.95,
            "method": metric["ci_method"] or "unknown",
        }
    seeds = dict(zip(("data", "noise", "init", "order", "bootstrap"), entry.seeds, strict=True))
    return {
        "evaluation_name": f"{entry.task} at noise rate {entry.rate:g}: {name}",
        "source_data": {
            "dataset_name": entry.task,
            "source_type": "other",
            "additional_details": {
                "task_version": str(entry.version),
                "content_hash": entry.content,
                "noise_rate": f"{entry.rate:g}",
                **{f"seed_{key}": str(value) for key, value in seeds.items()},
            },
        },
        "metric_config": {
            "evaluation_description": MEANINGS.get(name, name),
            "lower_is_better": better is False,
            "score_type": "continuous",
            "min_score": bounds[0],
            "max_score": bounds[1],
            "additional_details": {"direction": {True: "higher", False: "lower", None: "descriptive"}[better]},
        },
        "score_details": {"score": metric["value"], "uncertainty": uncertainty},
    }
