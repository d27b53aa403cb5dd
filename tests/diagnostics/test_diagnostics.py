"""What the diagnostics say of trained models, and that their negative controls fail."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from rote_bench import plugins
from rote_bench.diagnostics import NotApplicable
from rote_bench.diagnostics.ablation import Ablation
from rote_bench.diagnostics.circuits import _Nodes, _problem
from rote_bench.diagnostics.erasure import Erasure, ErasureOptions
from rote_bench.diagnostics.interchange import Interchange
from rote_bench.diagnostics.learning_dynamics import crossing, lag
from rote_bench.diagnostics.logit_lens import depth
from rote_bench.diagnostics.neighbourhood import Neighbourhood
from rote_bench.diagnostics.position_importance import spread
from rote_bench.diagnostics.probe import Probe, ProbeOptions
from rote_bench.interventions import Site, capture, replace, run
from rote_bench.linear import fit_probes
from rote_bench.models.anatomy import Anatomy
from rote_bench.spec.loader import load_task
from rote_bench.spec.options import build
from rote_bench.splits import make_data
from rote_bench.statistics import wilson
from rote_bench.subject import Subject
from tests.conftest import SMALL_FDA, SMALL_THR, run_cell


def subject_of(cell: Path, text: str, folder: Path) -> Subject:
    """The subject that the cell's diagnostics saw, made again from its checkpoints."""
    task_file = folder / "task.yaml"
    task_file.write_text(text)
    registry = plugins.load()
    spec = load_task(task_file, registry)
    cls = registry.table("tasks")[spec.generator]
    task = cls(build(cls.Parameters, spec.parameters), spec.seeds.data)
    kind = registry.table("noise")[spec.noise.kind]
    data = make_data(task, spec, kind(build(kind.Options, spec.noise.options)), spec.noise.rates[0])
    folders = {name: cell / "checkpoints" / name for name in ("pre_memorization", "post_memorization")}
    models = {
        n: AutoModelForCausalLM.from_pretrained(f, attn_implementation="eager").eval() for n, f in folders.items()
    }
    after = Anatomy.of(models["post_memorization"])
    tokenizer = AutoTokenizer.from_pretrained(folders["post_memorization"])
    both = {"pre_memorization": after.on(models["pre_memorization"]), "post_memorization": after}
    return Subject(spec, task, data, tokenizer, both, [], "cpu")


