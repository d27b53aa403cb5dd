"""Intervals against independent implementations."""

from __future__ import annotations

import math
from inspect import signature
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from rote_bench.statistics import (
    Estimate,
    bootstrap,
    bootstrap_method,
    design_effect,
    difference,
    proportion,
    resampled_means,
    unseen_proportion,
    weighted_proportion,
    wilson,
)


def bounds(estimate: Estimate) -> tuple[float, float]:
    """The ends of an interval that has to be there."""
    assert estimate.ci_low is not None and estimate.ci_high is not None
    return estimate.ci_low, estimate.ci_high


def width(estimate: Estimate) -> float:
    low, high = bounds(estimate)
    return high - low


@given(st.integers(0, 200), st.integers(1, 200))
def test_wilson_agrees_with_scipy(successes: int, n: int) -> None:
    successes = min(successes, n)
    ours = wilson(successes, n)
    theirs = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert ours.ci_low == pytest.approx(theirs.low, abs=1e-9)
    assert ours.ci_high == pytest.approx(theirs.high, abs=1e-9)


def test_the_bootstrap_agrees_with_scipy_when_every_example_is_its_own_cluster() -> None:
    values = np.random.default_rng(0).normal(size=300)
    draws = resampled_means(values, np.arange(300), np.random.default_rng(1), 4000)
    seeded = {"rng" if "rng" in signature(stats.bootstrap).parameters else "random_state": 2}  # renamed by scipy 1.15
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", **seeded).confidence_interval
    low, high = np.quantile(draws, [0.025, 0.975])
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=80))
def test_a_proportion_is_the_jackknife_done_by_hand(rows: list[tuple[bool, int]]) -> None:
    flags, clusters = np.array([hit for hit, _ in rows], dtype=float), np.array([cluster for _, cluster in rows])
    estimate, names = proportion(flags, clusters), sorted(set(clusters.tolist()))
    if len(names) < 2 or flags.min() == flags.max():
        assert str(estimate.ci_method).startswith("Wilson score")
        return

    def logit(x: Any) -> float:
        return float(special.logit((x.sum() + 0.5) / (len(x) + 1)))

    whole = logit(flags)
    moved = [(logit(flags[clusters != name]) - whole) ** 2 for name in names]
    error = math.sqrt((len(names) - 1) / len(names) * sum(moved))
    reach = stats.t.ppf(0.975, len(names) - 1) * error
    theirs = stats.binomtest(int(flags.sum()), len(flags)).proportion_ci(method="wilson")
    low, high = min(special.expit(whole - reach), theirs.low), max(special.expit(whole + reach), theirs.high)
    assert bounds(estimate) == pytest.approx((low, high), abs=1e-9)
    assert estimate.ci_method == "cluster jackknife on the logit scale"


def test_where_all_clusters_are_perfect_their_examples_count_for_less() -> None:
    clusters = np.repeat(np.arange(5), 20)
    right, wrong = proportion(np.ones(100), clusters), proportion(np.zeros(100), clusters)
    fewer = 100 / (1 + 19 * 0.05)
    z = stats.norm.ppf(0.975)
    assert bounds(right) == pytest.approx((fewer / (fewer + z**2), 1.0))
    assert bounds(wrong) == pytest.approx((0.0, 1 - fewer / (fewer + z**2)))
    assert right.ci_method == "Wilson score, n over the design effect at correlation 0.05"


def test_clusters_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(20), 50)
    hits = (rng.random(20) < 0.5)[clusters]
    wide = proportion(hits, clusters)
    narrow = proportion(hits, np.arange(1000))
    assert wide.value == narrow.value
    assert width(wide) > 3 * width(narrow)


