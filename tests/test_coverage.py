"""How often intervals and tests are right: a few scenarios always, all of them in the slow tests."""

from __future__ import annotations

import itertools
import math

import pytest

from benchmarks.coverage import Scenario, over_seeds, within_cells

EVERY = [*within_cells(), *over_seeds()]
SOME = [
    "proportion, p = 0.5: n = 1000, 5 unequal clusters, correlation 0.05",
    "proportion, p = 0.99: n = 1612, 12 unequal clusters, correlation 0.05",
    "proportion, p = 0.999: n = 200, 5 equal clusters, correlation 0.01",
    "difference of two proportions: 0.99 and 0.02, 5 unequal clusters, correlation 0.05",
    "ratio: 0.5 of 0.95, 5 equal clusters, correlation 0.05",
    "area between two curves: 0.9 and 0.5 kept, 5 equal clusters, correlation 0.01",
    "mean over normal seeds: 3 seeds",
    "difference of two models, normal seeds: 3 seeds, spreads 1 : 2",
    "permutation test, normal seeds: 5 seeds, spreads 1 : 1",
    "ranks of nine models: equal, 5 seeds, equal spreads",
    "`benign` at its margin: 3 seeds",
]


def enough(one: Scenario, repeats: int) -> None:
    """Right as often as is asked, but for what so few repeats may miss by chance."""
    chance = 3 * math.sqrt(one.least * (1 - one.least) / repeats)
    assert one.share(repeats) >= one.least - chance, one.name


@pytest.mark.parametrize("name", SOME)
def test_intervals_hold_the_truth_often_enough(name: str) -> None:
    (one,) = (s for s in EVERY if f"{s.group}: {s.name}" == name)
    enough(one, 150)


@pytest.mark.slow
@pytest.mark.parametrize("group", sorted({s.group for s in EVERY}))
def test_all_intervals_hold_the_truth_often_enough(group: str) -> None:
    for one in itertools.filterfalse(lambda s: s.group != group, EVERY):
        enough(one, 1000)
