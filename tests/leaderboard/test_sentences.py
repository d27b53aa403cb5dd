"""What is said of a comparison by rule: dull causes, planned contrasts and the sentences, held against planted data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rote_bench.comparison.rules import Contrast
from rote_bench.contrasts import holm
from rote_bench.leaderboard.causes import causes, followed, spearman
from rote_bench.leaderboard.planned import contrasts
from rote_bench.leaderboard.rank import RANKING, TWIN, Number, Row, rank
from rote_bench.leaderboard.sentences import sentences
from rote_bench.statistics import Estimate

RATE = 0.05
NAMES = ("ant", "bee", "cow", "dog", "elk", "fox", "gnu", "hen")


def planted(
    model: str,
    transfers: Sequence[float],
    *,
    peak: float = 0.01,
    final: float = 0.001,
    settled: int | None = 100,
    after: int | None = 50,
    parameters: int = 1_000_000,
    known: float | None = 0.97,
    memorised: float = 0.99,
    twin: float = 0.999,
    reason: str | None = None,
) -> Row:
    """A row of a model that was trained like this; ranked unless there is a reason why not."""
    training = SimpleNamespace(final_rate=final, settled_step=settled, steps_after_98=after)
    report = SimpleNamespace(training=training, model=SimpleNamespace(parameters=parameters))
    told = SimpleNamespace(known=known)
    cell: Any = SimpleNamespace(recipe=json.dumps({"training": {"learning_rate": peak}}), report=report, trial=told)
    row = Row(model, RATE, [cell] * len(transfers), [])
    row.transfers = {str(seed): value for seed, value in enumerate(transfers)}
    half = 2.26 * float(np.std(transfers, ddof=1)) / len(transfers) ** 0.5
    mean = float(np.mean(transfers))
    estimate = Estimate(mean, mean - half, mean + half, "t over seeds", len(transfers))
    row.metrics[RANKING] = Number.of(estimate, [], False)
    row.metrics[TWIN.name] = Number.of(Estimate(twin, None, None, None, 1), [], True)
    row.metrics["counterfactual_memorization"] = Number.of(Estimate(memorised, None, None, None, 1), [], True)
    row.reason = reason
    return row


def around(mean: float, seeds: int = 10, spread: float = 0.05, draw: int = 0) -> list[float]:
    values = np.random.default_rng(draw).normal(size=seeds)
    return [float(v) for v in mean + spread * (values - values.mean()) / values.std(ddof=1)]


def told(rows: Sequence[Row], planned: Sequence[Contrast] = (), **more: Any) -> Any:
    pairs, dull = rank(rows), causes(rows)
    decided = contrasts(planned, {("thr", row.model, row.rate): row for row in rows})
    return sentences(rows, pairs, decided, dull, **more)


values = st.lists(st.integers(0, 6).map(float), min_size=3, max_size=8)


@settings(max_examples=20)
@given(st.data())
def test_rank_correlations_are_scipys_and_their_p_that_of_all_orders(data: st.DataObject) -> None:
    first = data.draw(values)
    second = data.draw(st.lists(st.integers(0, 6).map(float), min_size=len(first), max_size=len(first)))
    rho, p = spearman(first, second)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert rho is None and p is None
        return
    assert rho is not None and p is not None
    assert rho == pytest.approx(stats.spearmanr(first, second).statistic)
    if len(first) <= 5:
        exact = stats.permutation_test(
            (second,),
            lambda each: stats.spearmanr(first, each).statistic,
            permutation_type="pairings",
            n_resamples=np.inf,
            vectorized=False,
        )
        by_hand = (np.abs(exact.null_distribution) >= abs(rho) - 1e-9).mean()
        assert p == pytest.approx(by_hand)


def test_beyond_eight_models_p_is_scipys() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=12), rng.normal(size=12)
    theirs = stats.spearmanr(first, second)
    assert spearman(first.tolist(), second.tolist()) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert spearman(list(range(9)), list(range(9))) == pytest.approx((1.0, 0.0))
    assert spearman([1.0, 2.0], [1.0, 2.0]) == (None, None)


def test_eight_models_in_one_order_have_the_p_of_two_orders_of_all() -> None:
    rho, p = spearman(list(range(8)), list(range(8)))
    assert rho == pytest.approx(1) and p == pytest.approx(2 / 40320)


def test_a_cause_is_looked_for_in_what_the_cells_say_of_their_training() -> None:
    rows = [
        planted(
            name,
            around(0.1 * i),
            peak=0.001 * i,
            final=0.1 / (i + 1),
            settled=100,
            after=(i * 7) % 5 or None,
            parameters=1_000_000 + 10_000 * i,
            known=None if i == 3 else 0.99 - 0.001 * i,
            memorised=0.96 + 0.004 * ((i * 3) % 8),
            twin=1 - 0.001 * i,
        )
        for i, name in enumerate(NAMES, start=1)
    ]
    rank(rows)
    found = {one["cause"]: one for one in causes(rows)}
    assert found["peak_rate"]["rho"] == found["twin_error"]["rho"] == 1.0 and found["final_rate"]["rho"] == -1.0
    assert found["peak_rate"]["p"] == pytest.approx(2 / 40320, abs=1e-6)
    assert found["steps_at_full_rate"]["rho"] is None and found["parameters"]["rho"] is None  # all alike, or nearly so
    assert found["accuracy_at_settle"]["models"] == 7  # one of eight does not say
    assert found["accuracy_at_settle"]["rho"] == -1.0
    after = [(i * 7) % 5 for i in range(1, 9)]  # one that never memorised enough has no steps after it
    assert found["steps_after_memorised"]["rho"] == pytest.approx(stats.spearmanr(range(8), after).statistic, abs=1e-6)
    share = [(i * 3) % 8 for i in range(1, 9)]
    assert found["memorised"]["rho"] == pytest.approx(stats.spearmanr(range(8), share).statistic, abs=1e-6)
    followed_by = {"peak_rate", "final_rate", "twin_error", "accuracy_at_settle"}
    assert {one["cause"] for one in followed(list(found.values()))} == followed_by


def test_the_rate_at_the_end_is_not_told_beside_the_full_rate_that_it_is_a_part_of() -> None:
    rows = [planted(n, around(0.1 * i), peak=0.001 * i, final=5e-5 * i) for i, n in enumerate(NAMES, start=1)]
    rank(rows)
    assert [one["cause"] for one in followed(causes(rows))] == ["peak_rate"]


def test_how_much_was_memorised_is_a_cause_where_it_differs_by_more_than_a_hundredth() -> None:
    for step, says in ((0.001, []), (0.003, ["memorised"])):
        rows = [planted(n, around(0.1 * i), memorised=1 - step * i) for i, n in enumerate(NAMES, start=1)]
        rank(rows)
        assert [one["cause"] for one in followed(causes(rows))] == says


def test_models_of_other_sizes_are_told_apart_by_them() -> None:
    rows = [planted(n, around(0.1 * i), parameters=1_000_000 * i) for i, n in enumerate(NAMES, start=1)]
    rank(rows)
    assert [one["cause"] for one in followed(causes(rows))] == ["parameters"]


def test_a_ranking_that_follows_the_peak_rate_is_cautioned_and_one_that_does_not_is_not() -> None:
    shuffled = [0.003, 0.007, 0.001, 0.008, 0.004, 0.002, 0.006, 0.005]
    for rates, says in ((sorted(shuffled), True), (shuffled, False)):
        rows = [
            planted(name, around(0.1 + 0.1 * i), peak=rate)
            for i, (name, rate) in enumerate(zip(NAMES, rates, strict=True))
        ]
        caution = told(rows)["caution"]
        if says:
            assert caution == (
                "The order of the models follows the full learning rate, which may explain it as well as what the"
                " models are."
            )
        else:
            assert abs(stats.spearmanr(range(8), rates).statistic) < 0.5 and caution is None


def test_of_equal_models_none_is_said_to_be_less() -> None:
    rows = [planted(name, around(0.2 + 0.005 * i, draw=i)) for i, name in enumerate(NAMES[:4])]
    found = told(rows)
    assert found["result"] == (
        "At 5 % wrong labels no two of 4 models can be told apart: a wrong label costs 0.20 (ant) to 0.21 (dog) of a"
        " held-out answer."
    )
    assert found["certainty"] == (
        "0 of 6 pairs are told apart, at 5 % over all of them together, with 10 seeds each; differences of 0.09 would"
        " be seen in 80 of 100 repetitions. The first and the last differ by 0.01 [-0.03, 0.06]."
    )
    assert found["caution"] is found["left_out"] is None


def test_the_one_that_is_far_lower_is_said_to_be_and_the_last_by_how_much() -> None:
    rows = [planted("ant", around(0.1)), *(planted(n, around(0.5, draw=i)) for i, n in enumerate(NAMES[1:5]))]
    found = told(rows)
    assert found["result"] == (
        "At 5 % wrong labels ant pays least for a wrong label, 0.10 of a held-out answer; every other model pays more,"
        " up to 0.50 (elk)."
    )
    assert found["certainty"].startswith("4 of 10 pairs are told apart")
    assert "The first and the last differ by 0.40 [" in found["certainty"]
    two = told([rows[0], rows[-1]])["result"]
    assert two.endswith("; elk pays more, 0.50.")


def test_those_that_cannot_be_told_from_the_least_are_named_apart_from_those_that_have_more() -> None:
    rows = [planted(n, around(m, draw=i)) for i, (n, m) in enumerate(zip(NAMES, (0.1, 0.11, 0.12, 0.6), strict=False))]
    rows.append(planted("yak", around(0.0), reason="the task is not solved"))
    found = told(rows, left_out=[("zebu", "not learned within the budget")])
    first = "ant pays least for a wrong label, 0.10 of a held-out answer;"
    assert found["result"].endswith(f"{first} dog pays more, 0.60, and the other 2 cannot be told from it.")
    assert found["left_out"] == "Not ranked: zebu: not learned within the budget; yak: the task is not solved."
    rows += [planted(n, around(0.5 + 0.01 * i, draw=i)) for i, n in enumerate(NAMES[4:6])]
    result = told(rows)["result"]
    assert result.endswith("it cannot be told from bee and cow, and the other 3 pay more, up to 0.60 (dog).")


def test_the_least_mean_that_is_told_from_none_is_said_to_be() -> None:
    rows = [planted("ant", around(0.1, spread=1.0)), planted("bee", around(0.2)), planted("cow", around(0.6))]
    assert told(rows)["result"].endswith(
        "ant pays least for a wrong label, 0.10 of a held-out answer on average, but no model is told from it."
    )


def test_it_is_said_for_which_the_cost_counts_as_benign_for_which_not_and_for_which_neither() -> None:
    rows = [planted("ant", around(0.03)), planted("bee", around(0.09)), planted("cow", around(0.3))]
    said = "Memorization counts as benign below 0.1: the interval lies"
    every = f"{said} below it for ant, at or above it for cow, on both sides of it for bee."
    assert told(rows)["benign"] == every
    assert told(rows[1:2])["benign"] == f"{said} on both sides of it for bee."
    high = [planted(n, around(0.5, draw=i)) for i, n in enumerate(NAMES[:4])]
    assert told(high)["benign"] == f"{said} at or above it for all 4."
    assert told([])["benign"] is None


def test_a_last_that_is_not_told_from_the_first_is_not_said_to_have_more() -> None:
    rows = [planted("ant", around(0.1)), planted("bee", around(0.2)), planted("cow", around(0.32, spread=0.6))]
    found = told(rows)
    assert found["result"].endswith("; it cannot be told from cow, and bee pays more.")
    assert "The first and the last differ by 0.22 [-" in found["certainty"]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "No model can be ranked."),
        (
            [planted("ant", around(0.1))],
            "ant alone can be ranked: a wrong label costs it 0.10 [0.06, 0.14] of a held-out answer.",
        ),
    ],
)
def test_with_one_model_or_none_nothing_is_compared(rows: list[Row], says: str) -> None:
    found = told(rows)
    assert says in found["result"] and found["certainty"] == "Nothing is compared." and found["caution"] is None


def test_planned_contrasts_are_scipys_and_corrected_over_all_that_were_planned() -> None:
    a, b, c = (around(mean, 5, 0.08, draw) for draw, mean in enumerate((0.2, 0.45, 0.22)))
    rows = {("thr", n, RATE): planted(n, v) for n, v in (("ant", a), ("bee", b), ("cow", c))}
    planned = [
        Contrast("one", ("thr", "thr"), ("ant", "bee"), RANKING, (RATE, RATE), 0.08),
        Contrast("two", ("thr", "thr"), ("cow", "ant"), RANKING, (RATE, RATE), 0.08),
        Contrast("three", ("thr", "thr"), ("yak", "ant"), RANKING, (RATE, RATE), 0.08),
    ]
    one, two, three = contrasts(planned, rows)
    p = []
    for found, first, second in ((one, a, b), (two, c, a)):
        welch = stats.ttest_ind(first, second, equal_var=False)
        interval = welch.confidence_interval()
        exact = stats.permutation_test(
            (first, second),
            lambda x, y: stats.ttest_ind(x, y, equal_var=False).statistic,
            n_resamples=np.inf,
            vectorized=False,
        )
        p.append(exact.pvalue)
        assert found["difference"] == pytest.approx(np.mean(first) - np.mean(second), abs=1e-6)
        assert (found["ci_low"], found["ci_high"]) == pytest.approx((interval.low, interval.high), abs=1e-6)
        assert found["p"] == pytest.approx(exact.pvalue, abs=1e-6) and found["n"] == [5, 5]
    assert [one["p_holm"], two["p_holm"]] == pytest.approx(holm([*p, 1.0])[:2], abs=1e-6)
    assert (one["verdict"], two["verdict"], three["verdict"]) == ("lower", "not told apart", "not told apart")
    assert three["reason"] == "yak has no cells" and three["p"] is three["difference"] is None
    said = told(list(rows.values()), planned)["planned"]
    assert said == "Of 3 planned contrasts 1 is told apart: ant lower than bee."
    assert told(list(rows.values()), planned[1:])["planned"] == "Of 2 planned contrasts none is told apart."
    assert told(list(rows.values()))["planned"] is None


def test_a_contrast_of_what_is_not_ranked_is_not_decided() -> None:
    rows = {
        ("thr", n, RATE): planted(n, around(0.2), reason=why) for n, why in (("ant", None), ("bee", "it is not solved"))
    }
    (found,) = contrasts([Contrast("one", ("thr", "thr"), ("ant", "bee"), RANKING, (RATE, RATE), 0.08)], rows)
    assert found["reason"] == "bee is not ranked (it is not solved)" and found["verdict"] == "not told apart"
