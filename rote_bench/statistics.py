"""Intervals within a cell, where examples come in clusters: proportions, their differences, functions of means.

What several seeds or models need stands in ``contrasts``.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

RESAMPLES = 1000
LEVEL = 0.95
Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
SUPPOSED = 0.05  # correlation within clusters where all are perfect and none can be seen
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


def wilson(successes: int, n: int) -> Estimate:
    """A proportion with Wilson's score interval (Wilson, 1927), for independent examples."""
    if n == 0:
        return Estimate.missing("no examples")
    low, high = _wilson_bounds(successes / n, n)
    return Estimate(successes / n, low, high, "Wilson score", n)


def _wilson_bounds(p: float, n: float) -> tuple[float, float]:
    # Not scipy's: n need not be whole here.
    center = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
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
    over = "clusters" if all(clustered(each) for each in clusters) else "examples"
    return f"parametric bootstrap over {over}"


def resampled_means(
    values: ArrayLike, clusters: ArrayLike, rng: np.random.Generator, n_resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """What the means might have been with other clusters: draws (n_resamples, ...) from values (n, ...).

    A parametric bootstrap (Davison and Hinkley, 1997, 2.2) for functions of several means: draws from a multivariate t
    whose covariance is the cluster jackknife's and whose degrees of freedom are one less than the clusters. Columns of
    hits and misses are drawn on the logit scale and with the floors of ``proportion``; all others on their own. Drawing
    clusters with replacement, which this replaces, gives intervals that are too short with few of them.

    Args:
        clusters: (n,) the cluster of each example, any integers; where all are of one, each example is its own.
    """
    from scipy.special import expit

    data = np.asarray(values, dtype=float)
    flat, n = data.reshape(len(data), -1), len(data)
    codes, sizes = _sizes(clusters)
    if len(sizes) == 1:
        return np.repeat(data.mean(0)[None], n_resamples, axis=0)
    count = len(sizes)
    sums = np.zeros((count, flat.shape[1]))
    np.add.at(sums, codes, flat)
    total, share = sums.sum(0), ((flat == 0) | (flat == 1)).all(0)
    hits = np.where(share, total, 0)
    left, sizes_left = sums.sum(0) - sums, (n - sizes)[:, None]
    at = np.where(share, _logit(hits, n), total / n)
    bends = np.where(share, _logit(np.where(share, left, 0), sizes_left), left / sizes_left) - at
    # The binomial error is no estimate and has no t: as much narrower, it reaches as far as z does.
    errors = _jackknife_error(bends)
    least = np.sqrt(1 / (hits + 0.5) + 1 / (n - hits + 0.5)) * Z / t_quantile(count - 1)
    bends *= np.where(share & (errors < least), least / np.where(errors > 0, errors, 1), 1)
    normal = rng.standard_normal((n_resamples, count)) * math.sqrt((count - 1) / count)
    draws = at + normal @ bends / np.sqrt(rng.chisquare(count - 1, (n_resamples, 1)) / (count - 1))
    means = np.where(share, expit(draws), draws)
    # Columns without a miss or a hit, or equal to another, show no spread of their own: what could be unseen is drawn.
    unseen = _wilson_bounds(0.0, n / _design_effect(sizes))[1] / Z
    for column in np.flatnonzero(share):
        same = np.flatnonzero((flat[:, :column] == flat[:, column : column + 1]).all(0))
        if total[column] in (0, n) or len(same):
            like = means[:, same[0]] if len(same) else total[column] / n
            means[:, column] = np.clip(like + unseen * rng.standard_normal(n_resamples), 0, 1)
    return np.asarray(means.reshape(n_resamples, *data.shape[1:]))


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


def t_quantile(df: float) -> float:
    """How many standard errors a two-sided 95 % interval reaches with so many degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.5 + LEVEL / 2))


def proportion(hits: ArrayLike, clusters: ArrayLike) -> Estimate:
    """The share of hits with an interval that respects clusters.

    On the logit scale, with half a hit and half a miss added so that it exists (Haldane, 1956; Anscombe, 1956): each
    cluster left out in turn gives the standard error (the jackknife, or CR3: Bell and McCaffrey, 2002; MacKinnon,
    Nielsen and Webb, 2023), and t with one degree of freedom less than there are clusters its multiple. Clusters may
    widen the binomial interval and never narrow it. Where every cluster is perfect none of this shows, and Wilson's
    interval stands, n divided by the design effect at a supposed correlation of 0.05 within clusters.

    Args:
        hits: (n,) true or false.
        clusters: (n,) the cluster of each example, any integers.
    """
    from scipy.special import expit

    data = np.asarray(hits, dtype=float)
    n, total = len(data), float(data.sum())
    if n == 0 or not clustered(clusters):
        return wilson(round(total), n)
    codes, sizes = _sizes(clusters)
    if total in (0.0, n):
        low, high = _wilson_bounds(total / n, n / _design_effect(sizes))
        return Estimate(total / n, low, high, f"Wilson score, n over the design effect at correlation {SUPPOSED:g}", n)
    left = total - np.bincount(codes, data)
    at, without = _logit(total, n), _logit(left, n - sizes)
    reach = t_quantile(len(sizes) - 1) * float(_jackknife_error(without - at))
    low, high = float(expit(at - reach)), float(expit(at + reach))
    least, most = _wilson_bounds(total / n, n)
    return Estimate(total / n, min(low, least), max(high, most), "cluster jackknife on the logit scale", n)


def weighted_proportion(hits: ArrayLike, weights: ArrayLike, clusters: ArrayLike) -> Estimate:
    """The share that hits have of weights, such as of pairings that an example wins of those that it takes part in.

    As ``proportion``, which it equals where every weight is 1: an example counts as one trial of the mean weight, so
    that many pairings of one example are no more than one observation. Examples without weight are left out.

    Args:
        hits: (n,) from 0 to the weight.
        weights: (n,) at least 0.
        clusters: (n,) the cluster of each example, any integers.
    """
    from scipy.special import expit

    whole = np.asarray(weights, dtype=float)
    kept = whole > 0
    whole, part, groups = whole[kept], np.asarray(hits, dtype=float)[kept], np.asarray(clusters)[kept]
    n = len(whole)
    if n == 0:
        return Estimate.missing("no examples")
    value = float(np.clip(part.sum() / whole.sum(), 0, 1))
    codes, sizes = _sizes(groups)
    if part.sum() <= 0 or (whole - part).sum() <= 0 or len(sizes) == 1:
        low, high = _wilson_bounds(value, n / (_design_effect(sizes) if len(sizes) > 1 else 1))
        return Estimate(value, low, high, f"Wilson score, n over the design effect at correlation {SUPPOSED:g}", n)
    scale = n / whole.sum()
    own, weight = np.bincount(codes, part) * scale, np.bincount(codes, whole) * scale
    at = _logit(own.sum(), n)
    reach = t_quantile(len(sizes) - 1) * float(_jackknife_error(_logit(own.sum() - own, n - weight) - at))
    low, high = float(expit(at - reach)), float(expit(at + reach))
    least, most = _wilson_bounds(value, n)
    over = "cluster" if clustered(groups) else "example"
    return Estimate(value, min(low, least), max(high, most), f"{over} jackknife on the logit scale", n)


def design_effect(clusters: ArrayLike) -> float:
    """How many examples count as one where hits and misses were not kept, at a supposed correlation of 0.05 within
    clusters; 1 where there are none."""
    if not len(np.asarray(clusters)) or not clustered(clusters):
        return 1.0
    return _design_effect(_sizes(clusters)[1])


def unseen_proportion(share: float, n: int, effect: float) -> Estimate:
    """A share of n examples of which nothing else is known, with Wilson's interval over the design effect."""
    if n == 0:
        return Estimate.missing("no examples")
    low, high = _wilson_bounds(share, n / effect)
    said = "Wilson score" if effect == 1 else f"Wilson score, n over the design effect at correlation {SUPPOSED:g}"
    return Estimate(share, low, high, said, n)


def _sizes(clusters: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(n,) the position of each example's cluster, and (clusters,) how many examples it has; one cluster for each
    example where there are none."""
    given = np.asarray(clusters)
    _, codes = np.unique(given if clustered(given) else np.arange(len(given)), return_inverse=True)
    return codes, np.bincount(codes).astype(float)


def _logit(hits: ArrayLike, n: ArrayLike) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.log((np.asarray(hits) + 0.5) / (np.asarray(n) - np.asarray(hits) + 0.5))
    return found


def _jackknife_error(bends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard errors (...) from how far a statistic moves (clusters, ...) when each cluster is left out."""
    count = len(bends)
    errors: NDArray[np.float64] = np.sqrt((count - 1) / count * (bends**2).sum(0))
    return errors


def _design_effect(sizes: NDArray[np.float64]) -> float:
    """How many examples count as one at the supposed correlation within clusters, by their sizes (Kish, 1965)."""
    return float(1 + ((sizes**2).sum() / sizes.sum() - 1) * SUPPOSED)


def difference(first: ArrayLike, first_clusters: ArrayLike, second: ArrayLike, second_clusters: ArrayLike) -> Estimate:
    """Share of hits in ``first`` minus that in ``second``, two independent groups of examples."""
    found = minus(proportion(first, first_clusters), proportion(second, second_clusters))
    if found.value is None:
        return Estimate.missing("no examples")
    assert found.ci_low is not None and found.ci_high is not None
    low, high = max(found.ci_low, -1.0), min(found.ci_high, 1.0)
    return Estimate(found.value, low, high, "Newcombe's, from the intervals of both shares", found.n)


class Known(Protocol):
    """A number with its interval, if it has one: an ``Estimate``, or what a report holds of one."""

    @property
    def value(self) -> float | None: ...
    @property
    def ci_low(self) -> float | None: ...
    @property
    def ci_high(self) -> float | None: ...
    @property
    def n(self) -> int: ...


def minus(a: Known, b: Known) -> Estimate:
    """``a`` minus ``b``, two independent estimates.

    Each end is as far from the difference as the ends of both together (Newcombe, 1998, method 10; for any two
    intervals, Zou and Donner, 2008), so that it never collapses where a share is 0 or 1.
    """
    n = a.n + b.n
    if a.value is None or b.value is None:
        return Estimate.missing("not known on both sides", n)
    value = a.value - b.value
    if a.ci_low is None or a.ci_high is None or b.ci_low is None or b.ci_high is None:
        return Estimate(value, None, None, None, n, reason_if_no_interval="one side has no interval")
    low = value - math.hypot(a.value - a.ci_low, b.ci_high - b.value)
    high = value + math.hypot(a.ci_high - a.value, b.value - b.ci_low)
    return Estimate(value, low, high, "Newcombe's, from both intervals", n)


def times(found: Estimate, factor: float) -> Estimate:
    """An estimate and its interval by a factor above 0."""
    value, low, high = (
        None if number is None else number * factor for number in (found.value, found.ci_low, found.ci_high)
    )
    return replace(found, value=value, ci_low=low, ci_high=high)


def mean(values: ArrayLike, clusters: ArrayLike) -> Estimate:
    """The mean of any numbers (n,), such as logits: t times the cluster jackknife's error on either side."""
    data = np.asarray(values, dtype=float)
    n = len(data)
    if n == 0:
        return Estimate.missing("no examples")
    value, (codes, sizes) = float(data.mean()), _sizes(clusters)
    if len(sizes) == 1:
        return Estimate(value, None, None, None, n, reason_if_no_interval=ONE)
    without = (data.sum() - np.bincount(codes, data)) / (n - sizes)
    reach = t_quantile(len(sizes) - 1) * float(_jackknife_error(without - value))
    over = "clusters" if clustered(clusters) else "examples"
    return Estimate(value, value - reach, value + reach, f"jackknife over {over}", n)


def with_draws(found: Estimate, draws: ArrayLike) -> Estimate:
    """An estimate that hangs on a drawn control, with an interval that holds what another draw would have given too.

    The draws' part reaches as far as the prediction interval of a further draw (t times their standard deviation times
    the root of 1 + 1/k), and is added to the examples' part in squares: the two are independent. So what is itself no
    more than such a draw seems to differ from them in one case of twenty.

    Args:
        found: with the interval of the examples.
        draws: (k,) the same number under each draw of the control, k at least 2.
    """
    each = np.asarray(draws, dtype=float)
    k = len(each)
    if found.value is None or found.ci_low is None or found.ci_high is None:
        return found
    if k < 2:
        why = "one draw of the control shows no spread"
        return replace(found, ci_low=None, ci_high=None, ci_method=None, reason_if_no_interval=why)
    reach = t_quantile(k - 1) * float(each.std(ddof=1)) * math.sqrt(1 + 1 / k)
    low = found.value - math.hypot(found.value - found.ci_low, reach)
    high = found.value + math.hypot(found.ci_high - found.value, reach)
    return replace(found, ci_low=low, ci_high=high, ci_method=f"{found.ci_method}, with {k} draws of the control")


def within(found: Estimate, bounds: tuple[float, float]) -> Estimate:
    """An estimate whose interval ends where its values do, as those that were added in squares may not."""
    if found.ci_low is None or found.ci_high is None:
        return found
    return replace(found, ci_low=max(bounds[0], found.ci_low), ci_high=min(bounds[1], found.ci_high))


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
