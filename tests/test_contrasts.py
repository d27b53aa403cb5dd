"""Seeds and models: intervals, tests, ranks and plans against independent implementations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rote_bench.contrasts import (
    across_seeds,
    check_contrasts,
    family,
    holm,
    permutation,
    power,
    rank_intervals,
    smallest_p,
    welch,
)
from rote_bench.errors import UserError

values = st.floats(-5, 5, allow_subnormal=False).map(lambda x: round(x, 3))


@given(st.lists(values, min_size=3, max_size=12))
def test_the_interval_over_seeds_is_students(seeds: list[float]) -> None:
    found = across_seeds(seeds)
    assert found.value == pytest.approx(np.mean(seeds)) and found.n == len(seeds)
    half = stats.t.ppf(0.975, len(seeds) - 1) * stats.sem(seeds)
    assert (found.ci_low, found.ci_high) == pytest.approx((np.mean(seeds) - half, np.mean(seeds) + half), abs=1e-9)


def test_fewer_than_three_seeds_have_no_interval() -> None:
    for few in (across_seeds([0.4]), across_seeds([0.4, 0.5]), welch([0.1, 0.2], [0.3, 0.1, 0.2])):
        assert few.value is not None and few.ci_low is None and "fewer than 3 seeds" in str(few.reason_if_no_interval)
    assert across_seeds([]).value is None and welch([], [1.0]).value is None


@given(st.lists(values, min_size=3, max_size=8, unique=True), st.lists(values, min_size=3, max_size=8, unique=True))
def test_the_interval_of_two_models_is_welchs(first: list[float], second: list[float]) -> None:
    found = welch(first, second)
    theirs = stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    assert found.value == pytest.approx(np.mean(first) - np.mean(second))
    assert (found.ci_low, found.ci_high) == pytest.approx(tuple(theirs))
    alike = welch([0.5] * 3, [0.2] * 4)
    assert (alike.ci_low, alike.ci_high) == pytest.approx((0.3, 0.3))


@pytest.mark.parametrize(("n", "m"), [(3, 3), (3, 5), (4, 4), (5, 6)])
def test_permutation_agrees_with_scipy(n: int, m: int) -> None:
    def t(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        error = np.sqrt(a.var(axis, ddof=1) / n + b.var(axis, ddof=1) / m)
        return np.asarray(np.abs(a.mean(axis) - b.mean(axis)) / error)

    rng = np.random.default_rng(n)
    a, b = rng.normal(0.8, 1, n), rng.normal(0, 2, m)
    theirs = stats.permutation_test((a, b), t, vectorized=True, n_resamples=np.inf, alternative="greater")
    assert permutation(list(a), list(b), rng) == pytest.approx(theirs.pvalue)


@given(st.lists(values, min_size=1, max_size=4), st.lists(values, min_size=1, max_size=4))
@settings(max_examples=30)
def test_permutation_knows_no_order_no_unit_and_no_sign(first: list[float], second: list[float]) -> None:
    rng = np.random.default_rng(0)
    p = permutation(first, second, rng)
    assert smallest_p(len(first), len(second)) - 1e-12 <= p <= 1
    assert permutation(first[::-1], second[::-1], rng) == pytest.approx(p)
    assert permutation([3 - 2 * x for x in first], [3 - 2 * x for x in second], rng) == pytest.approx(p)


@pytest.mark.parametrize(("n", "m"), list(itertools.combinations_with_replacement((2, 3, 4, 5), 2)))
def test_the_smallest_p_is_that_of_two_groups_far_apart(n: int, m: int) -> None:
    first, second = [0.0, 0.1, 0.15, 0.3, 0.32][:n], [9.0, 9.2, 9.25, 9.6, 9.61][:m]
    assert permutation(first, second, np.random.default_rng(0)) == pytest.approx(smallest_p(n, m))


def test_many_seeds_are_dealt_at_random_and_p_is_never_zero() -> None:
    rng = np.random.default_rng(0)
    p = permutation(list(rng.normal(0, 1, 20)), list(rng.normal(5, 1, 20)), rng)
    assert p == pytest.approx(1e-4) == smallest_p(20, 20)


def test_a_plan_that_cannot_succeed_is_refused() -> None:
    check_contrasts({"a": (5, 5), "b": (5, 5), "c": (4, 6)})
    with pytest.raises(UserError, match=r"contrast a: .*3 and 3 seeds p cannot fall below 0.1 "):
        check_contrasts({"a": (3, 3)})
    with pytest.raises(UserError, match=r"contrast a: .*below 0.0571 after correction over 2 contrasts"):
        check_contrasts({"a": (4, 4), "b": (4, 4)})
    with pytest.raises(UserError, match="4 contrasts are planned; at most 3"):
        check_contrasts(dict.fromkeys("abcd", (9, 9)))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_monotone_and_at_least_the_raw_values(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(a >= p and a <= 1 for a, p in zip(adjusted, p_values, strict=True))
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)
    assert adjusted[order[0]] == pytest.approx(min(1.0, len(p_values) * p_values[order[0]]))


def test_the_family_of_all_pairs_is_welch_with_holm() -> None:
    rng = np.random.default_rng(0)
    groups = [list(rng.normal(mean, 0.07, n)) for mean, n in ((0, 3), (0.1, 5), (0.3, 4))]
    pairs = list(itertools.combinations(range(3), 2))
    alone = [float(stats.ttest_ind(groups[i], groups[j], equal_var=False).pvalue) for i, j in pairs]
    found = family([*groups, [0.9]])
    assert [found[i, j] for i, j in pairs] == pytest.approx(holm(alone))
    assert np.array_equal(found, found.T) and (found[3] == 1).all()
    same = family([[0.1] * 3, [0.1] * 3, [0.5] * 3])
    assert same[0, 1] == 1 and same[0, 2] < 1e-9


@given(st.lists(values, min_size=1, max_size=7), st.integers(0, 1000))
def test_rank_intervals_hold_the_order_of_the_means(means: list[float], seed: int) -> None:
    drawn = np.random.default_rng(seed).random((len(means), len(means))) * 0.1
    p = np.maximum(drawn, drawn.T)
    ranks = rank_intervals(means, p)
    for i, (low, high) in enumerate(ranks):
        assert 1 <= low <= 1 + sum(m < means[i] for m in means)
        assert len(means) - sum(m > means[i] for m in means) <= high <= len(means)
    for (i, a), (j, b) in itertools.permutations(enumerate(ranks), 2):
        assert a[1] >= b[0] or means[i] < means[j]
    assert rank_intervals(means, np.ones_like(p)) == [(1, len(means))] * len(means)


def test_power_agrees_with_a_simulation() -> None:
    rng, n, sd = np.random.default_rng(0), 10, 0.07
    for planned in (1, 3):
        gap = power(sd, n, n, planned)
        assert gap is not None
        p = stats.ttest_ind(rng.normal(gap, sd, (4000, n)), rng.normal(0, sd, (4000, n)), axis=1).pvalue
        assert (p <= 0.05 / planned).mean() == pytest.approx(0.8, abs=0.025)
    assert power(sd, 3, 3) is None and power(sd, 4, 4, planned=2) is None
