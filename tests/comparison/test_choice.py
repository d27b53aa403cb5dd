"""The two choices of a tuning, as rules that hold whatever trials come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rote_bench.comparison.choice import (
    NOT_LEARNED,
    NOT_MEMORISED,
    Learned,
    Row,
    first_choice,
    second_choice,
    settle_step,
    standard_error,
)
from rote_bench.comparison.rules import Tuning
from rote_bench.spec.model import Recipe, Schedule

NAMES = ("slow", "middle", "fast", "long")
RECIPE = Recipe(max_steps=1400, schedule=Schedule(warmup=50, anneal=450))
TUNING = Tuning({name: {} for name in NAMES}, (100, 101), 0.05)


def recipes(**anneals: int) -> dict[str, Recipe]:
    return {n: replace(RECIPE, schedule=replace(RECIPE.schedule, anneal=anneals.get(n, 450))) for n in NAMES}


learned = st.builds(
    Learned, st.integers(0, 512), st.just(512), st.one_of(st.none(), st.integers(1, 950), st.integers(1, 950))
)
trials = st.fixed_dictionaries({name: st.lists(learned, min_size=2, max_size=2) for name in NAMES})
anneals = st.fixed_dictionaries({name: st.integers(1, 450) for name in NAMES})


def names(rows: Sequence[Row]) -> list[str]:
    return [row.configuration for row in rows if row.finalist]


@given(trials, anneals, st.integers(1, 3), st.floats(1, 4))
def test_finalists_have_learned_are_near_the_best_and_none_that_is_as_near_is_faster(
    found: dict[str, list[Learned]], lengths: dict[str, int], finalists: int, margin: float
) -> None:
    tuning = replace(TUNING, finalists=finalists, margin=margin)
    rows = first_choice(tuning, recipes(**lengths), found)
    assert [row.configuration for row in rows] == list(NAMES)
    able = [row for row in rows if None not in row.settled]
    assert all((row.settle is None) == (row not in able) for row in rows)
    chosen = [row for row in rows if row.finalist]
    assert (len(chosen) == 0) == (not able) and len(chosen) <= finalists
    for row in able:
        assert row.settle is not None and row.steps is not None
        slowest = max(step for step in row.settled if step is not None)
        assert row.steps == row.settle + lengths[row.configuration] <= RECIPE.max_steps
        assert row.settle >= min(slowest, RECIPE.max_steps - lengths[row.configuration])
    if able:
        best = max(row.selection_accuracy for row in able)
        error = max(row.standard_error for row in able if row.selection_accuracy == best)
        assert all(best - row.selection_accuracy <= error + 1e-12 for row in chosen)
        left = [row for row in able if row.selection_accuracy == best and not row.finalist]
        assert all((row.steps or 0) >= max(each.steps or 0 for each in chosen) for row in left)


@given(trials)
def test_neither_the_order_of_seeds_nor_one_that_did_not_learn_moves_the_first_choice(
    found: dict[str, list[Learned]],
) -> None:
    chosen = names(first_choice(TUNING, recipes(), found))
    assert names(first_choice(TUNING, recipes(), {name: each[::-1] for name, each in found.items()})) == chosen
    left = {name: found[name] for name in NAMES if None not in [t.settled for t in found[name]]}
    if left:
        fewer = replace(TUNING, configurations={name: {} for name in left})
        assert names(first_choice(fewer, recipes(), left)) == chosen


@given(st.integers(0, 2000), st.integers(1, 2000))
def test_no_trial_is_so_perfect_that_it_has_no_error_and_more_questions_have_less(right: int, wrong: int) -> None:
    for trial in (Learned(right, right + wrong, None), Learned(wrong, wrong, None)):
        assert 0 < standard_error([trial] * 2) < standard_error([trial]) <= 0.5
    assert standard_error([Learned(0, 0, None)]) == 0.25  # nothing is known


@given(st.integers(30, 5000))
def test_one_wrong_answer_tells_no_configuration_from_a_perfect_one_and_two_do(asked: int) -> None:
    error = standard_error([Learned(asked, asked, 100)] * 2)
    assert 0.5 / asked < error < 1 / asked  # a mean over two seeds


def test_the_error_over_seeds_counts_where_it_is_larger() -> None:
    apart = [Learned(400, 512, 100), Learned(512, 512, 100)]
    assert standard_error(apart) == pytest.approx((112 / 512) / 2)


def test_by_hand_the_fastest_of_those_near_the_best_are_chosen_and_ties_go_by_what_learned_earlier() -> None:
    found = {
        "slow": [Learned(508, 512, 400), Learned(508, 512, 425)],
        "middle": [Learned(507, 512, 200), Learned(507, 512, 225)],
        "fast": [Learned(500, 512, 100), Learned(500, 512, 100)],
        "long": [Learned(508, 512, 200), Learned(508, 512, 225)],
    }
    rows = {row.configuration: row for row in first_choice(TUNING, recipes(long=700), found)}
    assert {name: (row.settle, row.steps, row.finalist) for name, row in rows.items()} == {
        "slow": (532, 982, False),  # as fast as long, and learned later
        "middle": (282, 732, True),
        "fast": (125, 575, False),  # more than an error less accurate
        "long": (282, 982, True),
    }


def test_what_the_budget_cuts_to_equal_steps_goes_by_what_learned_earlier_and_then_by_the_file() -> None:
    """None may keep its whole margin: the one with the most of it left is taken."""
    settled = {"slow": 900, "middle": 925, "fast": 875, "long": 900}
    found = {name: [Learned(512, 512, step), Learned(512, 512, 800)] for name, step in settled.items()}
    rows = {row.configuration: row for row in first_choice(TUNING, recipes(), found)}
    assert {row.steps for row in rows.values()} == {1400} and {row.settle for row in rows.values()} == {950}
    assert [name for name, row in rows.items() if row.finalist] == ["slow", "fast"]


@pytest.mark.parametrize(
    ("slowest", "margin", "says"),
    [(100, 1.1, 110), (100, 1.25, 125), (101, 1.25, 127), (900, 1.25, 950), (5, 1.25, 50)],
)
def test_the_step_is_a_margin_above_the_slowest_within_warmup_and_budget(
    slowest: int, margin: float, says: int
) -> None:
    assert settle_step(slowest, margin, RECIPE) == says


steps = st.lists(st.one_of(st.none(), st.integers(1, 1400)), min_size=2, max_size=2)


@given(trials, steps, steps)
def test_the_second_choice_is_the_finalist_that_memorises_first_and_all_seeds_of_it(
    found: dict[str, list[Learned]], first: list[int | None], second: list[int | None]
) -> None:
    rows = first_choice(TUNING, recipes(), found)
    finalists = names(rows)
    given_ = dict(zip(finalists, (first, second), strict=False))
    choice = second_choice(rows, given_)
    able = {name: [step for step in at if step is not None] for name, at in given_.items() if None not in at}
    if not able:
        assert choice.row is None and choice.reason == (NOT_MEMORISED if finalists else NOT_LEARNED)
        return
    assert choice.reason is None and choice.row is not None and choice.row.finalist
    assert sum(able[choice.row.configuration]) == min(map(sum, able.values()))
    assert sum(row.chosen for row in choice.table) == 1
    assert all((row.memorised_at is not None) == row.finalist for row in choice.table)


def test_a_tie_of_the_second_choice_goes_by_the_file_and_not_by_speed() -> None:
    found = {name: [Learned(512, 512, step)] * 2 for name, step in zip(NAMES, (400, 300, 200, 100), strict=True)}
    rows = first_choice(TUNING, recipes(), found)
    assert names(rows) == ["fast", "long"]
    choice = second_choice(rows, {"fast": (500, 600), "long": (550, 550)})
    assert choice.row is not None and choice.row.configuration == "fast"
