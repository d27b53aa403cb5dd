"""The claims: each verdict by its rule, of one report and of several."""

from __future__ import annotations

import dataclasses

import pytest

from rote_bench.findings import (
    ACROSS,
    CLAIMS,
    above,
    decide,
    decide_across,
    equal_schedules,
    noise_transfer,
    with_twins,
)
from rote_bench.report.record import Metric, Report, Schedule, Verdict

from .reports import metric, report


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (metric(0.5, 0.1, 0.9), "replicated"),
        (metric(0.5, -0.1, 0.9), "inconclusive"),
        (metric(-0.5, -0.9, -0.1), "not_replicated"),
        (metric(0.0, 0.0, 0.0), "not_replicated"),
        (metric(0.2), "replicated"),
    ],
)
def test_a_verdict_follows_the_whole_interval(given: Metric, verdict: Verdict) -> None:
    assert above(given, 0.0) == verdict


def test_claims_without_evidence_are_not_applicable() -> None:
    assert {finding.verdict for finding in decide({})} == {"not_applicable"}
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    one_value_of_two = decide({"patch_dissociation": metric(0.5), "heuristic_shift": metric(None)})
    assert {finding.verdict for finding in one_value_of_two} == {"not_applicable"}


def verdict_of(claim: str, **metrics: Metric) -> Verdict:
    return next(finding.verdict for finding in decide(metrics) if finding.id == claim)


def test_crossing_layers_decide_both_computed() -> None:
    def verdict(clean: Metric, override: Metric) -> Verdict:
        read = metric(0.3, 0.2, 0.4)
        return verdict_of(
            "both_computed", clean_label_depth=clean, override_depth=override, latent_clean_retention=read
        )

    assert verdict(metric(0.25, 0.25, 0.5), metric(1.0, 0.75, 1.0)) == "replicated"
    assert verdict(metric(0.5, 0.25, 0.75), metric(0.75, 0.5, 1.0)) == "inconclusive"
    assert verdict(metric(1.0, 0.75, 1.0), metric(0.5, 0.25, 0.75)) == "not_replicated"


@pytest.mark.parametrize(("share", "verdict"), [(None, "replicated"), (0.2, "replicated"), (0.05, "not_replicated")])
def test_that_no_share_was_enough_is_evidence(share: float | None, verdict: Verdict) -> None:
    assert verdict_of("distributed", distributedness_k50=metric(share)) == verdict


def test_a_control_can_undo_a_claim() -> None:
    def verdict(random: Metric) -> Verdict:
        given = {"cross_faithfulness_memorization": metric(0.5, 0.4, 0.6), "cross_faithfulness_random": random}
        return verdict_of("shared_circuits", **given)

    assert verdict(metric(0.2, 0.1, 0.3)) == "replicated"
    assert verdict(metric(0.35, 0.3, 0.45)) == "inconclusive"
    assert verdict(metric(0.7, 0.6, 0.8)) == "not_replicated"


def cell(rate: float, accuracy: float, profile: str | None = None, seed: int = 0, memory: float = 1.0) -> Report:
    names = ("memorization_rate", "counterfactual_memorization") if rate else ()
    values = {"validation_accuracy": accuracy, **dict.fromkeys(names, memory)}
    return report(values, rate=rate, profile=profile, seed=seed)


def test_several_cells_decide_what_one_cannot() -> None:
    def verdicts(*reports: Report) -> dict[str, Verdict]:
        return {finding.id: finding.verdict for finding in decide_across(reports)}

    clean = [cell(0, 1.0, seed=s) for s in range(3)]
    mild = [cell(0.05, 0.999 - 0.001 * s, seed=s) for s in range(3)]
    costly = [cell(0.05, 0.95 - 0.001 * s, seed=s) for s in range(3)]
    assert verdicts(*clean, *mild) == {"benign": "replicated"}
    assert verdicts(*clean, *costly) == {"benign": "not_replicated"}
    assert verdicts(*mild) == {"benign": "not_applicable"}
    assert verdicts(*clean[:2], *mild[:2]) == {"benign": "not_applicable"}  # two seeds have no interval
    ignored = [cell(0.05, 1.0, seed=s, memory=0.2) for s in range(3)]
    assert verdicts(*clean, *ignored) == {"benign": "not_applicable"}
    free, fits = cell(0.05, 0.99, "unregularised"), cell(0.95, 0.0, "random_labels")
    assert verdicts(*clean, *mild, free, fits) == {"benign": "replicated", "not_regularisation": "replicated"}
    assert verdicts(free) == {"not_regularisation": "not_applicable"}
    assert verdicts(cell(0.05, 0.3, "unregularised"), fits) == {"not_regularisation": "not_replicated"}


def test_profiles_and_models_are_judged_apart() -> None:
    reports = [cell(rate, 1.0, profile, seed) for rate in (0, 0.05) for profile in (None, "quick") for seed in range(3)]
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


def test_cells_of_other_schedules_than_their_twins_say_nothing_of_what_labels_cost() -> None:
    noisy, twins = ([cell(rate, 1.0, seed=seed) for seed in range(3)] for rate in (0.1, 0))
    assert noise_transfer(noisy, twins).value == 0
    for other in ({"settled_step": 40}, {"steps": 90}, {"final_rate": 0.1}):
        moved = dataclasses.replace(noisy[1], training=dataclasses.replace(noisy[1].training, **other))
        assert not equal_schedules(moved, twins[1])
        found = noise_transfer([noisy[0], moved, noisy[2]], twins)
        assert found.value is None and "schedules" in str(found.reason_if_null)
    way = dataclasses.replace(noisy[0].training, schedule=Schedule("twin", "0" * 64))
    assert equal_schedules(dataclasses.replace(noisy[0], training=way), twins[0])


def test_what_is_measured_across_cells_is_declared() -> None:
    assert [(m.name, m.column, m.higher_is_better) for m in ACROSS] == [
        ("noise_transfer", 1, False),
        ("twin_validation_accuracy", None, True),
    ]