@pytest.mark.parametrize("label", [0, 7])
@given(st.lists(st.booleans(), min_size=2, max_size=60), st.integers(0, 5))
def test_one_cluster_is_no_certainty(label: int, hits: list[bool], seed: int) -> None:
    """A task without groups, or a constant group column: its examples count as independent."""
    values, one = np.array(hits, dtype=float), np.full(len(hits), label)
    own = np.arange(len(hits))
    share = proportion(values, one)
    assert (share.ci_low, share.ci_high) == pytest.approx(
        tuple(stats.binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")), abs=1e-9
    )
    assert share.ci_method == "Wilson score"
    drawn = resampled_means(values, one, np.random.default_rng(seed))
    assert np.array_equal(drawn, resampled_means(values, own, np.random.default_rng(seed)))
    smooth = bootstrap(lambda m: m[..., 0] ** 2, values[:, None], one, np.random.default_rng(seed))
    assert smooth.ci_method == "parametric bootstrap over examples"
    apart = difference(values, one, 1 - values, one)
    for low, high in map(bounds, (smooth, apart)):
        assert high > low
    assert bootstrap_method(own, own) == "parametric bootstrap over clusters"
    assert bootstrap_method(own, one) == "parametric bootstrap over examples"


def test_one_example_has_no_interval_and_says_why() -> None:
    alone = bootstrap(lambda m: m[..., 0], [[0.5]], [0], np.random.default_rng(0))
    assert alone.value == 0.5 and alone.ci_low is None and alone.ci_high is None and alone.reason_if_no_interval
    one = proportion([1.0], [0])
    assert one.ci_low is not None and one.ci_low > 0 and one.ci_high == 1


@pytest.mark.parametrize("shift", [0.0, 40.0])
def test_draws_of_means_have_the_jackknifes_spread(shift: float) -> None:
    """Of numbers that are no hits: a mean's jackknife over clusters, and t's tails."""
    rng = np.random.default_rng(0)
    values, clusters = rng.normal(shift, 1, size=60), rng.integers(0, 6, size=60)
    low, high = np.quantile(resampled_means(values, clusters, rng, 40_000), [0.025, 0.975])
    without = np.array([values[clusters != name].mean() for name in range(6)])
    reach = stats.t.ppf(0.975, 5) * math.sqrt(5 / 6 * ((without - values.mean()) ** 2).sum())
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=0.05 * reach)


def test_draws_of_hits_have_the_interval_of_a_proportion() -> None:
    rng = np.random.default_rng(3)
    flags, clusters = rng.random(240) < 0.9, np.arange(240) // 30
    draws = resampled_means(flags, clusters, rng, 40_000)
    assert np.quantile(draws, [0.025, 0.975]) == pytest.approx(bounds(proportion(flags, clusters)), abs=0.01)


def test_columns_that_show_no_spread_of_their_own_are_not_certain() -> None:
    rng = np.random.default_rng(0)
    flags, clusters = rng.random(100) < 0.9, np.arange(100) // 10
    table = np.stack([np.ones(100), flags, flags, np.zeros(100)], 1)
    draws = resampled_means(table, clusters, rng)
    assert draws.min() >= 0 and draws.max() <= 1
    for found in (draws[:, 0], draws[:, 3], draws[:, 1] / draws[:, 2]):
        assert 0.01 < np.ptp(np.quantile(found, [0.025, 0.975])) < 0.2


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 100))
@settings(max_examples=40)
def test_a_proportion_lies_in_its_interval(shares: list[float], seed: int) -> None:
    hits = np.array([s > 0.5 for s in shares])
    e = proportion(hits, np.arange(len(hits)) // (1 + seed % 4))
    assert e.value is not None and e.ci_low is not None and e.ci_high is not None
    assert 0 <= e.ci_low <= e.value + 1e-12 and e.value - 1e-12 <= e.ci_high <= 1


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.lists(st.booleans(), min_size=1, max_size=40))
def test_a_difference_has_newcombes_interval(first: list[bool], second: list[bool]) -> None:
    a, b = (stats.binomtest(sum(x), len(x)).proportion_ci(method="wilson") for x in (first, second))
    p, q = np.mean(first), np.mean(second)
    low, high = bounds(difference(first, np.zeros(len(first)), second, np.zeros(len(second))))
    assert low == pytest.approx(p - q - math.sqrt((p - a.low) ** 2 + (b.high - q) ** 2), abs=1e-9)
    assert high == pytest.approx(p - q + math.sqrt((a.high - p) ** 2 + (q - b.low) ** 2), abs=1e-9)


