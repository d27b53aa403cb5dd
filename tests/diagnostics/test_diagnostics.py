"""What holds of several diagnostics."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import rote_bench
from rote_bench import interventions, plugins
from rote_bench.diagnostics import NotApplicable
from rote_bench.diagnostics.ablation import Ablation
from rote_bench.diagnostics.erasure import Erasure
from rote_bench.diagnostics.interchange import Interchange
from rote_bench.diagnostics.neighbourhood import Neighbourhood
from rote_bench.diagnostics.probe import Probe
from rote_bench.models.anatomy import Anatomy
from rote_bench.models.probe import Check
from rote_bench.spec.options import build
from rote_bench.subject import Subject
from tests.conftest import SMALL_FDA, run_cell
from tests.diagnostics.reports import value


def test_structured_noise_is_learned_and_not_memorised(tmp_path: Path) -> None:
    text = SMALL_FDA.replace(
        "noise: {rates: [0.05]}", "noise: {kind: structured, rates: [0.1], options: {feature: units_0}}"
    )
    text = text.replace("max_steps: 500", "max_steps: 300").replace("anneal: 300", "anneal: 100")
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


LAYERWISE = {
    "activation_patching": {"examples": 40},
    "erasure": {"examples": 40, "fit_examples": 300},
    "interchange": {"examples": 40, "fit_examples": 300},
    "position_importance": {"examples": 40},
    "ablation": {"examples": 40},
    "circuits": {"examples": 16, "steps": 2},
    "neurons": {"examples": 60, "top": 10},
}


@pytest.mark.parametrize("name", LAYERWISE)
def test_numbers_are_those_of_whole_runs(name: str, thr: Subject) -> None:
    """A model without the proof runs whole each time."""
    assert thr.anatomy().checks["prefix"].ok
    structure = thr.anatomy().structure
    without = dataclasses.replace(structure, checks={**structure.checks, "prefix": Check(False, "not asked")})
    whole = {snapshot: Anatomy(a.model, without) for snapshot, a in thr.anatomies.items()}
    cls = plugins.built_in().table("diagnostics")[name]
    shared, plain = (
        cls(build(cls.Options, LAYERWISE[name])).run(dataclasses.replace(thr, anatomies=anatomies))
        for anatomies in (thr.anatomies, whole)
    )
    assert shared.metrics == plain.metrics
    assert (shared.details, shared.records) == (plain.details, plain.records)
    modules = [m for a in thr.anatomies.values() for m in a.model.modules()]
    assert not any(m._forward_hooks or m._forward_pre_hooks or "forward" in m.__dict__ for m in modules)
    assert all(p.requires_grad for a in thr.anatomies.values() for p in a.model.parameters())


@pytest.mark.parametrize("at_once", [1, 200_000])
@pytest.mark.parametrize("cls", [Erasure, Interchange, Probe])
def test_little_memory_changes_no_number(
    cls: type[Any], at_once: int, thr: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = build(cls.Options, {"fit_examples": 200, **({} if cls is Probe else {"examples": 40})})
    first = cls(options).run(dataclasses.replace(thr))
    monkeypatch.setattr(interventions, "STATES_AT_ONCE", at_once)
    again = cls(options).run(dataclasses.replace(thr, batch_size=64))
    assert again.metrics.keys() == first.metrics.keys()
    for name, estimate in first.metrics.items():
        assert again.metrics[name].value == pytest.approx(estimate.value, abs=1e-6)


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
