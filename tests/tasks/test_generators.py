"""Every built-in task keeps the rules that the harness relies on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rote_bench.errors import UserError
from rote_bench.tasks.addition import Addition, AdditionParameters
from rote_bench.tasks.example import Task
from rote_bench.tasks.two_hop import TwoHop, TwoHopParameters

TASKS: list[tuple[type[Task], Any]] = [
    (TwoHop, TwoHopParameters(entities=8, bridges=4, answers=6, relations=5)),
    (TwoHop, TwoHopParameters(form="question", entities=8, bridges=4, answers=6, relations=5)),
    (TwoHop, TwoHopParameters(form="symbols", entities=8, bridges=4, answers=6, relations=5)),
    (TwoHop, TwoHopParameters(facts="prompt", chains=3, entities=8, bridges=4, answers=6, relations=5, reading=50)),
    (Addition, AdditionParameters()),
    (Addition, AdditionParameters(digits=2, order="most_first")),
]
IDS = ["words", "question", "symbols", "prompt", "addition", "addition-most-first"]
each_task = pytest.mark.parametrize(("cls", "parameters"), TASKS, ids=IDS)
SIZES = {"train": 60, "selection": 10, "validation": 20}


@each_task
def test_same_seed_same_examples_other_seed_others(cls: type[Task], parameters: Any) -> None:
    first, again, other = cls(parameters, 1), cls(parameters, 1), cls(parameters, 2)
    assert [first.example(i) for i in range(20)] == [again.example(i) for i in range(20)]
    assert first.split(SIZES, 1) == again.split(SIZES, 1)
    assert first.split(SIZES, 1) != first.split(SIZES, 2)
    if cls is TwoHop:
        assert [first.example(i).answer for i in range(40)] != [other.example(i).answer for i in range(40)]


@each_task
def test_splits_are_disjoint_and_as_large_as_asked(cls: type[Task], parameters: Any) -> None:
    splits = cls(parameters, 0).split(SIZES, 0)
    assert {name: len(rows) for name, rows in splits.items()} == SIZES
    assert len({row for rows in splits.values() for row in rows}) == sum(SIZES.values())


@each_task
def test_positions_point_at_the_words_that_they_name(cls: type[Task], parameters: Any) -> None:
    task = cls(parameters, 0)
    for example in map(task.example, range(30)):
        for name, (start, stop) in example.positions.items():
            word = example.prompt[start:stop]
            assert word in example.prompt.split()
            if name in example.features:
                assert word == example.features[name]


@each_task
def test_every_word_is_in_the_vocabulary(cls: type[Task], parameters: Any) -> None:
    task = cls(parameters, 0)
    known = set(task.words())
    for example in [*map(task.example, range(50)), *list(task.facts())[:50]]:
        assert set(example.text.split()) <= known


@each_task
def test_the_true_intermediate_result_implies_the_true_answer(cls: type[Task], parameters: Any) -> None:
    task = cls(parameters, 0)
    for example in map(task.example, range(30)):
        for name, value in example.intermediates.items():
            assert value in task.values(name)
            assert task.answer_if(example, name, value) == example.answer
            assert task.answer_if(example, name, "nonsense") is None


@each_task
def test_answers_and_near_misses(cls: type[Task], parameters: Any) -> None:
    task = cls(parameters, 0)
    example = task.example(7)
    assert example.answer in task.answers(example)
    assert example.answer not in task.near_misses(example)
    assert set(task.near_misses(example)) <= set(task.answers(example))


@each_task
def test_neighbours_are_one_step_away(cls: type[Task], parameters: Any) -> None:
    task = cls(parameters, 0)
    example = task.example(7)
    for rows in task.neighbours(example).values():
        for other in map(task.example, rows):
            pairs = zip(example.prompt.split(), other.prompt.split(), strict=True)
            assert sum(a != b for a, b in pairs) == 1


def test_two_hop_answers_follow_the_facts() -> None:
    task = TwoHop(TwoHopParameters(entities=8, bridges=4, answers=6, relations=5), 3)
    facts = {(f.features["entity"], f.features["relation_1"]): f.answer for f in task.facts()}
    assert len(facts) == (8 + 4) * 5
    for example in map(task.example, range(len(task))):
        f = example.features
        bridge = facts[f["entity"], f["relation_1"]]
        assert bridge == example.intermediates["bridge"]
        assert example.answer == facts[bridge, f["relation_2"]]
        assert bridge not in example.prompt.split()


def test_prompt_facts_can_be_followed_by_reading() -> None:
    parameters = TwoHopParameters(
        facts="prompt", form="symbols", chains=3, entities=8, bridges=4, answers=6, relations=5
    )
    task = TwoHop(parameters, 0)
    for example in map(task.example, range(50)):
        *stated, question = example.prompt.split(" ; ")
        facts = {tuple(fact.split()[:2]): fact.split()[2] for fact in stated}
        entity, first, second = question.split()
        bridge = facts[entity, first]
        assert example.intermediates["bridge"] == bridge
        assert facts[bridge, second] == example.answer
        other = next(b for (b, _), _ in facts.items() if b in task.bridges and b != bridge)
        implied = task.answer_if(example, "bridge", other)
        assert implied in {a for (b, _), a in facts.items() if b == other}


@given(st.integers(0, 9999), st.integers(0, 9999))
def test_addition_agrees_with_python(a: int, b: int) -> None:
    task = Addition(AdditionParameters(), 0)
    example = task.example(a * 10_000 + b)
    assert task.operands(example) == (a, b)
    assert int(example.answer.replace(" ", "")[::-1]) == a + b
    assert task.parse(example.answer) == a + b
    for k in range(4):
        assert example.intermediates[f"sum_{k}"] == str(a // 10**k % 10 + b // 10**k % 10)
        scale = 10 ** (k + 1)
        assert example.intermediates[f"carry_{k + 1}"] == str((a % scale + b % scale) // scale)


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 18))
def test_a_replaced_digit_sum_changes_the_answer_by_its_weight(a: int, b: int, value: int) -> None:
    task = Addition(AdditionParameters(digits=2), 0)
    example = task.example(a * 100 + b)
    implied = task.answer_if(example, "sum_1", str(value))
    assert implied is not None
    assert task.parse(implied) == a % 10 + b % 10 + 10 * value


def test_a_split_larger_than_the_pool_is_refused() -> None:
    task = TwoHop(TwoHopParameters(entities=2, bridges=2, answers=2, relations=2), 0)
    with pytest.raises(UserError, match="ask for 90 examples but the task has 8"):
        task.split(SIZES, 0)
    with pytest.raises(UserError, match="'selection' would be empty"):
        task.split({"train": 0.5, "selection": 0.01, "validation": 0.2}, 0)
