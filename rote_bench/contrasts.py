"""Several seeds and several models: intervals over seeds, tests of two models, ranks of many, what a plan can see.

Seeds are the units here. Models that share a seed share data and initial weights, and yet that does not pair them: over
published cells a difference of two models spread as much as differences of strangers. So none of this is paired.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain, combinations
from typing import TYPE_CHECKING

import numpy as np

from .errors import UserError
from .statistics import Estimate, t_quantile

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

FEWEST = 3  # seeds with which there is an interval, and a verdict
FEW = f"fewer than {FEWEST} seeds"
ALPHA, POWER = 0.05, 0.8
EVERY, DRAWS = (
    200_000,
    10_000,
)  # relabelings: all of them where there are no more (ten seeds and ten), else so many at random
MOST_PLANNED = 3


def across_seeds(values: Sequence[float]) -> Estimate:
    """The mean over seeds with Student's t interval (Student, 1908)."""
    if not values:
        return Estimate.missing("no seeds")
    data = np.asarray(values, dtype=float)
    value, n = float(data.mean()), len(data)
    if n < FEWEST:
        return Estimate(value, None, None, None, n, reason_if_no_interval=FEW)
    half = t_quantile(n - 1) * float(data.std(ddof=1)) / math.sqrt(n)
    return Estimate(value, value - half, value + half, "t over seeds", n)


