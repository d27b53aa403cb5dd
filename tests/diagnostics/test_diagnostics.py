"""What holds of several diagnostics."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

import rote_bench
from rote_bench import plugins
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


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ("activation_patching: {components: [attention]}", "must be one of block, mixer, mlp"),
        ("activation_patching: {components: []}", "at least one part"),
        ("activation_patching: {examples: 0}", "0 is less than 2"),
        ("logit_lens: {examples: -1}", "-1 is less than 2"),
        ("learning_dynamics: {level: 1.5}", "1.5 is more than 1"),
        ("learning_dynamics: {level: 0}", "0.0 is not above 0"),
    ],
)
def test_options_that_nothing_can_be_done_with_are_found_before_training(
    chosen: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "task.yaml"
    file.write_text(SMALL_FDA[: SMALL_FDA.index("diagnostics:")] + f"diagnostics: [{{{chosen}}}]\n")
    (fault,) = rote_bench.validate([file])
    assert message in str(fault)


@pytest.mark.parametrize("name", plugins.built_in().table("diagnostics"))
def test_every_number_among_the_options_has_bounds(name: str) -> None:
    for option in dataclasses.fields(plugins.built_in().table("diagnostics")[name].Options):
        assert option.metadata or option.type not in ("int", "float"), f"{name}.{option.name}"
