"""The learning rate, the evaluations and the batches, as functions of the step."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rote_bench.spec.model import Recipe, Schedule
from rote_bench.training.curve import Evaluation
from rote_bench.training.schedule import Batches, evaluation_steps, falls_from, last_step, multiplier, settled_at


@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 5))
def test_no_row_is_seen_more_than_once_more_often_than_another(rows: int, size: int, seed: int) -> None:
    order = Batches(torch.arange(rows), size, seed)
    seen: Counter[int] = Counter()
    for step in range(12):
        seen.update(order[step].tolist())
        counts = [seen[row] for row in range(rows)]
        assert sum(counts) == (step + 1) * size
        assert max(counts) - min(counts) <= 1


def test_batches_depend_on_the_step_alone() -> None:
    order = Batches(torch.arange(50), 16, 1)
    forwards = [order[step].tolist() for step in range(10)]
    again = Batches(torch.arange(50), 16, 1)
    assert [again[step].tolist() for step in reversed(range(10))] == forwards[::-1]
    assert Batches(torch.arange(50), 16, 2)[0].tolist() != forwards[0]


def test_the_rate_warms_up_holds_until_the_event_and_anneals() -> None:
    recipe = Recipe(max_steps=100, schedule=Schedule(warmup=10, hold_until=0.9, drop=0.5, anneal=20, final=0.1))
    assert multiplier(recipe, 5, None) == 0.5 and multiplier(recipe, 60, None) == 1.0
    assert last_step(recipe, None) == 100 and last_step(recipe, 40) == 60 and last_step(recipe, 95) == 100
    assert multiplier(recipe, 40, 40) == 1.0
    assert multiplier(recipe, 50, 40) == pytest.approx(0.3)
    assert multiplier(recipe, 60, 40) == pytest.approx(0.1)
    assert multiplier(recipe, 100, None) == pytest.approx(0.1)
    curve = [
        Evaluation(step=s, examples_seen=s, epoch=0, seconds=0, loss=1, lr=1, selection_accuracy=a)
        for s, a in ((5, 0.2), (10, 0.95), (15, 0.5))
    ]
    assert settled_at(curve, recipe.schedule) == 10
    assert settled_at(curve[:1], recipe.schedule) is None


def rates(recipe: Recipe, reached: int | None, given: int | None) -> list[float]:
    """The part of the full rate at every step, as the loop goes: it learns of the event when it comes."""
    out: list[float] = []
    settled, step = given, 0
    while step < last_step(recipe, settled):
        step += 1
        out.append(multiplier(recipe, step, settled))
        if given is None and reached is not None and step >= reached:
            settled = reached
    return out


@given(st.integers(0, 30), st.integers(1, 40), st.integers(0, 60), st.none() | st.integers(1, 200))
def test_a_cell_that_takes_over_its_twins_step_has_its_rate_at_every_step(
    warmup: int, anneal: int, more: int, reached: int | None
) -> None:
    """Whenever the twin settles, if ever, and both are finished: they end at the lowest rate."""
    recipe = Recipe(max_steps=warmup + anneal + more, schedule=Schedule(warmup=warmup, anneal=anneal, final=0.01))
    step = falls_from(recipe, reached)
    twin, cell = rates(recipe, reached, None), rates(recipe, None, step)
    assert cell == twin and len(twin) == step + anneal == last_step(recipe, reached)
    assert twin[-1] == pytest.approx(0.01)
    assert settled_at([], recipe.schedule, step) == step


@given(st.integers(1, 100), st.integers(1, 3000))
def test_evaluations_are_dense_at_first_and_never_further_apart_than_asked(every: int, last: int) -> None:
    steps = sorted(evaluation_steps(every, last))
    assert steps[0] == 1 and steps[-1] <= last
    assert set(range(every, last + 1, every)) <= set(steps)
    assert all(b - a <= every for a, b in itertools.pairwise(steps))
    assert last - steps[-1] < every
