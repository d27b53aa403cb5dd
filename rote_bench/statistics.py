"""Intervals for everything that is reported: proportions, bootstraps over clusters, aggregation over seeds."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

RESAMPLES = 1000
LEVEL = 0.95
ONE = "one example shows no spread"


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, or the reason why there is none.

    Attributes:
        value: None when it could not be measured; ``reason_if_null`` then says why.
        ci_low, ci_high: bounds of the interval, None when there is no interval.
        ci_method: how the interval was made.
        n: examples, or cells, behind the number.
        reason_if_no_interval: why a value comes without one, where its measure does not say so of all.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    ci_method: str | None
    n: int
    reason_if_null: str | None = None
    reason_if_no_interval: str | None = None

    def __post_init__(self) -> None:
        for number in (self.value, self.ci_low, self.ci_high):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{number} is not a number to report; give None and a reason")
        if self.value is None and not self.reason_if_null:
            raise ValueError("a missing value needs its reason")

    @classmethod
    def missing(cls, reason: str, n: int = 0) -> Estimate:
        """No value, and why."""
        return cls(None, None, None, None, n, reason)


def generator(seed: int, purpose: str) -> np.random.Generator:
    """A generator of its own for each purpose, the same whenever it is made again."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode())])


def wilson(successes: int, n: int, level: float = LEVEL) -> Estimate:
    """A proportion with Wilson's score interval (Wilson, 1927), for independent examples."""
    if n == 0:
        return Estimate.missing("no examples")
    low, high = _wilson_bounds(successes / n, n, level)
    return Estimate(successes / n, low, high, "Wilson score", n)


def _wilson_bounds(p: float, n: float, level: float) -> tuple[float, float]:
    from statistics import NormalDist

    z = NormalDist().inv_cdf(0.5 + level / 2)
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, min(p, center - half)), min(1.0, max(p, center + half))


def cluster_codes(groups: Sequence[str]) -> NDArray[np.int64]:
    """(n,) the cluster of each example, numbered by first appearance."""
    codes: dict[str, int] = {}
    return np.array([codes.setdefault(group, len(codes)) for group in groups], dtype=np.int64)


def clustered(clusters: ArrayLike) -> bool:
    """Whether there are clusters to resample: one for all, which is also what a task without groups has, tells nothing
    of how the numbers spread, and its examples then count as independent."""
    return len(np.unique(np.asarray(clusters))) > 1


def bootstrap_method(*clusters: ArrayLike) -> str:
    """What ``resampled_means`` resamples, in the words of ``Estimate.ci_method``."""
    return "cluster bootstrap" if all(clustered(each) for each in clusters) else "bootstrap over examples"


