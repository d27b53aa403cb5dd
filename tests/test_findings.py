"""The claims: what each needs, each verdict by its rule, of one report and of several."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rote_bench.findings import (
    ACROSS,
    CLAIMS,
    Ruling,
    above,
    decide,
    decide_across,
    noise_transfer,
    unmet,
    with_twins,
)
from rote_bench.findings.rules import all_of
from rote_bench.report.record import NOT_TRAINED, PRE, Finding, Metric, Report, Schedule, Verdict
from rote_bench.report.schedules import equal_schedules
from rote_bench.training.curve import Evaluation

from .reports import metric, report


def curve(*points: tuple[float, float]) -> dict[str, Any]:
    """Held-out accuracy and memorization, evaluation by evaluation."""
    made = [
        Evaluation(
            step=k + 1,
            examples_seen=8 * (k + 1),
            epoch=1.0,
            seconds=1.0,
            loss=1.0,
            lr=1.0,
            validation_accuracy=accuracy,
            memorization_rate=memory,
        ).plain()
        for k, (accuracy, memory) in enumerate(points)
    ]
    return {"curve": made, "early_clean_peak": {"commonest_answer": {"value": 0.1, "ci_low": 0.05, "ci_high": 0.2}}}


def erased(left: float, control: float, spread: float = 0.02) -> dict[str, Any]:
    """Accuracy on the selection split, intact, after the erasure and after its control."""

    def line(value: float, by: float = 0.02) -> dict[str, list[float]]:
        return {"value": [0.9, value], "ci_low": [0.88, max(value - by, 0.0)], "ci_high": [0.92, min(value + by, 1.0)]}

    lines = {"selection": {"intact": line(0.98), "leace": line(left), "control": line(control, spread)}}
    return {"chosen_layer": 2, "lines": lines}


def lens(over: list[float], won: list[float], reach: float = 0.05) -> dict[str, Any]:
    """How often the wrong label leads at each layer, and how often the true answer beats its foils."""

    def levels(shares: list[float]) -> dict[str, list[float]]:
        ends = {"ci_low": [max(0, x - reach) for x in shares], "ci_high": [min(1, x + reach) for x in shares]}
        return {"value": shares, **ends}

    noisy = {"n": 100, "n_with_foils": 100, "label_over_true": levels(over), "foils_beaten": levels(won)}
    return {"snapshots": {"post_memorization": {"noisy": noisy}}}


LEARNS = curve((0.1, 0.0), (0.9, 0.1), (0.98, 0.97))
FOUND = {
    "validation_accuracy": metric(0.98, 0.97, 0.99),
    "counterfactual_memorization": metric(0.97, 0.95, 0.99),
    "phantom_rate": metric(0.01, 0.0, 0.02),
    "memorization_lag": metric(1.0, 0.8, 1.2),
    "early_clean_peak": metric(0.9, 0.85, 0.95),
    "clean_label_depth": metric(0.5, 0.25, 0.5),
    "override_depth": metric(1.0, 0.75, 1.0),
    "latent_clean_retention": metric(0.3, 0.2, 0.4),
    "reasoning_reliance_memorization": metric(0.5, 0.4, 0.6),
    "reasoning_reliance_validation": metric(0.7, 0.6, 0.8),
    "reasoning_reliance_beyond_size": metric(0.3, 0.2, 0.4),
    "patch_dissociation_excess": metric(0.5, 0.4, 0.6),
    "patch_specificity": metric(0.3, 0.2, 0.4),
    "heuristic_shift_concentration": metric(1.3, 1.1, 1.5),
    "cross_faithfulness_excess": metric(0.5, 0.4, 0.6),
    "distributedness_k50": metric(None),
}


def levels(*values: float, reach: float = 0.05) -> dict[str, list[float]]:
    return {
        "value": [*values],
        "ci_low": [max(0.0, v - reach) for v in values],
        "ci_high": [min(1.0, v + reach) for v in values],
    }


def removed(
    memory: list[float], accuracy: list[float], count: int, numbers: list[int], **changes: Any
) -> dict[str, Any]:
    """What ablation keeps of heads or units."""
    found = {
        "count": count,
        "numbers": numbers,
        "by_importance": {"validation_accuracy": levels(*accuracy), "memorization_rate": levels(*memory)},
        "accuracy_kept": levels(*accuracy, reach=0.02),
        "random": {**levels(*[0.95] * len(numbers)), "reach_of_mean": [0.05] * len(numbers)},
        "area": {"by_importance": 0.5, "random": [0.6] * 20},
    }
    return {**found, **changes}


UNITS = removed([1.0, 0.9, 0.1], [1.0, 1.0, 0.5], 512, [1, 26, 256])
HEADS = removed([0.95, 0.9, 0.2], [1.0, 0.98, 0.4], 16, [1, 2, 8])
ABLATION: dict[str, Any] = {
    "intact": {"validation_accuracy": levels(1.0), "memorization_rate": levels(1.0)},
    "examples": {"noisy": 400, "validation": 400},
    "kinds": {"heads": HEADS, "units": UNITS},
}
DETAILS: dict[str, Mapping[str, Any]] = {
    "learning_dynamics": LEARNS,
    "logit_lens": lens([0.2, 0.3, 0.5, 0.99], [0.5, 0.7, 0.9, 0.95]),
    "circuits": {"integration_error": {"clean": 0.1, "memorization": 0.1}},
    "neurons": {"arithmetic": True},
    "erasure": erased(0.2, 0.9),
    "ablation": ABLATION,
}
TRAINED = replace(NOT_TRAINED, steps=20, snapshots={PRE: 10, "post_memorization": 20})


def judged(
    metrics: Mapping[str, Metric | None] | None = None,
    details: Mapping[str, Mapping[str, Any]] | None = None,
    **changes: Any,
) -> dict[str, Finding]:
    """Every finding of a cell that meets all preconditions, but for what is given."""
    kept = {name: m for name, m in {**FOUND, **(metrics or {})}.items() if m is not None}
    options: dict[str, Any] = {"training": TRAINED, **changes}
    return {f.id: f for f in decide(report(kept, details={**DETAILS, **(details or {})}, **options))}


def test_a_cell_that_meets_everything_has_every_claim_replicated_for_a_reason() -> None:
    found = judged().values()
    assert {finding.verdict for finding in found} == {"replicated"}
    assert all(finding.reason for finding in found)


@pytest.mark.parametrize(
    ("changes", "metrics", "claims", "says"),
    [
        ({"n_noisy": 12}, {}, 7, "only 12 wrong labels; 50 are needed"),
        ({"rate": 0.0}, {}, 7, "there are no wrong labels at this noise rate"),
        ({}, {"counterfactual_memorization": metric(0.52, 0.48, 0.56)}, 6, "its lower bound must reach 0.5"),
        ({}, {"counterfactual_memorization": metric(0.9)}, 6, "has no interval: made by hand"),
        ({}, {"validation_accuracy": metric(0.85, 0.8, 0.95)}, 5, "held-out accuracy is 0.850; 0.9 is needed"),
        ({"training": replace(TRAINED, snapshots={})}, {}, 1, "no evaluation precedes memorization"),
        ({"training": NOT_TRAINED}, {}, 1, "no snapshot from before memorization was given"),
        ({"status": "failed"}, {}, 7, "the run did not come to its end"),
    ],
)
def test_a_precondition_that_is_not_met_says_so(
    changes: dict[str, Any], metrics: dict[str, Metric], claims: int, says: str
) -> None:
    found = [f for f in judged(metrics, **changes).values() if f.verdict == "not_applicable"]
    assert len(found) == claims
    assert all(says in (f.reason or "") for f in found)


def test_the_summary_names_what_is_not_met_and_of_what_nothing_can_be_said() -> None:
    assert unmet(report(FOUND, training=TRAINED)) == [] == unmet(report(FOUND, rate=0.0))
    few = report({**FOUND, "counterfactual_memorization": metric(0.2, 0.1, 0.3)}, training=TRAINED, n_noisy=10)
    (line,) = unmet(few)
    assert line.startswith(
        "Nothing can be said about memorization: only 10 wrong labels; 50 are needed; counterfactual"
    )
    blank = report({"validation_accuracy": metric(0.3, 0.2, 0.4)}, training=replace(TRAINED, snapshots={}))
    assert [re.findall(r"about (.*?):", line)[0] for line in unmet(blank)] == [
        "memorization",
        "reasoning beside memorization",
        "what memorization changed",
    ]
    given = replace(report(FOUND, parts={"snapshots": {PRE: "0" * 64}}))
    assert unmet(given) == []


@pytest.mark.parametrize(
    ("given_metric", "verdict"),
    [
        (metric(0.5, 0.1, 0.9), "replicated"),
        (metric(0.5, -0.1, 0.9), "inconclusive"),
        (metric(-0.5, -0.9, -0.1), "not_replicated"),
        (metric(0.0, 0.0, 0.0), "not_replicated"),
        (metric(0.2), "inconclusive"),
        (metric(None), "not_applicable"),
    ],
)
def test_a_verdict_follows_the_whole_interval_and_never_a_point(given_metric: Metric, verdict: Verdict) -> None:
    found = above("some_metric", given_metric, 0.0)
    assert found.verdict == verdict and "some metric" in found.reason


@pytest.mark.parametrize(
    ("points", "metrics", "verdict", "says"),
    [
        (((0.1, 0.0), (0.9, 0.1), (0.98, 0.9)), {}, "replicated", "lies above 0"),
        (((0.1, 0.0), (0.9, 0.1), (0.98, 0.9)), {"memorization_lag": metric(-1, -2, -0.5)}, "not_replicated", "not"),
        (((0.1, 0.0), (0.2, 0.9)), {"validation_accuracy": metric(0.2, 0.1, 0.3)}, "not_replicated", "never does"),
        (((0.1, 0.0), (0.48, 0.9)), {"validation_accuracy": metric(0.48, 0.4, 0.55)}, "inconclusive", "never does"),
        (((0.1, 0.0), (0.9, 0.4)), {}, "not_applicable", "memorization never reaches 0.5: at most 0.400"),
        (((0.6, 0.0), (0.9, 0.9)), {}, "not_applicable", "0.600 at the first evaluation already"),
        ((), {}, "not_applicable", "the curves of the training are not there"),
    ],
)
def test_what_comes_first_needs_curves_that_begin_below_half(
    points: tuple[tuple[float, float], ...], metrics: dict[str, Metric], verdict: Verdict, says: str
) -> None:
    found = judged(metrics, {"learning_dynamics": curve(*points)})["generalize_then_memorize"]
    assert found.verdict == verdict and says in (found.reason or "")


def test_the_true_answer_must_beat_half_and_guessing() -> None:
    def verdict(peak: Metric, guess: Metric) -> Verdict:
        return judged({"early_clean_peak": peak, "phantom_rate": guess})["clean_label_first"].verdict

    low = metric(0.1, 0.0, 0.2)
    assert verdict(metric(0.6, 0.52, 0.7), low) == "replicated"
    assert verdict(metric(0.6, 0.52, 0.7), metric(0.5, 0.45, 0.55)) == "inconclusive"
    assert verdict(metric(0.4, 0.3, 0.5), low) == "not_replicated"
    assert verdict(metric(0.6), low) == "inconclusive" == verdict(metric(0.6, 0.52, 0.7), metric(0.1))
    often = {**LEARNS, "early_clean_peak": {"commonest_answer": {"value": 0.6, "ci_low": 0.55, "ci_high": 0.65}}}
    always = judged({"early_clean_peak": metric(0.6, 0.52, 0.64)}, {"learning_dynamics": often})["clean_label_first"]
    assert always.verdict == "not_replicated" and "what the commonest answer gets right" in (always.reason or "")
    unknown = judged(details={"learning_dynamics": {"curve": LEARNS["curve"]}})["clean_label_first"]
    assert unknown.verdict == "inconclusive"
    assert "mostly implied by generalize_then_memorize" in (judged()["clean_label_first"].reason or "")


@pytest.mark.parametrize(
    ("claim", "metrics", "details", "verdict"),
    [
        ("both_computed", {"latent_clean_retention": metric(-0.2, -0.3, -0.1)}, {}, "not_replicated"),
        ("both_computed", {"latent_clean_retention": metric(0.2, -0.1, 0.3)}, {}, "inconclusive"),
        ("both_computed", {"clean_label_depth": metric(None)}, {}, "inconclusive"),
        ("both_computed", {"clean_label_depth": metric(0.75, 0.25, 0.75)}, {}, "inconclusive"),
        ("both_computed", {"override_depth": metric(1.0)}, {}, "inconclusive"),
        ("both_computed", {"override_depth": metric(None)}, {}, "inconclusive"),
        ("both_computed", {}, {"logit_lens": {}}, "inconclusive"),
        ("both_computed", {}, {"logit_lens": lens([0.9, 0.99], [0.9, 0.9])}, "not_replicated"),
        ("both_computed", {}, {"logit_lens": lens([0.2, 0.99], [0.4, 0.9])}, "not_replicated"),
        (
            "both_computed",
            {"clean_label_depth": metric(None)},
            {"logit_lens": lens([0.2, 0.99], [0.5, 0.9])},
            "inconclusive",
        ),
        (
            "both_computed",
            {"clean_label_depth": metric(None)},
            {"logit_lens": {"snapshots": {"post_memorization": {"noisy": {"n_with_foils": 0}}}}},
            "not_applicable",
        ),
        (
            "memorization_relies_on_reasoning",
            {"reasoning_reliance_memorization": metric(-0.1, -0.2, 0.0)},
            {},
            "not_replicated",
        ),
        (
            "memorization_relies_on_reasoning",
            {"reasoning_reliance_memorization": metric(-0.1, -0.2, 0.0)},
            {"erasure": erased(0.5, 0.9)},
            "inconclusive",
        ),
        (
            "memorization_relies_on_reasoning",
            {"reasoning_reliance_memorization": metric(-0.1, -0.2, 0.0)},
            {"erasure": erased(0.2, 0.35)},
            "inconclusive",
        ),
        (
            "memorization_relies_on_reasoning",
            {"reasoning_reliance_beyond_size": metric(0.0, -0.1, 0.1)},
            {},
            "inconclusive",
        ),
        ("outlier_heuristics", {"patch_dissociation_excess": metric(-0.1, -0.2, 0.0)}, {}, "not_replicated"),
        ("outlier_heuristics", {"patch_specificity": metric(-0.1, -0.2, -0.05)}, {}, "not_replicated"),
        ("outlier_heuristics", {"patch_specificity": metric(0.1, -0.05, 0.25)}, {}, "inconclusive"),
        ("outlier_heuristics", {"patch_specificity": metric(None)}, {}, "not_applicable"),
        ("outlier_heuristics", {"heuristic_shift_concentration": metric(0.9, 0.85, 0.95)}, {}, "not_replicated"),
        ("outlier_heuristics", {"heuristic_shift_concentration": metric(1.1, 0.95, 1.25)}, {}, "inconclusive"),
        ("outlier_heuristics", {"heuristic_shift_concentration": metric(1.1)}, {}, "inconclusive"),
        ("outlier_heuristics", {}, {"neurons": {"arithmetic": False}}, "not_applicable"),
        ("outlier_heuristics", {"heuristic_shift_concentration": None}, {}, "not_applicable"),
        ("shared_circuits", {"cross_faithfulness_excess": metric(-0.2, -0.3, 0.0)}, {}, "not_replicated"),
        ("shared_circuits", {"cross_faithfulness_excess": metric(0.1, -0.1, 0.3)}, {}, "inconclusive"),
        (
            "shared_circuits",
            {},
            {"circuits": {"integration_error": {"clean": 0.1, "memorization": 0.3}}},
            "not_applicable",
        ),
        ("shared_circuits", {}, {"circuits": {"integration_error": {"clean": 0.1}}}, "not_applicable"),
    ],
)
def test_a_claim_is_refuted_where_a_control_does_as_well(
    claim: str, metrics: dict[str, Metric | None], details: dict[str, Any], verdict: Verdict
) -> None:
    found = judged(metrics, details)[claim]
    assert found.verdict == verdict, found.reason


@pytest.mark.parametrize(
    ("details", "removed"),
    [
        (erased(0.2, 0.9), True),
        (erased(0.45, 0.95), True),
        (erased(0.47, 0.96), False),  # at most half of the intact lower bound: 0.48
        (erased(0.2, 0.35), False),  # more than half of what the control leaves
        (erased(0.2, 0.6, spread=0.4), False),  # draws of the control that do as much
        ({**erased(0.2, 0.9), "chosen_layer": 1}, False),
        ({**erased(0.2, 0.9), "chosen_layer": 3}, False),
        ({}, False),
    ],
)
def test_nothing_is_said_of_memorization_where_the_reasoning_may_have_stayed(
    details: dict[str, Any], removed: bool
) -> None:
    for reliance, verdict in ((0.5, "replicated"), (-0.5, "not_replicated")):
        low, high = reliance - 0.1, reliance + 0.1
        both = dict.fromkeys(
            ("reasoning_reliance_memorization", "reasoning_reliance_validation"), metric(reliance, low, high)
        )
        found = judged(both, {"erasure": details})["memorization_relies_on_reasoning"]
        assert found.verdict == (verdict if removed else "inconclusive")
        assert removed or "the erasure did not remove the reasoning: " in (found.reason or "")


def test_a_few_parts_whose_removal_takes_memorization_alone_refute_that_it_is_distributed() -> None:
    def finding(**kinds: Any) -> Finding:
        known = {"heads": HEADS, "units": UNITS, **kinds}
        return judged(details={"ablation": {**ABLATION, "kinds": {k: v for k, v in known.items() if v}}})["distributed"]

    def units(memory: float, accuracy: float, **changes: Any) -> Finding:
        return finding(units=removed([1.0, memory, 0.1], [1.0, accuracy, 0.5], 512, [1, 26, 256], **changes))

    found = finding()
    assert found.verdict == "replicated" and "without 2 of 16 heads memorization is 0.900" in (found.reason or "")
    assert units(0.3, 1.0).verdict == "not_replicated"
    assert "without 26 of 512 units memorization is 0.300 [" in (units(0.3, 1.0).reason or "")
    assert units(0.5, 1.0).verdict == "inconclusive"
    both = units(0.3, 0.6)
    assert both.verdict == "inconclusive" and "both fall, or may" in (both.reason or "")
    # Heads without which as many random ones leave as little, and a ranking that is not better than random ones.
    fragile = units(0.3, 1.0, random={**levels(1.0, 0.52, 0.1), "reach_of_mean": [0.05] * 3})
    assert fragile.verdict == "inconclusive" and "as many random ones" in (fragile.reason or "")
    chance = units(0.9, 1.0, area={"by_importance": 0.5, "random": [0.6] * 19 + [0.5]})
    assert chance.verdict == "inconclusive" and "MLP units is no better than chance" in (chance.reason or "")
    few = units(0.9, 1.0, area={"by_importance": 0.5, "random": [0.6] * 19})
    assert few.verdict == "inconclusive" and "20 random orders" in (few.reason or "")
    missing = finding(heads=None)
    assert missing.verdict == "inconclusive" and "no small part of the attention heads" in (missing.reason or "")
    assert (
        finding(heads=removed([0.9], [0.9], 4, [1]), units=None).verdict == "not_applicable"
    )  # a quarter is not small
    one = finding(heads=removed([0.05, 0.05, 0.02], [1.0, 0.99, 0.6], 16, [1, 2, 8]))
    assert one.verdict == "not_replicated" and "without 1 of 16 heads" in (one.reason or "")


LIMITS = st.floats(-1, 2).map(lambda x: round(x, 2))


@st.composite
def metrics_of_any_kind(draw: st.DrawFn) -> dict[str, Metric]:
    out = {}
    for name in FOUND:
        low, value, high = sorted(draw(st.tuples(LIMITS, LIMITS, LIMITS)))
        out[name] = draw(st.sampled_from([FOUND[name], metric(value, low, high), metric(value), metric(None)]))
    return out


@given(metrics_of_any_kind(), st.data())
def test_no_verdict_turns_to_replicated_by_knowing_less(metrics: dict[str, Metric], data: st.DataObject) -> None:
    """Whether a metric, its value, its interval, a diagnostic or a snapshot goes, or an interval becomes wider."""
    before = judged(metrics)
    name = data.draw(st.sampled_from(sorted(FOUND)))
    m = metrics[name]
    wider = m if m.ci_low is None or m.ci_high is None else replace(m, ci_low=m.ci_low - 0.3, ci_high=m.ci_high + 0.3)
    point = m if m.value is None else metric(m.value)
    gone = data.draw(st.sampled_from(sorted(DETAILS)))
    for after in (
        judged({**metrics, name: None}),
        judged({**metrics, name: metric(None)}),
        judged({**metrics, name: point}),
        judged({**metrics, name: wider}),
        judged(metrics, {gone: {}}),
        judged(metrics, training=replace(TRAINED, snapshots={})),
    ):
        for claim, finding in after.items():
            assert finding.reason
            assert finding.verdict != "replicated" or before[claim].verdict == "replicated", claim


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
def test_details_may_hold_anything(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(DETAILS)))

    def spoiled(value: Any) -> Any:
        if isinstance(value, dict) and value and data.draw(st.booleans()):
            key = data.draw(st.sampled_from(sorted(value)))
            return {**value, key: spoiled(value[key])}
        return data.draw(ANYTHING)

    key = data.draw(st.sampled_from(sorted(DETAILS[name])))
    assert len(judged(details={name: {**DETAILS[name], key: spoiled(DETAILS[name][key])}})) == len(CLAIMS)


@given(st.lists(st.tuples(LIMITS, LIMITS, LIMITS).map(sorted), min_size=2, max_size=2), LIMITS)
def test_intervals_decide_alike_by_themselves_and_together(pair: list[list[float]], limit: float) -> None:
    (a, b), ends = ([metric(v, low, high) for low, v, high in pair], pair)
    alone = [above("a", m, limit) for m in (a, b)]
    assert (all_of(*alone).verdict == "replicated") == all(low > limit for low, _, _ in ends)
    assert all_of(*alone, Ruling("not_applicable", "unknown")).verdict == "not_applicable"


SURE = {"counterfactual_memorization": metric(0.99, 0.95, 1.0), "memorization_rate": metric(0.99, 0.95, 1.0)}


def cell(rate: float, accuracy: float, profile: str | None = None, seed: int = 0, **options: Any) -> Report:
    found = {"validation_accuracy": metric(accuracy, accuracy - 0.02, min(1.0, accuracy + 0.02))}
    return report({**found, **(SURE if rate else {})}, rate=rate, profile=profile, seed=seed, **options)


def seeds(rate: float, accuracy: float, profile: str | None = None, count: int = 3, **options: Any) -> list[Report]:
    return [cell(rate, accuracy + 0.001 * s, profile, s, **options) for s in range(count)]


def verdicts(*reports: Report) -> dict[str, Verdict]:
    return {finding.id: finding.verdict for finding in decide_across(reports)}


def reason(*reports: Report) -> str:
    return decide_across(reports)[0].reason


CLEAN = seeds(0, 0.997)


def test_what_a_wrong_label_costs_is_benign_by_its_whole_interval() -> None:
    mild, costly, dear = seeds(0.1, 0.997), seeds(0.1, 0.95), seeds(0.05, 0.9)
    assert verdicts(*CLEAN, *mild) == {"benign": "replicated"}
    assert verdicts(*CLEAN, *costly) == {"benign": "not_replicated"} == verdicts(*CLEAN, *dear)
    assert "benign (limit 0.1; replicated at 0.05, replicated at 0.2)" in reason(*CLEAN, *mild)
    assert "tempered (limit 0.1; not replicated at 0.05, not replicated at 0.2)" in reason(*CLEAN, *costly)
    assert "catastrophic (limit" in reason(*CLEAN, *dear)


def test_benign_has_preconditions_that_no_seed_may_miss() -> None:
    mild = seeds(0.1, 0.997)
    longer = replace(TRAINED, steps=30)
    weak = {**SURE, "counterfactual_memorization": metric(0.92, 0.88, 0.95), "validation_accuracy": metric(0.99)}
    for says, reports in (
        ("one seed; three are needed", [CLEAN[0], mild[0]]),
        ("two seeds; three are needed", [*CLEAN[:2], *mild[:2]]),
        ("no run at noise rate 0 with the same data, init and order seeds", mild),
        ("only 12 wrong labels; 50 are needed", [*CLEAN, *seeds(0.1, 0.997, n_noisy=12)]),
        ("seed 0: held-out accuracy is 0.930 at noise rate 0; 0.95 is needed", [*seeds(0, 0.93), *mild]),
        ("seed 0: its schedule is not its twin's: steps 30 and 0", [*CLEAN, *seeds(0.1, 0.997, training=longer)]),
        ("seed 1: counterfactual memorization is 0.920", [*CLEAN, mild[0], report(weak, rate=0.1, seed=1), mild[2]]),
    ):
        assert verdicts(*reports) == {"benign": "not_applicable"} and says in reason(*reports)
    assert equal_schedules(mild[0], CLEAN[0]) is None


def test_regularisation_is_decided_over_three_seeds_of_both_profiles() -> None:
    free, fits = seeds(0.05, 0.99, "unregularised"), seeds(0.95, 0.0, "random_labels")
    assert verdicts(*free, *fits) == {"not_regularisation": "replicated"}
    near, sure = seeds(0.05, 0.91, "unregularised"), seeds(0.05, 0.95, "unregularised")
    assert verdicts(*near, *fits) == {"not_regularisation": "inconclusive"}
    assert verdicts(*seeds(0.05, 0.3, "unregularised"), *fits) == {"not_regularisation": "not_replicated"}
    assert verdicts(sure[0], *sure[1:2], *fits) == {"not_regularisation": "not_applicable"}
    assert verdicts(*sure) == {"not_regularisation": "not_applicable"}
    few = seeds(0.95, 0.0, "random_labels", n_noisy=20)
    assert "random_labels: only 20 wrong labels" in reason(*sure, *few)


def test_profiles_and_models_are_judged_apart() -> None:
    reports = [r for rate in (0, 0.05) for profile in (None, "quick") for r in seeds(rate, 0.997, profile)]
    reports += [report({"validation_accuracy": 1.0}, model="other", rate=0.1)]
    found = [(f.task, f.model, f.noise_rate, f.verdict) for f in decide_across(reports)]
    assert found == [
        ("thr", "m", 0.05, "replicated"),
        ("thr-quick", "m", 0.05, "replicated"),
        ("thr", "other", 0.1, "not_applicable"),
    ]


def test_what_a_wrong_label_costs_is_measured_against_the_twin_of_the_same_seeds() -> None:
    noisy = [cell(0.1, accuracy, seed=seed) for seed, accuracy in ((0, 0.95), (1, 0.96), (2, 0.91))]
    twins = [cell(0, accuracy, seed=seed) for seed, accuracy in ((0, 1.0), (1, 0.98), (3, 0.97))]
    assert [(a.seeds.data, b.seeds.data) for a, b in with_twins(noisy, twins)] == [(0, 0), (1, 1)]
    estimate = noise_transfer(noisy, twins)
    assert estimate.value == pytest.approx((0.5 + 0.2) / 2) and estimate.n == 2
    assert estimate.ci_low is None and "fewer than 3 seeds" in str(estimate.reason_if_no_interval)
    with pytest.raises(ValueError, match="one noise rate"):
        noise_transfer([*noisy, cell(0.2, 0.9)], twins)


def test_the_cost_is_that_of_the_labels_that_there_are() -> None:
    """A rule asked for a tenth of the questions covers the fifth of them."""
    noisy, twins = ([cell(rate, 1 - 2 * rate, seed=seed) for seed in range(3)] for rate in (0.1, 0))
    wider = [replace(r, data=replace(r.data, n_noisy=2 * r.data.n_noisy)) for r in noisy]
    assert noise_transfer(noisy, twins).value == pytest.approx(2)
    assert noise_transfer(wider, twins).value == pytest.approx(1)


def test_cells_of_other_schedules_than_their_twins_say_nothing_of_what_labels_cost() -> None:
    noisy, twins = ([cell(rate, 1.0, seed=seed) for seed in range(3)] for rate in (0.1, 0))
    assert noise_transfer(noisy, twins).value == 0
    for other, says in (
        ({"settled_step": 40}, "fell from steps 40 and None"),
        ({"steps": 90}, "steps 90 and 0"),
        ({"final_rate": 0.1}, "the last rates 0.1 and"),
    ):
        moved = replace(noisy[1], training=replace(noisy[1].training, **other))
        assert equal_schedules(moved, twins[1])
        found = noise_transfer([noisy[0], moved, noisy[2]], twins)
        assert found.value is None and says in str(found.reason_if_null)
    way = replace(noisy[0].training, schedule=Schedule("twin", "0" * 64))
    assert equal_schedules(replace(noisy[0], training=way), twins[0]) is None


def test_what_is_measured_across_cells_is_declared() -> None:
    assert [(m.name, m.column, m.higher_is_better) for m in ACROSS] == [
        ("noise_transfer", 1, False),
        ("twin_validation_accuracy", None, True),
    ]
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