def welch(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Mean of ``first`` minus mean of ``second``, two groups of seeds, with Welch's t interval (Welch, 1947)."""
    n = len(first) + len(second)
    if not first or not second:
        return Estimate.missing("no seeds on one side", n)
    value = float(np.mean(first) - np.mean(second))
    if min(len(first), len(second)) < FEWEST:
        return Estimate(value, None, None, None, n, reason_if_no_interval=f"{FEW} on one side")
    squares = [float(np.var(side, ddof=1)) / len(side) for side in (first, second)]
    half, total = 0.0, sum(squares)
    if total > 0:
        df = total**2 / sum(s**2 / (len(side) - 1) for s, side in zip(squares, (first, second), strict=True))
        half = t_quantile(df) * math.sqrt(total)
    return Estimate(value, value - half, value + half, "Welch's t over seeds", n)


def permutation(first: Sequence[float], second: Sequence[float], rng: np.random.Generator) -> float:
    """The two-sided p of two groups of seeds, by relabeling them (Pitman, 1937).

    The difference is divided by Welch's standard error, so that the test also holds, for large groups, where the two
    spread unequally (Janssen, 1997). All splits are tried where there are at most 200,000, as for ten seeds and ten;
    beyond, 10,000 random ones stand for all, the observed one counted among them (Phipson and Smyth, 2010).
    """
    data, n = np.array([*first, *second], dtype=float), len(first)
    if not n or n == len(data):
        raise ValueError("no seeds on one side")
    if math.comb(len(data), n) <= EVERY:
        inside = _every_split(len(data), n)
    else:
        drawn = rng.permuted(np.tile(np.arange(len(data)) < n, (DRAWS - 1, 1)), axis=1)
        inside = np.vstack([np.arange(len(data)) < n, drawn])
    found = _studentised(data, inside)
    return float((found >= found[0] * (1 - NEAR)).mean())


@lru_cache(maxsize=2)
def _every_split(seeds: int, n: int) -> NDArray[np.bool_]:
    """(splits, seeds) which are of the first group, the observed split first."""
    splits = math.comb(seeds, n)
    chosen = np.fromiter(chain.from_iterable(combinations(range(seeds), n)), np.intp, splits * n).reshape(splits, n)
    inside = np.zeros((splits, seeds), dtype=bool)
    np.put_along_axis(inside, chosen, True, axis=1)
    return inside


NEAR = 1e-9  # relabelings equal but for rounding count as equal, or p would depend on the order of seeds


def _studentised(data: NDArray[np.float64], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """|Welch's t| of (splits, seeds) which are of the first group; without spread it is 0 or infinite."""
    n = inside[0].sum()
    m = len(data) - n
    centred = data - data.mean()
    sums, squares = inside @ centred, inside @ centred**2
    first, second = sums / n, (centred.sum() - sums) / m
    spread = (squares / n - first**2) / max(n - 1, 1) + ((centred**2).sum() - squares) / m / max(m - 1, 1)
    spread -= second**2 / max(m - 1, 1)
    return _quotient(np.abs(first - second), np.sqrt(np.maximum(spread, 0)), float(np.abs(centred).max()))


def _quotient(gap: NDArray[np.float64], error: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    least = 1e-9 * scale
    gap = np.where(gap <= least, 0.0, gap)
    found: NDArray[np.float64] = gap / np.maximum(error, least if scale else 1.0)
    return found


def smallest_p(n: int, m: int) -> float:
    """The smallest two-sided p that ``permutation`` can give n and m seeds: 0.1 with 3 and 3, 0.029 with 4 and 4."""
    splits = math.comb(n + m, n)
    return (2 if n == m else 1) / splits if splits <= EVERY else 1 / DRAWS


def check_contrasts(planned: Mapping[str, tuple[int, int]]) -> None:
    """Make sure that every planned contrast could come out significant.

    Args:
        planned: name -> seeds of the first and of the second model.

    Raises:
        UserError: when there are more than 3, or the smallest possible p of one cannot pass Holm's correction over all.
    """
    if len(planned) > MOST_PLANNED:
        raise UserError(f"{len(planned)} contrasts are planned; at most {MOST_PLANNED} can be confirmatory")
    for name, p in zip(planned, holm([smallest_p(*seeds) for seeds in planned.values()]), strict=True):
        if p > ALPHA:
            n, m = planned[name]
            raise UserError(
                f"with {n} and {m} seeds p cannot fall below {p:.3g} after correction over {len(planned)} contrasts",
                where=f"contrast {name}",
                hint="plan more seeds or fewer contrasts",
            )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values by Holm's step-down procedure (Holm, 1979), in the given order."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


def family(groups: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """p (models, models) of every two models, each valid for all of them together.

    Welch's t of each pair, with Holm's correction over all pairs. Dealing out the seeds of all models anew and keeping
    the largest t was tried: it keeps the family's level only where all models spread alike, or tells few apart.
    A model with fewer than 3 seeds differs from none.

    Args:
        groups: the seeds' values of each model.
    """
    count = len(groups)
    p = np.ones((count, count))
    tried = [(i, j) for i, j in combinations(range(count), 2) if min(len(groups[i]), len(groups[j])) >= FEWEST]
    if tried:
        from scipy.stats import ttest_ind_from_stats

        i, j = np.array(tried).T
        mean, sd, n = np.array([(np.mean(g), np.std(g, ddof=1) if len(g) > 1 else 0.0, len(g)) for g in groups]).T
        found = ttest_ind_from_stats(mean[i], sd[i], n[i], mean[j], sd[j], n[j], equal_var=False).pvalue
        p[i, j] = p[j, i] = holm(np.nan_to_num(found, nan=1.0).tolist())  # 0 / 0: two that are the same throughout
    return p


def rank_intervals(means: ArrayLike, p: NDArray[np.float64]) -> list[tuple[int, int]]:
    """The lowest and the highest rank that each model may have, the least mean first (as Mogstad et al., 2024).

    1 + the models that are significantly lower, to all but those that are significantly higher.

    Args:
        means: (models,).
        p: of ``family``.
    """
    values = np.asarray(means, dtype=float)
    apart = p <= ALPHA
    lower = (apart & (values[None, :] < values[:, None])).sum(1)
    higher = (apart & (values[None, :] > values[:, None])).sum(1)
    return [(1 + int(low), len(values) - int(high)) for low, high in zip(lower, higher, strict=True)]


def power(sd: float, n: int, m: int, planned: int = 1, alpha: float = ALPHA) -> float | None:
    """The smallest difference of two models that a planned contrast sees in 80 of 100 repetitions.

    By the noncentral t distribution (Cohen, 1988), at Holm's first step, alpha over all planned contrasts; the
    permutation test of normal seeds differs little. None where no p could be small enough.

    Args:
        sd: of a seed's value, in both models.
        n, m: seeds of each.
    """
    if smallest_p(n, m) > alpha / planned:
        return None
    from scipy.optimize import brentq
    from scipy.stats import nct, t

    df, error = n + m - 2, math.sqrt(1 / n + 1 / m)
    critical = t.isf(alpha / planned / 2, df)

    def excess(shift: float) -> float:
        return float(nct.sf(critical, df, shift)) - POWER  # the other side's share is next to nothing here

    return sd * error * float(brentq(excess, 0.0, 2 * critical + 1))
