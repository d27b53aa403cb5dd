"""What changes are compared with: strangers, alignment, noise and means; areas and matched units."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rote_bench.dissociation import Hits, areas, levels_over_draws
from rote_bench.matching import concentration, followed, matched_bins, permuted_within
from rote_bench.surrogates import Aligned, derangement, halves, means, noise, respects


@given(st.integers(2, 40), st.integers(0, 1000))
def test_nobody_is_their_own_stranger(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups, answers = rng.integers(0, 8, n).tolist(), rng.integers(0, 12, n).tolist()
    alike = respects([answers], groups, [1] * n)
    order = derangement(list(alike.values()), rng)
    assert sorted(order) == list(range(n)) and not (order == np.arange(n)).any()
    if n >= 30 and max(np.bincount(groups).max(), np.bincount(answers).max()) < n / 4:
        assert not any(table[np.arange(n), order].any() for table in alike.values())


def test_strangers_differ_in_what_matters_most_where_not_all_can_be_had() -> None:
    """Two groups of which one is larger than half, and as many answers as examples."""
    n, rng = 20, np.random.default_rng(0)
    alike = respects([list(range(n))], [int(i < 14) for i in range(n)], [i % 2 for i in range(n)])
    order = derangement(list(alike.values()), rng)
    assert alike["same_group"][np.arange(n), order].sum() == 8  # 14 of one group have 6 others to choose
    with pytest.raises(ValueError, match="no other"):
        derangement([np.ones((1, 1))], rng)
    orders = [tuple(derangement([np.zeros((9, 9))], rng)) for _ in range(20)]
    assert len(set(orders)) > 15


def test_sequences_are_aligned_at_their_last_prompt_token() -> None:
    last, values = torch.tensor([2, 4, 3]), torch.arange(3 * 6 * 1).reshape(3, 6, 1).float() + 1
    aligned = Aligned.at(last)
    together = aligned.together(values)
    assert together.shape == (3, 8, 1)
    assert [float(together[i, 4, 0]) for i in range(3)] == [float(values[i, last[i], 0]) for i in range(3)]
    assert torch.equal(aligned.apart(together, slice(0, 3), 6), values)
    order = torch.tensor([1, 2, 0])
    given = aligned.apart(together[order], slice(0, 3), 6)
    for i, j in enumerate(order.tolist()):
        for at in range(6):
            source = at - int(last[i]) + int(last[j])
            expected = float(values[j, source, 0]) if 0 <= source < 6 else 0.0
            assert float(given[i, at, 0]) == expected
    assert Aligned.at(torch.tensor([3, 3])).together(values) is not None


def test_noise_has_the_covariance_of_the_other_half_and_means_are_its_own() -> None:
    rng = np.random.default_rng(0)
    n = 4000
    mixing = torch.tensor([[2.0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0.5, 0], [0, 3, 0, 1]])
    changes = (torch.from_numpy(rng.standard_normal((n, 4))).float() @ mixing.T + 7).reshape(n, 2, 2)
    half = halves(n, rng)
    assert abs(int(half.sum()) - n // 2) <= 1
    made = noise(changes, half, rng).flatten(1)
    assert torch.allclose(torch.cov(made.T), mixing @ mixing.T, atol=0.8)
    assert float(made.mean(0).abs().max()) < 0.4
    for here in (0, 1):
        other = changes[torch.from_numpy(half != here)].mean(0)
        assert torch.allclose(means(changes, half)[torch.from_numpy(half == here)], other.expand(n // 2, 2, 2))


def hits(rng: np.random.Generator, n: int, intact: float, **kinds: list[list[float]]) -> Hits:
    """Independent answers with given shares, by kind of change, draw and place."""
    first = rng.random(n) < intact
    changed = {k: (rng.random((n, len(v), len(v[0]))) < np.array(v)).astype(float) for k, v in kinds.items()}
    return Hits(first.astype(float), changed, np.arange(n))


def test_an_excess_is_none_where_the_control_does_as_much() -> None:
    """Coverage: the interval of a true excess of 0 holds 0 nearly always, and one of 0.5 lies above."""
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        like = [[0.6, 0.7]] * 5
        found = areas(
            hits(rng, 200, 0.95, own=[[0.9, 0.9]], foreign=[[0.9, 0.9]] * 5),
            hits(rng, 150, 0.95, own=[like[0]], foreign=like),
            rng,
        ).excess(("own", "foreign"))
        assert found.ci_low is not None and found.ci_high is not None
        held += found.ci_low <= 0 <= found.ci_high
    assert held >= 54
    rng = np.random.default_rng(0)
    sure = areas(
        hits(rng, 200, 0.95, own=[[0.9]], foreign=[[0.9]] * 5),
        hits(rng, 150, 1.0, own=[[0.1]], foreign=[[0.6]] * 5),
        rng,
    )
    excess = sure.excess(("own", "foreign"))
    assert excess.value == pytest.approx(0.5, abs=0.1) and (excess.ci_low or 0) > 0.3
    twice = sure.excess(("own", "foreign"), ("own", "foreign"))
    assert twice.value == pytest.approx(0) and twice.ci_low == pytest.approx(0) == twice.ci_high


def test_draws_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    first = np.arange(300) % 2 == 0
    alike = np.repeat(first[:, None, None], 5, 1).astype(float)
    differing = np.stack([np.arange(300) < 300 * share for share in (0.1, 0.3, 0.5, 0.7, 0.9)], 1)[:, :, None]
    clusters = np.arange(300)
    for table, least, most in ((alike, 0.08, 0.16), (differing, 0.5, 1.0)):
        found = levels_over_draws(table.astype(float), clusters, rng)
        assert found["value"] == [pytest.approx(0.5)]
        assert least < found["ci_high"][0] - found["ci_low"][0] <= most


def test_units_are_compared_within_their_bins() -> None:
    rng = np.random.default_rng(0)
    layer = np.repeat([0, 1], 90)
    rate, size = rng.random(180), rng.random(180)
    live = np.arange(180) % 10 != 0
    bins = matched_bins(layer, [rate, size], live)
    assert (bins[~live] < 0).all() and len(set(bins[live])) == 18
    for code in set(bins[live]):
        assert len(set(layer[bins == code])) == 1
    moved = permuted_within(bins, rng)
    assert sorted(moved) == list(range(180)) and (bins[moved] == bins).all() and (moved != np.arange(180)).any()
    scores = rng.random(180) + 5 * layer  # the scores of one layer are all above those of the other
    weights = concentration(scores, bins)
    assert weights.high.sum() == pytest.approx(1) == weights.low.sum()
    for code in set(bins[live]):
        assert weights.high[bins == code].sum() == pytest.approx(weights.low[bins == code].sum())
    assert not (weights.high[~live].any() or weights.low[~live].any() or (weights.high * weights.low).any())
    assert scores @ weights.high > scores @ weights.low


def test_a_unit_that_follows_a_pattern_is_found_and_random_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    n, patterns = 400, 30
    table = (rng.random((n, patterns)) < 0.1).astype(np.float32)
    names = [f"{'even' if i % 2 == 0 else 'odd'}: {i}" for i in range(patterns)]
    activations = rng.random((n, 500)).astype(np.float32)
    activations[:, :20] = 0.3 * activations[:, :20] + table[:, 4:5]
    found = followed(activations, table, names, 20, rng)
    assert found.classified[:20].all() and found.classified[20:].mean() < 0.03
    assert found.counted(np.arange(500) < 20) == {"even": 20}
    top = np.argsort(-activations[:, 0], kind="stable")[:20]
    assert found.lift[0] == pytest.approx(table[top, 4].mean() / table[:, 4].mean(), rel=1e-5)
    assert len(followed(activations, table[:, :0], [], 20, rng).lift) == 0


def test_shifts_of_any_units_are_within_the_null() -> None:
    """Shifts put on units at random, 200 times: the null holds what is observed in 95 of 100."""
    rng = np.random.default_rng(0)
    layer = np.repeat([0, 1], 256)
    bins = matched_bins(layer, [rng.random(512), rng.random(512)], np.ones(512, dtype=bool))
    weights, held = concentration(rng.random(512), bins), 0
    for _ in range(200):
        shift = np.full(512, 0.1)
        shift[rng.permutation(512)[:52]] = 1
        null = np.stack([shift[permuted_within(bins, rng)] for _ in range(100)])
        low, high = np.quantile((null @ weights.high) / (null @ weights.low), [0.025, 0.975])
        held += bool(low <= (shift @ weights.high) / (shift @ weights.low) <= high)
    assert held >= 180
