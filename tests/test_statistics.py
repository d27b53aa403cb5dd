"""Intervals against independent implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rote_bench.statistics import (
    Estimate,
    across_seeds,
    bootstrap,
    bootstrap_method,
    difference,
    holm,
    interquartile_mean,
    proportion,
    resampled_means,
    sign_flip,
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
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=2).confidence_interval
    low, high = np.quantile(draws, [0.025, 0.975])
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_clusters_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(20), 50)
    hits = (rng.random(20) < 0.5)[clusters]
    wide = proportion(hits, clusters, np.random.default_rng(0))
    narrow = proportion(hits, np.arange(1000), np.random.default_rng(0))
    assert wide.value == narrow.value
    assert width(wide) > 3 * width(narrow)


@pytest.mark.parametrize("label", [0, 7])
@given(st.lists(st.booleans(), min_size=2, max_size=60), st.integers(0, 5))
def test_one_cluster_is_no_certainty(label: int, hits: list[bool], seed: int) -> None:
    """A task without groups, or a constant group column: its examples count as independent."""
    values, one = np.array(hits, dtype=float), np.full(len(hits), label)
    own = np.arange(len(hits))
    share = proportion(values, one, np.random.default_rng(seed))
    assert (share.ci_low, share.ci_high) == pytest.approx(
        tuple(stats.binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")), abs=1e-9
    )
    assert share.ci_method == "Wilson score"
    drawn = resampled_means(values, one, np.random.default_rng(seed))
    assert np.array_equal(drawn, resampled_means(values, own, np.random.default_rng(seed)))
    smooth = bootstrap(lambda m: m[..., 0] ** 2, values[:, None], one, np.random.default_rng(seed))
    apart = difference(values, one, 1 - values, one, np.random.default_rng(seed))
    for estimate in (smooth, apart):
        assert estimate.ci_method == "bootstrap over examples"
        assert estimate.ci_low is not None and estimate.ci_high is not None
        assert estimate.ci_high > estimate.ci_low or len(set(hits)) == 1
    assert bootstrap_method(own, own) == "cluster bootstrap"
    assert bootstrap_method(own, one) == "bootstrap over examples"


def test_one_example_has_no_interval_and_says_why() -> None:
    rng = np.random.default_rng(0)
    for estimate in (
        difference([1.0], [0], [0.0, 1.0], [0, 1], rng),
        bootstrap(lambda m: m[..., 0], [[0.5]], [0], rng),
    ):
        assert estimate.value is not None
        assert estimate.ci_low is None and estimate.ci_high is None
        assert estimate.reason_if_no_interval
    one = proportion([1.0], [0], rng)
    assert one.ci_low is not None and one.ci_low > 0 and one.ci_high == 1


def test_cluster_means_weigh_clusters_by_size() -> None:
    values = np.array([0.0, 1.0, 1.0, 1.0])
    draws = resampled_means(values, [0, 1, 1, 1], np.random.default_rng(0), 2000)
    assert set(np.round(np.unique(draws), 6)) == {0.0, 0.75, 1.0}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 100))
@settings(max_examples=40)
def test_a_proportion_lies_in_its_interval(shares: list[float], seed: int) -> None:
    hits = np.array([s > 0.5 for s in shares])
    e = proportion(hits, np.arange(len(hits)), np.random.default_rng(seed))
    assert e.value is not None and e.ci_low is not None and e.ci_high is not None
    assert 0 <= e.ci_low <= e.value + 1e-12 and e.value - 1e-12 <= e.ci_high <= 1


def test_the_interval_of_a_difference_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        a, b = rng.random(150) < 0.6, rng.random(150) < 0.4
        e = difference(a, np.arange(150), b, np.arange(150), rng)
        low, high = bounds(e)
        covered += low <= 0.2 <= high
    assert 180 <= covered <= 200


def test_bootstrap_of_a_ratio() -> None:
    rng = np.random.default_rng(0)
    values = np.stack([rng.random(400) < 0.8, rng.random(400) < 0.4], 1)
    e = bootstrap(lambda m: m[..., 1] / m[..., 0], values, np.arange(400), rng)
    assert e.value == pytest.approx(values[:, 1].mean() / values[:, 0].mean())
    low, high = bounds(e)
    assert low < 0.5 < high
    nothing = bootstrap(lambda m: m[..., 0] * np.nan, values, np.arange(400), rng)
    assert nothing.value is None and nothing.reason_if_null


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40))
def test_the_interquartile_mean_agrees_with_scipy_where_quarters_are_whole(values: list[float]) -> None:
    four = values * 4
    assert interquartile_mean(four) == pytest.approx(stats.trim_mean(four, 0.25), abs=1e-9)


def test_across_seeds() -> None:
    e = across_seeds([0.1, 0.2, 0.3], np.random.default_rng(0))
    low, high = bounds(e)
    assert e.value == pytest.approx(0.2) and 0.1 <= low < 0.2 < high <= 0.3
    assert across_seeds([0.4], np.random.default_rng(0)).ci_low is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_monotone_and_at_least_the_raw_values(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(a >= p and a <= 1 for a, p in zip(adjusted, p_values, strict=True))
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)
    assert adjusted[order[0]] == pytest.approx(min(1.0, len(p_values) * p_values[order[0]]))


def test_nothing_that_is_not_a_number_becomes_an_estimate() -> None:
    with pytest.raises(ValueError, match="not a number"):
        Estimate(math.nan, None, None, None, 1)
    with pytest.raises(ValueError, match="reason"):
        Estimate(None, None, None, None, 1)


def test_sign_flips_are_exact_and_say_how_small_p_can_be() -> None:
    rng = np.random.default_rng(0)
    assert sign_flip([[1.0, 2.0, 3.0], [1.0, -1.0, 0.5], [0.0, 0.0, 0.0]], rng).tolist() == [0.25, 1.0, 1.0]
    assert sign_flip(np.ones(6), rng) == pytest.approx(2 / 2**6)
    many = sign_flip(np.ones(20), rng)
    assert 0 < many < 1e-3


def test_sign_flips_agree_with_scipy() -> None:
    from scipy.stats import permutation_test

    for n in (3, 5, 8):
        x = np.random.default_rng(n).normal(0.4, 1, n)
        theirs = permutation_test((x, np.zeros(n)), lambda a, b: np.mean(a - b), permutation_type="samples")
        assert sign_flip(x, np.random.default_rng(0)) == pytest.approx(theirs.pvalue)


def test_sign_flips_are_valid_under_the_null() -> None:
    drawn = np.random.default_rng(1).normal(size=(4000, 5))
    p = sign_flip(drawn, np.random.default_rng(0))
    for level in (0.0625, 0.125, 0.5):
        assert (p <= level + 1e-12).mean() == pytest.approx(level, abs=0.02)


def test_interquartile_means_of_many_rows_are_those_of_each() -> None:
    rows = np.random.default_rng(2).normal(size=(5, 7))
    assert interquartile_mean(rows).tolist() == pytest.approx([float(interquartile_mean(row)) for row in rows])