def cluster_weights(
    clusters: ArrayLike, rng: np.random.Generator, n_resamples: int = RESAMPLES
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Weights for resampling whole clusters with replacement; where all are one cluster, examples.

    Args:
        clusters: (n,) the cluster of each example, any integers.

    Returns:
        (n,) the position of each example's cluster, and (n_resamples, clusters) how often each resample draws each.
    """
    given = np.asarray(clusters)
    _, codes = np.unique(given if clustered(given) else np.arange(len(given)), return_inverse=True)
    count = int(codes.max()) + 1
    weights = rng.multinomial(count, np.full(count, 1 / count), size=n_resamples).astype(float)
    return codes, weights


def resampled_means(
    values: ArrayLike, clusters: ArrayLike, rng: np.random.Generator, n_resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """Bootstrap means over clusters: (n_resamples, ...) from values (n, ...).

    Each resample draws clusters with replacement and averages all their examples (Davison and Hinkley, 1997, 3.8).
    """
    data = np.asarray(values, dtype=float)
    codes, weights = cluster_weights(clusters, rng, n_resamples)
    flat = data.reshape(len(data), -1)
    sums = np.zeros((weights.shape[1], flat.shape[1]))
    np.add.at(sums, codes, flat)
    sizes = np.bincount(codes, minlength=weights.shape[1]).astype(float)
    means = (weights @ sums) / (weights @ sizes)[:, None]
    shaped: NDArray[np.float64] = means.reshape(n_resamples, *data.shape[1:])
    return shaped


def interval(draws: ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval of bootstrap draws (Efron, 1979)."""
    low, high = np.quantile(np.asarray(draws, dtype=float), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def quotient(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """``a / b``, and not a number where b is zero: a resample that ``from_draws`` leaves out."""
    top, bottom = np.broadcast_arrays(np.asarray(a, dtype=float), np.asarray(b, dtype=float))
    out: NDArray[np.float64] = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0)
    return out


def from_draws(value: ArrayLike, draws: ArrayLike, method: str, n: int) -> Estimate:
    """A value with the interval of its bootstrap draws; those in which it is not defined are left out."""
    number, array = float(np.asarray(value)), np.asarray(draws, dtype=float)
    array = array[np.isfinite(array)]
    if not math.isfinite(number) or len(array) == 0:
        return Estimate.missing("the statistic is not defined on these examples", n)
    low, high = interval(array)
    return Estimate(number, low, high, method, n)


def proportion(hits: ArrayLike, clusters: ArrayLike, rng: np.random.Generator) -> Estimate:
    """The share of hits with an interval that respects clusters.

    The cluster bootstrap says nothing at 0 or 1, where no resample differs and no clustering shows, nor where all
    examples are one cluster; there Wilson's interval over examples is used.
    """
    data = np.asarray(hits, dtype=float)
    n = len(data)
    if n == 0:
        return Estimate.missing("no examples")
    value = float(data.mean())
    if value in (0.0, 1.0) or not clustered(clusters):
        return wilson(round(value * n), n)
    low, high = interval(resampled_means(data, clusters, rng))
    return Estimate(value, low, high, "cluster bootstrap", n)


def difference(
    first: ArrayLike, first_clusters: ArrayLike, second: ArrayLike, second_clusters: ArrayLike, rng: np.random.Generator
) -> Estimate:
    """Mean of ``first`` minus mean of ``second``, two independent groups of examples, by cluster bootstrap."""
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if len(a) == 0 or len(b) == 0:
        return Estimate.missing("no examples")
    value, n = float(a.mean() - b.mean()), len(a) + len(b)
    if min(len(a), len(b)) < 2:
        return Estimate(value, None, None, None, n, reason_if_no_interval=ONE)
    low, high = interval(resampled_means(a, first_clusters, rng) - resampled_means(b, second_clusters, rng))
    return Estimate(value, low, high, bootstrap_method(first_clusters, second_clusters), n)


def bootstrap(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    values: ArrayLike,
    clusters: ArrayLike,
    rng: np.random.Generator,
) -> Estimate:
    """A smooth function of several means, with a percentile interval.

    Args:
        statistic: maps means (..., k) to values (...).
        values: (n, k) whose column means the statistic takes.
    """
    data = np.asarray(values, dtype=float)
    if len(data) == 0:
        return Estimate.missing("no examples")
    value = statistic(data.mean(0))
    if len(data) == 1 and np.isfinite(value):
        return Estimate(float(value), None, None, None, 1, reason_if_no_interval=ONE)
    return from_draws(value, statistic(resampled_means(data, clusters, rng)), bootstrap_method(clusters), len(data))


def interquartile_mean(values: ArrayLike) -> NDArray[np.float64]:
    """The mean of the middle half of the last axis, ties in rank split by weight (Agarwal et al., 2021)."""
    data = np.sort(np.asarray(values, dtype=float), axis=-1)
    n = data.shape[-1]
    edges = np.arange(n + 1) / n
    weight = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0, None)
    mean: NDArray[np.float64] = np.asarray((data * weight).sum(-1) / weight.sum())
    return mean


def across_seeds(values: Sequence[float], rng: np.random.Generator) -> Estimate:
    """The interquartile mean over seeds with a bootstrap interval over seeds (Agarwal et al., 2021)."""
    if not values:
        return Estimate.missing("no seeds")
    value = float(interquartile_mean(values))
    if len(values) < 2:
        return Estimate(value, None, None, None, 1)
    data = np.asarray(values, dtype=float)
    rows = rng.integers(0, len(data), size=(RESAMPLES, len(data)))
    low, high = interval(interquartile_mean(data[rows]))
    return Estimate(value, low, high, "bootstrap over seeds", len(values))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values by Holm's step-down procedure (Holm, 1979), in the given order."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


def paired_differences(differences: ArrayLike, rng: np.random.Generator) -> list[Estimate]:
    """Means of differences over pairs, such as seeds: one for each row of (rows, pairs), with intervals over pairs."""
    table = np.asarray(differences, dtype=float)
    n = table.shape[1]
    if n == 0:
        return [Estimate.missing("no pairs") for _ in table]
    if n < 2:
        return [Estimate(float(row[0]), None, None, None, 1) for row in table]
    drawn = rng.integers(0, n, size=(RESAMPLES, n))
    out = []
    for row in table:
        low, high = interval(row[drawn].mean(1))
        out.append(Estimate(float(row.mean()), low, high, "bootstrap over pairs", n))
    return out


EXACT_PAIRS = 12  # up to which all 2^n choices of signs are tried
RANDOM_SIGNS = 10_000


def sign_flip(differences: ArrayLike, rng: np.random.Generator) -> NDArray[np.float64]:
    """Two-sided p-values of paired differences (..., n) by flipping signs (Fisher, 1935; Pitman, 1937).

    If two models do not differ, the difference of a pair is as likely as its negative; p is the share of all choices
    of signs whose mean is at least as far from 0 as the observed one. Nothing else is assumed, so p is valid at any
    number of pairs, but it cannot fall below ``2 / 2**n``: 0.25 with 3 pairs, 0.0625 with 5, 0.03125 with 6. Beyond 12
    pairs, random signs stand for all, the observed ones counted among them (Phipson and Smyth, 2010).
    """
    data = np.asarray(differences, dtype=float)
    n = data.shape[-1]
    if n == 0:
        raise ValueError("no pairs")
    if n <= EXACT_PAIRS:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = np.vstack([np.ones(n), rng.choice([-1.0, 1.0], size=(RANDOM_SIGNS, n))])
    flat = data.reshape(-1, n)
    observed = np.abs(flat.sum(-1))
    # Sums that are equal but for rounding count as equal, or p would depend on the order of the pairs.
    near = 1e-9 * np.abs(flat).sum(-1)
    p = np.array([(np.abs(signs @ row) >= o - e).mean() for row, o, e in zip(flat, observed, near, strict=True)])
    shaped: NDArray[np.float64] = p.reshape(data.shape[:-1])
    return shaped