def test_bootstrap_of_a_ratio() -> None:
    rng = np.random.default_rng(0)
    values = np.stack([rng.random(400) < 0.8, rng.random(400) < 0.4], 1)
    e = bootstrap(lambda m: m[..., 1] / m[..., 0], values, np.arange(400), rng)
    assert e.value == pytest.approx(values[:, 1].mean() / values[:, 0].mean())
    low, high = bounds(e)
    assert low < 0.5 < high
    nothing = bootstrap(lambda m: m[..., 0] * np.nan, values, np.arange(400), rng)
    assert nothing.value is None and nothing.reason_if_null


def test_nothing_that_is_not_a_number_becomes_an_estimate() -> None:
    with pytest.raises(ValueError, match="not a number"):
        Estimate(math.nan, None, None, None, 1)
    with pytest.raises(ValueError, match="reason"):
        Estimate(None, None, None, None, 1)


def test_a_weighted_share_is_a_proportion_where_all_weigh_the_same() -> None:
    rng = np.random.default_rng(3)
    clusters = rng.integers(8, size=120)
    hits = rng.random(120) < 0.3 + 0.05 * clusters
    plain, same = proportion(hits, clusters), weighted_proportion(2.0 * hits, np.full(120, 2.0), clusters)
    assert (same.value, same.ci_low, same.ci_high) == pytest.approx((plain.value, plain.ci_low, plain.ci_high))
    perfect = weighted_proportion(np.ones(120), np.ones(120), clusters)
    expected = proportion(np.ones(120), clusters)
    assert (perfect.ci_low, perfect.ci_high) == pytest.approx((expected.ci_low, expected.ci_high))
    weights = rng.random(120)
    none = np.append(weights, 0.0)
    with_one, without = (
        weighted_proportion(w * np.resize(hits, len(w)), w, np.resize(clusters, len(w))) for w in (none, weights)
    )
    assert without.value == pytest.approx(float((weights * hits).sum() / weights.sum()))
    assert with_one == without and without.n == 120
    assert weighted_proportion([0.0], [0.0], [0]).value is None


@pytest.mark.parametrize("together", [0.0, 0.3])
def test_a_weighted_share_covers_with_few_clusters(together: float) -> None:
    """Twelve clusters whose examples win or lose together by so much, weights unequal."""
    rng = np.random.default_rng(5)
    clusters, inside = np.repeat(np.arange(12), 20), 0
    for _ in range(400):
        weights = 0.2 + rng.random(240)
        chance = np.clip(0.5 + together * rng.uniform(-1, 1, 12), 0, 1)[clusters]
        found = weighted_proportion((rng.random(240) < chance) * weights, weights, clusters)
        assert found.ci_low is not None and found.ci_high is not None
        inside += found.ci_low <= 0.5 <= found.ci_high
    assert inside / 400 > 0.92


def test_a_share_of_which_nothing_is_known_is_as_wide_as_clusters_may_make_it() -> None:
    clusters = np.repeat(np.arange(10), 20)
    assert design_effect(clusters) == pytest.approx(1 + 19 * 0.05)
    assert design_effect(np.zeros(5)) == design_effect(np.arange(5)) == design_effect([]) == 1
    wide, narrow = unseen_proportion(0.4, 200, design_effect(clusters)), wilson(80, 200)
    again = wilson(40, 100)
    assert wide.ci_low is not None and narrow.ci_low is not None and again.ci_low is not None
    assert again.ci_low < wide.ci_low < narrow.ci_low
