"""What holds of several diagnostics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rote_bench.diagnostics import NotApplicable
from rote_bench.diagnostics.ablation import Ablation
from rote_bench.diagnostics.erasure import Erasure
from rote_bench.diagnostics.interchange import Interchange
from rote_bench.diagnostics.neighbourhood import Neighbourhood
from rote_bench.diagnostics.probe import Probe
from rote_bench.models.anatomy import Anatomy
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
