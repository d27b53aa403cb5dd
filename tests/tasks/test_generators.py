"""Every built-in task keeps the rules that the harness relies on."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rote_bench import plugins
from rote_bench.errors import UserError
from rote_bench.pipeline.loading import few
from rote_bench.spec.loader import load_task
from rote_bench.splits import chosen, make_task
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
    for kind, rows in task.neighbours(example).items():
        for other in map(task.example, rows):
            pairs = zip(example.prompt.split(), other.prompt.split(), strict=True)
            assert any(7 in back for back in task.neighbours(other).values())
            if kind == "same_bridge_and_relation":
                assert example.intermediates == other.intermediates
                assert example.features["relation_2"] == other.features["relation_2"]
            elif kind == "swapped":
                assert example.answer == other.answer
            else:
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


def small(**more: Any) -> TwoHop:
    return TwoHop(TwoHopParameters(form="symbols", entities=8, bridges=4, answers=6, relations=5, **more), 0)


def test_rows_out_of_distribution_are_taught_as_facts_alone() -> None:
    task = small()
    parts = task.split({**SIZES, "ood": 12}, 3)
    rows = {name: {task.example(i).features["first_hop"] for i in part} for name, part in parts.items()}
    assert {name: len(part) for name, part in parts.items()} == {**SIZES, "ood": 12}
    assert len(rows["ood"]) == 3 and all(rows["ood"].isdisjoint(rows[name]) for name in SIZES)
    assert rows["ood"] <= {f"{f.features['entity']} {f.features['relation_1']}" for f in task.facts()}
    assert task.split({**SIZES, "ood": 0}, 3) == task.split(SIZES, 3)


@pytest.mark.parametrize(
    ("task", "ood", "message"),
    [
        (Addition(AdditionParameters(), 0), 5, "splits.ood: the task has no out-of-distribution questions"),
        (small(facts="prompt"), 5, "splits.ood: the task has no out-of-distribution questions"),
        (small(), 200, "splits.ood: 200 questions are 40 of 40 rows"),
        (small(), 111, "90 examples but the task has 85 beside the 115 set apart for 111 of ood"),
    ],
)
def test_questions_that_cannot_be_set_apart_are_refused(task: Task, ood: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        task.split({**SIZES, "ood": ood}, 0)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_nearest_rows_are_those_whose_trained_answers_agree(seed: int) -> None:
    task, rng = small(), random.Random(seed)
    parts = task.split(SIZES, seed)
    labels = [rng.choice(task.targets) for _ in parts["train"]]
    taught: dict[int, dict[int, tuple[int, str]]] = {}
    for position, (index, label) in enumerate(zip(parts["train"], labels, strict=True)):
        taught.setdefault(index // 5, {})[index % 5] = position, label

    def agreement(row: int, other: int) -> float:
        own, theirs = taught.get(row, {}), taught.get(other, {})
        shared = own.keys() & theirs.keys()
        return sum(own[c][1] == theirs[c][1] for c in shared) / max(len(shared), 1)

    found = task.nearest(parts["train"], labels, parts["validation"], 3)
    assert found is not None and found.shape == (20, 3)
    for index, row in zip(parts["validation"], found.tolist(), strict=True):
        others = [other for other in sorted(taught) if index % 5 in taught[other]]
        others.sort(key=lambda other: -agreement(index // 5, other))
        near = [taught[other][index % 5][0] for other in others[:3]]
        assert row == near + [-1] * (3 - len(near))
    assert small(facts="prompt").nearest([0], ["e1"], [1], 1) is None


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_nearest_sums_differ_in_the_fewest_digits(seed: int) -> None:
    task = Addition(AdditionParameters(digits=3), 0)
    parts = task.split(SIZES, seed)

    def distance(index: int, other: int) -> tuple[int, int]:
        (a, b), (c, d) = divmod(index, 1000), divmod(other, 1000)
        digits = zip(f"{a:03d}{b:03d}", f"{c:03d}{d:03d}", strict=True)
        return sum(x != y for x, y in digits), abs(a - c) + abs(b - d)

    found = task.nearest(parts["train"], [""] * 60, parts["validation"], 61)
    assert found is not None
    for index, row in zip(parts["validation"], found.tolist(), strict=True):
        assert row == [*sorted(range(60), key=lambda i: distance(index, parts["train"][i])), -1]


@pytest.mark.parametrize("cls", [TwoHop, Addition])
def test_distances_are_those_of_nearest(cls: type[Task]) -> None:
    task = small() if cls is TwoHop else Addition(AdditionParameters(digits=3), 0)
    parts = task.split(SIZES, 1)
    train, asked = parts["train"], parts["validation"]
    labels = [task.example(i).answer for i in train]
    near, half = task.nearest(train, labels, asked, 3), list(range(0, len(train), 2))
    found = task.distances(train, labels, asked, [list(range(len(train))), half, []], 3)
    assert near is not None and found is not None and found.shape == (3, len(asked), 3)
    assert np.isinf(found[2]).all() and (found[1] >= found[0]).all()
    assert (np.isfinite(found[0]) == (near >= 0)).all()
    for row, positions in enumerate(near.tolist()):
        for place, position in enumerate(positions):
            if position >= 0:  # the distance to that question alone is the one listed
                alone = task.distances(train, labels, [asked[row]], [[position]], 1)
                assert alone is not None and alone[0, 0, 0] == pytest.approx(found[0, row, place])


def test_a_limit_leaves_what_it_takes_to_learn(registry: plugins.Registry) -> None:
    spec = load_task("thr", registry, profile="quick")
    task = make_task(spec, registry)
    rows = chosen(task, spec, 200)
    assert task.least_train() == 12 * (24 + 4) * 20
    assert {name: len(part) for name, part in rows.items()} == {
        "train": 6720,
        "selection": 200,
        "validation": 200,
        "ood": 200,
    }
    assert all(rows[name] == part[: len(rows[name])] for name, part in chosen(task, spec, None).items())
    assert list(few(300, 300, 0)) == list(few(6720, 8200, 6720)) == []
    assert "too few to learn" in "".join(few(300, 300, 6720))
    assert "do not expect" in "".join(few(200, 300, 0))


@pytest.mark.parametrize("name", ["thr", "fda"])
def test_shipped_tasks_can_be_learned(name: str, registry: plugins.Registry) -> None:
    """As many questions as it takes; ten thousand held-out ones where two-hop models are compared."""
    for profile in (None, "compact", "quick") if name == "thr" else (None, "quick", "long"):
        spec = load_task(name, registry, profile=profile)
        task = make_task(spec, registry)
        parts = task.split(spec.splits, 0)
        assert len(parts["train"]) >= task.least_train()
        if name == "thr" and profile != "quick":
            assert len(parts["validation"]) >= 10_000 and len(parts["ood"]) == 2000
            assert 16 < len(parts["train"]) / len(task.facts()) < 17