@pytest.fixture(scope="module")
def thr(thr_cell: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return subject_of(thr_cell, SMALL_THR, tmp_path_factory.mktemp("subject"))


@pytest.fixture(scope="module")
def fda(fda_cell: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return subject_of(fda_cell, SMALL_FDA, tmp_path_factory.mktemp("subject"))


def value(report: dict[str, Any], name: str) -> float:
    return report["metrics"][name]["value"]


def details(report: dict[str, Any], name: str) -> dict[str, Any]:
    return report["diagnostics"][name]["details"]


def test_the_bridge_stays_readable_on_memorised_examples(thr_report: dict[str, Any]) -> None:
    assert value(thr_report, "bridge_retention") > 0.7
    target = details(thr_report, "probe")["targets"]["bridge"]
    best = max(map(max, target["noisy"]))
    assert best > max(map(max, target["control"])) + 0.2
    assert best > max(map(max, target["random_network"])) + 0.2


def test_erasing_the_bridge_hurts_more_than_a_random_erasure(thr_report: dict[str, Any]) -> None:
    assert value(thr_report, "reasoning_reliance_validation") > 0.1
    for fit in details(thr_report, "erasure")["fits"]:
        assert fit["probe_after"] < fit["chance"] + 0.12
        assert fit["variance_removed"]["random"] == pytest.approx(fit["variance_removed"]["leace"], abs=0.05)


def test_a_swapped_bridge_decides_the_answer(thr_report: dict[str, Any], fda_report: dict[str, Any]) -> None:
    for report in (thr_report, fda_report):
        swapped, control = (report["metrics"][f"interchange_{name}"] for name in ("accuracy", "control"))
        assert swapped["ci_low"] > wilson(round(control["value"] * control["n"]), control["n"]).ci_high
    assert value(thr_report, "interchange_accuracy") > value(thr_report, "interchange_control") + 0.2


def test_units_that_shift_most_carry_memorization(fda_report: dict[str, Any]) -> None:
    assert value(fda_report, "unit_patch_dissociation") > 0
    found = details(fda_report, "neurons")
    assert 0 < found["classified"] <= found["units"] == 2 * 256
    assert sum(found["families"].values()) == found["classified"]
    curve = found["patching"]["by_shift"]["memorized"]
    assert curve[0] > 0.9 > 0.5 > min(curve)


def test_circuits_add_up_and_large_ones_are_faithful(fda_report: dict[str, Any]) -> None:
    for snapshot in details(fda_report, "circuits")["snapshots"].values():
        assert snapshot["nodes"] == 2 * 256 + 2 * 2
        assert snapshot["faithfulness"]["clean"][-1] > snapshot["faithfulness"]["clean"][0]
        assert 0 <= snapshot["iou_random"] <= 1
        assert len(snapshot["faithfulness_resample"]["memorization"]) == len(details(fda_report, "circuits")["shares"])


def test_integrated_gradients_become_complete_with_more_steps(fda: Subject) -> None:
    nodes = _Nodes(fda, fda.anatomy(), ["heads", "units"])
    for view in (fda.noisy, fda.validation):
        problem = _problem(view).part(slice(0, 24))
        coarse, fine = (nodes.importance(problem, steps)[1] for steps in (2, 48))
        assert fine < 0.1 and fine < coarse


def test_a_circuit_of_all_nodes_is_the_model_and_of_none_is_nothing(fda: Subject) -> None:
    nodes = _Nodes(fda, fda.anatomy(), ["heads", "units"])
    problem = _problem(fda.noisy).part(slice(0, 24))
    for resample in (False, True):
        everything = nodes.faithfulness(problem, np.ones(nodes.count, dtype=bool), resample=resample)
        nothing = nodes.faithfulness(problem, np.zeros(nodes.count, dtype=bool), resample=resample)
        assert everything.mean() == pytest.approx(1, abs=1e-4)
        assert nothing.mean() == pytest.approx(0, abs=1e-4)


def test_ablating_everything_destroys_everything(thr_report: dict[str, Any]) -> None:
    for kind in details(thr_report, "ablation")["kinds"].values():
        assert kind["random"]["memorization_rate"][-1] < 0.5
        assert len(kind["by_importance"]["memorization_rate"]) == len(details(thr_report, "ablation")["shares"])


def test_neighbours_are_asked_beside_both_kinds(fda_report: dict[str, Any]) -> None:
    kinds = details(fda_report, "neighbourhood")["kinds"]
    assert set(kinds) == {"digit_0", "digit_1"}
    assert all(row["n_noisy"] > 20 and row["n_clean"] > 20 for row in kinds.values())


def test_a_probe_of_permuted_labels_reads_nothing(thr: Subject) -> None:
    view = thr.more_clean(800)
    _, states = capture(thr.anatomy(), view.true.input_ids, [Site(1, "block")])
    x = states[Site(1, "block")][:, 1:2]
    classes = torch.tensor(view.intermediate("bridge", thr.task.values("bridge")))
    permuted = classes[torch.randperm(len(classes), generator=torch.Generator().manual_seed(0))]
    half = len(x) // 2
    real = fit_probes(x[:half], {"c": (classes[:half], 6)}).predict(x[half:], "c")[:, 0] == classes[half:]
    null = fit_probes(x[:half], {"c": (permuted[:half], 6)}).predict(x[half:], "c")[:, 0] == permuted[half:]
    majority = float(classes.bincount().max()) / len(classes)
    assert null.float().mean() < majority + 0.08
    assert real.float().mean() > majority + 0.3


def test_nothing_is_found_in_a_network_that_never_learned(thr: Subject) -> None:
    untrained = thr.random_anatomy()
    other = Subject(thr.spec, thr.task, thr.data, thr.tokenizer, {"post_memorization": untrained}, [], "cpu")
    swapped = Interchange(build(Interchange.Options, {"examples": 100})).run(other).metrics
    assert swapped["interchange_accuracy"].estimate.value < 0.3
    removed = Erasure(ErasureOptions(examples=100)).run(other).metrics["reasoning_reliance_validation"].estimate
    assert removed.value is None or removed.ci_low <= 0
    with pytest.raises(NotApplicable, match="no pre-memorization snapshot"):
        plugins.load().table("diagnostics")["activation_patching"](
            build(plugins.load().table("diagnostics")["activation_patching"].Options, {})
        ).run(other)


def test_a_donor_of_another_seed_destroys_both(fda: Subject, tmp_path: Path) -> None:
    cell = run_cell(tmp_path, SMALL_FDA.replace("diagnostics:", "seeds: {init: 7, order: 7}\ndiagnostics:"))
    stranger = AutoModelForCausalLM.from_pretrained(
        cell / "checkpoints" / "pre_memorization", attn_implementation="eager"
    )
    after = fda.anatomy()
    held, memorised = fda.validation.true, fda.noisy.taught
    donors = {"own": fda.anatomy("pre_memorization"), "stranger": after.on(stranger.eval())}
    kept = {}
    for name, part in itertools.product(donors, ("mlp", "units")):
        donor, sites = donors[name], [Site(layer, part) for layer in range(2)]
        with torch.no_grad():
            hits = []
            for encoded in (held, memorised):
                _, states = capture(donor, encoded.input_ids, sites)
                logits = run(after, encoded.input_ids, {s: replace(states[s]) for s in sites})
                hits.append(float(encoded.correct(logits).float().mean()))
        kept[name, part] = hits
    for part in ("mlp", "units"):
        assert kept["own", part][0] > 0.7 and kept["own", part][1] < 0.2
        assert max(kept["stranger", part]) < 0.1


def test_structured_noise_is_learned_and_not_memorised(tmp_path: Path) -> None:
    text = SMALL_FDA.replace(
        "noise: {rates: [0.05]}", "noise: {kind: structured, rates: [0.1], options: {feature: units_0}}"
    )
    cell = run_cell(tmp_path, text[: text.index("diagnostics:")] + "diagnostics: [learning_dynamics]\n")
    report = json.loads((cell / "report.json").read_text())
    assert value(report, "memorization_rate") > 0.8
    assert value(report, "phantom_rate") > 0.6
    assert value(report, "counterfactual_memorization") < 0.35


def test_erasing_too_much_is_refused(thr: Subject) -> None:
    wide = changed(thr.spec, parameters={**thr.spec.parameters})
    subject = Subject(wide, thr.task, thr.data, thr.tokenizer, thr.anatomies, [], "cpu")
    subject.task.values = lambda name: [f"e{i}" for i in range(60)]  # type: ignore[method-assign]
    try:
        with pytest.raises(NotApplicable, match="of 64 directions"):
            Erasure(ErasureOptions()).run(subject)
        with pytest.raises(NotApplicable, match="no intermediate result 'nonsense'"):
            Erasure(ErasureOptions(intermediates=("nonsense",))).run(subject)
    finally:
        del subject.task.values


def test_a_model_without_parts_is_told_why(thr: Subject) -> None:
    opaque = Anatomy.opaque(thr.anatomy().model, "nothing can be seen")
    subject = Subject(thr.spec, thr.task, thr.data, thr.tokenizer, {"post_memorization": opaque}, [], "cpu")
    for cls in (Probe, Erasure, Interchange, Ablation):
        with pytest.raises(NotApplicable):
            cls(build(cls.Options, {})).run(subject)
    leak = Neighbourhood(build(Neighbourhood.Options, {"examples": 50})).run(subject)
    assert leak.metrics["neighbour_leakage"].estimate.value is not None


def test_every_target_is_probed_on_its_own_classes(fda: Subject) -> None:
    result = Probe(ProbeOptions(fit_examples=400, intermediates=("sum_0", "carry_1"))).run(fda)
    assert set(result.details["targets"]) == {"sum_0", "carry_1", "answer"}
    assert (result.details["targets"]["sum_0"]["classes"], result.details["targets"]["carry_1"]["classes"]) == (19, 2)
    assert len(result.details["targets"]["carry_1"]["noisy"]) == 2
    assert len(result.details["targets"]["carry_1"]["noisy"][0]) == len(result.details["positions"])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_spread_is_a_share_of_the_largest_entropy(drops: list[float]) -> None:
    s = float(spread(np.array(drops)))
    assert np.isnan(s) if sum(drops) == 0 else -1e-9 <= s <= 1 + 1e-9


def test_spread_at_its_ends() -> None:
    assert spread(np.array([0.5, 0.5, 0.5])) == pytest.approx(1)
    assert spread(np.array([0.5, 0.0, 0.0])) == pytest.approx(0)


CURVE = [
    {"examples_seen": n, "validation_accuracy": v, "memorization_rate": m}
    for n, v, m in ((100, 0.0, 0.0), (200, 0.4, 0.1), (400, 0.6, 0.1), (800, 0.9, 0.3), (1600, 0.9, 0.7))
]


def test_crossings_are_interpolated_and_bounded_by_evaluations() -> None:
    assert crossing(CURVE, "validation_accuracy", 0.5) == pytest.approx((300, 200, 400))
    assert crossing(CURVE, "memorization_rate", 0.5) == pytest.approx((1200, 800, 1600))
    assert crossing(CURVE, "memorization_rate", 0.8) is None
    e = lag(CURVE, 0.5)
    assert e.value == pytest.approx(2) and e.ci_low == pytest.approx(1) and e.ci_high == pytest.approx(3)
    late = lag(CURVE, 0.8)
    assert late.value is None and "never reached 0.8 within 1600 examples" in (late.reason_if_null or "")


def test_depths_follow_the_shares_of_examples() -> None:
    rng = np.random.default_rng(0)
    shares = np.array([0.1, 0.2, 0.7, 0.4, 0.9, 1.0])
    over = np.arange(100)[:, None] < 100 * shares
    groups = np.arange(100)
    assert depth(over, groups, rng, "clean").value == pytest.approx(1 / 6)
    assert depth(over, groups, rng, "override").value == pytest.approx(5 / 6)
    assert depth(~over, groups, rng, "override").value is None
    assert depth(np.ones_like(over), groups, rng, "clean").value is None
