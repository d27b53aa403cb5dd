"""How often every interval and test in use is right, by simulation.

    python benchmarks/coverage.py [--repeats 2000]

Prints the table of ``docs/statistics.md``: one line for each interval and setting, with the scenario in which it does
worst. The tests call the same scenarios with fewer repeats.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from rote_bench.contrasts import across_seeds, family, permutation, rank_intervals, welch
from rote_bench.statistics import (
    Estimate,
    difference,
    from_draws,
    generator,
    mean,
    proportion,
    quotient,
    resampled_means,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

Rng = np.random.Generator
ENOUGH, ENOUGH_AT_THE_EDGE = 0.92, 0.90
# Of a gamma distribution that is skewed by 1 or by 2; t is not made for the latter, which is shown all the same.
SHAPES = {"normal": ENOUGH, "skewed": ENOUGH, "very skewed": 0.0}
SD = 0.07  # of a seed's noise transfer


@dataclass(frozen=True)
class Scenario:
    """Something that is tried many times.

    Attributes:
        group: what one line of the table is about.
        name: its setting.
        right: one trial, true where the interval holds the truth or the test errs not.
        least: the share of trials that have to be right.
    """

    group: str
    name: str
    right: Callable[[Rng], bool]
    least: float = ENOUGH

    def share(self, repeats: int, seed: int = 0) -> float:
        """The share of trials that are right."""
        rng = generator(seed, f"{self.group}, {self.name}")
        return sum(self.right(rng) for _ in range(repeats)) / repeats


@dataclass(frozen=True)
class Clusters:
    """Examples in clusters, of equal sizes or the largest five times the smallest.

    Attributes:
        correlation: within clusters; the rate of each is drawn from a beta distribution.
    """

    count: int
    equal: bool
    correlation: float

    def codes(self, n: int) -> NDArray[np.int64]:
        """(n,) the cluster of each example."""
        weights = np.ones(self.count) if self.equal else np.linspace(1, 5, self.count)
        edges = np.cumsum(weights)[:-1] / weights.sum() * n
        return np.searchsorted(edges, np.arange(n), side="right")

    def hits(self, p: float, n: int, rng: Rng) -> NDArray[np.bool_]:
        """(n,) true with probability p, alike within clusters."""
        rates = np.full(self.count, p)
        if self.correlation and 0 < p < 1:
            spread = 1 / self.correlation - 1
            rates = rng.beta(p * spread, (1 - p) * spread, self.count)
        found: NDArray[np.bool_] = rng.random(n) < rates[self.codes(n)]
        return found

    def __str__(self) -> str:
        return f"{self.count} {'equal' if self.equal else 'unequal'} clusters, correlation {self.correlation:g}"


CLUSTERS = [Clusters(*each) for each in itertools.product((5, 12), (True, False), (0.0, 0.01, 0.05))]


def holds(estimate: Estimate, truth: float) -> bool:
    """Whether an interval is there and holds the truth."""
    low, high = estimate.ci_low, estimate.ci_high
    return low is not None and high is not None and low - 1e-9 <= truth <= high + 1e-9


def within_cells() -> Iterator[Scenario]:
    """Intervals over examples."""
    for n, c, p in itertools.product((200, 1000, 1612), CLUSTERS, (0.5, 0.8, 0.99, 0.999)):
        least = ENOUGH_AT_THE_EDGE if p >= 0.99 and c.correlation == 0.05 else ENOUGH
        yield Scenario(f"proportion, p = {p:g}", f"n = {n}, {c}", partial(_proportion, c, p, n), least)
    for c in CLUSTERS:
        least = ENOUGH_AT_THE_EDGE if c.correlation == 0.05 else ENOUGH
        for p, q in ((0.9, 0.05), (0.99, 0.02), (0.99, 0.95), (0.5, 0.5)):
            yield Scenario("difference of two proportions", f"{p:g} and {q:g}, {c}", partial(_apart, c, p, q), least)
        yield Scenario("mean of logits", str(c), partial(_logits, c))
        for p, kept in ((0.95, 0.5), (0.95, 0.9), (0.97, 0.99), (0.99, 0.01)):
            yield Scenario("ratio", f"{kept:g} of {p:g}, {c}", partial(_kept, c, p, kept), least)
        for held, noisy in ((0.9, 0.5), (0.98, 0.02), (0.5, 0.5)):
            name = f"{held:g} and {noisy:g} kept, {c}"
            yield Scenario("area between two curves", name, partial(_area, c, held, noisy))


def _proportion(clusters: Clusters, p: float, n: int, rng: Rng) -> bool:
    return holds(proportion(clusters.hits(p, n, rng), clusters.codes(n)), p)


def _apart(c: Clusters, p: float, q: float, rng: Rng) -> bool:
    first, second = c.hits(p, 1000, rng), c.hits(q, 1612, rng)
    return holds(difference(first, c.codes(1000), second, c.codes(1612)), p - q)


def _logits(clusters: Clusters, rng: Rng) -> bool:
    codes = clusters.codes(256)
    shared = rng.normal(0, clusters.correlation**0.5, clusters.count)[codes]
    return holds(mean(shared + rng.normal(0, (1 - clusters.correlation) ** 0.5, 256), codes), 0.0)


def _columns(clusters: Clusters, p: float, kept: float, layers: int, rng: Rng) -> NDArray[np.float64]:
    """(256, 1 + layers) right when intact, and right when intact and spared by a patch of each layer."""
    intact = clusters.hits(p, 256, rng)
    spared = [intact & clusters.hits(kept, 256, rng) for _ in range(layers)]
    return np.stack([intact, *spared], 1).astype(float)


def _ratio(means: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(quotient(means[..., 1:], means[..., :1]).mean(-1))


def _kept(clusters: Clusters, p: float, kept: float, rng: Rng) -> bool:
    table = _columns(clusters, p, kept, 1, rng)
    draws = _ratio(resampled_means(table, clusters.codes(256), rng))
    return holds(from_draws(_ratio(table.mean(0)), draws, "", 256), kept)


def _area(clusters: Clusters, held: float, noisy: float, rng: Rng) -> bool:
    tables = [_columns(clusters, 0.96, kept, 3, rng) for kept in (held, noisy)]
    v, m = (_ratio(resampled_means(table, clusters.codes(256), rng)) for table in tables)
    return holds(from_draws(_ratio(tables[0].mean(0)) - _ratio(tables[1].mean(0)), v - m, "", 512), held - noisy)


def seeds(shape: str, n: int, rng: Rng, center: float = 0.1, sd: float = SD) -> list[float]:
    """Values of n seeds: normal, or skewed to the right by 1 as a gamma distribution of shape 4, or by 2."""
    power = {"skewed": 4.0, "very skewed": 1.0}.get(shape)
    drawn = rng.normal(size=n) if power is None else (rng.gamma(power, size=n) - power) / power**0.5
    return list(center + sd * drawn)


def over_seeds() -> Iterator[Scenario]:
    """Intervals over seeds, and tests of two models and of many."""
    for (shape, least), n in itertools.product(SHAPES.items(), (3, 5, 10)):
        yield Scenario(f"mean over {shape} seeds", f"{n} seeds", partial(_mean, shape, n), least)
        for ratio in (1.0, 2.0):
            name = f"{n} seeds, spreads 1 : {ratio:g}"
            yield Scenario(f"difference of two models, {shape} seeds", name, partial(_models, shape, n, ratio), least)
            yield Scenario(f"permutation test, {shape} seeds", name, partial(_equal, shape, n, ratio), least)
    groups = {"equal": [0.1] * 9, "in two groups": [0.1] * 5 + [0.4] * 4}
    spreads = {"equal": [SD] * 9, "unequal": [0.03] * 4 + [0.07] * 4 + [0.14]}
    for n, (where, centers), (how, sds) in itertools.product((3, 5, 10), groups.items(), spreads.items()):
        name = f"{where}, {n} seeds, {how} spreads"
        yield Scenario("ranks of nine models", name, partial(_ranks, n, centers, sds))
    for n in (3, 5, 10):
        yield Scenario("`benign` at its margin", f"{n} seeds", partial(_undecided, n))


def _mean(shape: str, n: int, rng: Rng) -> bool:
    return holds(across_seeds(seeds(shape, n, rng)), 0.1)


def _models(shape: str, n: int, ratio: float, rng: Rng) -> bool:
    return holds(welch(seeds(shape, n, rng), seeds(shape, n, rng, sd=ratio * SD)), 0.0)


def _equal(shape: str, n: int, ratio: float, rng: Rng) -> bool:
    return permutation(seeds(shape, n, rng), seeds(shape, n, rng, sd=ratio * SD), rng) > 0.05


def _ranks(n: int, centers: list[float], sds: list[float], rng: Rng) -> bool:
    """Whether the rank intervals of all models hold all ranks that they share with their equals."""
    groups = [seeds("normal", n, rng, center, sd) for center, sd in zip(centers, sds, strict=True)]
    found = rank_intervals([float(np.mean(group)) for group in groups], family(groups))
    truth = [(1 + sum(c < center for c in centers), sum(c <= center for c in centers)) for center in centers]
    return all(low <= first and last <= high for (low, high), (first, last) in zip(found, truth, strict=True))


def _undecided(n: int, rng: Rng) -> bool:
    found = across_seeds(seeds("normal", n, rng))
    assert found.ci_low is not None and found.ci_high is not None
    return not (found.ci_high < 0.1 or found.ci_low > 0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000, help="of each scenario (default: 2000)")
    given = parser.parse_args()
    print("| | scenarios | mean | least | where |\n|---|---|---|---|---|")
    every = itertools.chain(within_cells(), over_seeds())
    for group, members in itertools.groupby(sorted(every, key=lambda s: s.group), key=lambda s: s.group):
        shares = [(one.share(given.repeats), one.name) for one in members]
        share, name = min(shares)
        average = sum(share for share, _ in shares) / len(shares)
        print(f"| {group} | {len(shares)} | {average:.1%} | {share:.1%} | {name} |", flush=True)


if __name__ == "__main__":
    main()
