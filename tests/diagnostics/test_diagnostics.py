"""What holds of several diagnostics, and of several cells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rote_bench.diagnostics import NotApplicable
from rote_bench.diagnostics.ablation import Ablation
from rote_bench.diagnostics.erasure import Erasure
from rote_bench.diagnostics.interchange import Interchange
from rote_bench.diagnostics.neighbourhood import Neighbourhood
from rote_bench.diagnostics.probe import Probe
from rote_bench.models.anatomy import Anatomy
from rote_bench.report.compare import decide
from rote_bench.spec.options import build
from rote_bench.subject import Subject
from tests.conftest import SMALL_FDA, run_cell
from tests.diagnostics.reports import value


def test_structured_noise_is_learned_and_not_memorised(tmp_path: Path) -> None:
    text = SMALL_FDA.replace(
        "noise: {rates: [0.05]}", "noise: {kind: structured, rates: [0.1], options: {feature: units_0}}"
    )
    cell = run_cell(tmp_path, text[: text.index("diagnostics:")] + "diagnostics: [learning_dynamics]\n")
    report = json.loads((cell / "report.json").read_text())
    assert value(report, "memorization_rate") > 0.8
    assert value(report, "phantom_rate") > 0.6
    assert value(report, "counterfactual_memorization") < 0.35


def test_a_model_without_parts_is_told_why(thr: Subject) -> None:
    opaque = Anatomy.opaque(thr.anatomy().model, "nothing can be seen")
    subject = Subject(thr.spec, thr.task, thr.data, thr.tokenizer, {"post_memorization": opaque}, [], "cpu")
    for cls in (Probe, Erasure, Interchange, Ablation):
        with pytest.raises(NotApplicable):
            cls(build(cls.Options, {})).run(subject)
    leak = Neighbourhood(build(Neighbourhood.Options, {"examples": 50})).run(subject)
    assert leak.metrics["neighbour_leakage"].value is not None


def twin(
    report: dict[str, Any], rate: float, accuracy: float, profile: str | None = None, seed: int = 0, memory: float = 1.0
) -> dict[str, Any]:
    made = json.loads(json.dumps(report))
    made["data"]["noise_rate"] = rate
    made["task"]["spec"]["profile"] = profile
    made["seeds"] = dict.fromkeys(made["seeds"], seed)
    made["metrics"]["validation_accuracy"]["value"] = accuracy
    for name in ("memorization_rate", "counterfactual_memorization"):
        made["metrics"][name]["value"] = memory
    return made


def test_several_cells_decide_what_one_cannot(thr_report: dict[str, Any]) -> None:
    def verdicts(*reports: dict[str, Any]) -> dict[str, str]:
        return {f["id"]: f["verdict"] for f in decide(reports)}

    clean = [twin(thr_report, 0, 1.0, seed=s) for s in range(3)]
    mild = [twin(thr_report, 0.05, 0.999 - 0.001 * s, seed=s) for s in range(3)]
    costly = [twin(thr_report, 0.05, 0.95 - 0.001 * s, seed=s) for s in range(3)]
    assert verdicts(*clean, *mild) == {"benign": "replicated"}
    assert verdicts(*clean, *costly) == {"benign": "not_replicated"}
    assert verdicts(*mild) == {"benign": "not_applicable"}
    assert (
        verdicts(*clean, *(twin(thr_report, 0.05, 1.0, seed=s, memory=0.2) for s in range(3)))["benign"]
        == "not_applicable"
    )
    free = twin(thr_report, 0.05, 0.99, "unregularised")
    fits = twin(thr_report, 0.95, 0.0, "random_labels")
    assert verdicts(*clean, *mild, free, fits)["not_regularisation"] == "replicated"
    assert verdicts(free)["not_regularisation"] == "not_applicable"
    assert verdicts(twin(thr_report, 0.05, 0.3, "unregularised"), fits)["not_regularisation"] == "not_replicated"
