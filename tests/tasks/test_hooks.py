"""What a task gives beyond its questions is held to what was asked for, in a line that names the hook."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rote_bench import plugins
from rote_bench.encoding import build_tokenizer
from rote_bench.errors import UserError
from rote_bench.pipeline.loading import few
from rote_bench.spec.loader import load_task
from rote_bench.splits import chosen, make_data, make_noise, make_task
from rote_bench.tasks import hooks
from rote_bench.tasks.addition import Addition
from rote_bench.tasks.example import Example, Task

TWO_DIGITS = Addition.Parameters(2)


def task_with(**methods: Any) -> Task:
    task: Task = type("Mine", (Addition,), methods)(TWO_DIGITS, 0)
    return task


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[0, 1]], r"gives int64 in the shape \(1, 2\).*give whole numbers in the shape \(2, 3\)"),
        ([[0.0, 1.0, 2.0]] * 2, "gives float64"),
        ([[0, 1, 4]] * 2, "names places that are none in `train`.*give -1 to 3"),
        ([[0, 1, -2]] * 2, "names places"),
    ],
)
def test_nearest_questions_are_places_in_train(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"Mine.nearest {message}"):
        hooks.nearest(task_with(nearest=lambda self, *asked: given), [1, 2, 3, 4], ["1"] * 4, [5, 6], 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((1, 2)), "gives float64 in the shape"),
        (np.full((1, 2, 2), np.nan), "gives what is no distance"),
        (-np.ones((1, 2, 2)), "gives what is no distance"),
        (np.array([[[1.0, 0.5]] * 2]), "gives what is no distance, or no order"),
        (np.array([[["a", "b"]] * 2]), "gives <U1"),
    ],
)
def test_distances_are_in_order(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"Mine.distances {message}"):
        hooks.distances(task_with(distances=lambda self, *asked: given), [1, 2], ["1"] * 2, [5, 6], [[0, 1]], 2)


def test_words_of_a_set_have_the_same_numbers_in_each_process() -> None:
    words = [*"qwertyuiop"]
    assert build_tokenizer(set(words)).get_vocab() == build_tokenizer(sorted(words)).get_vocab()
    assert build_tokenizer(words).get_vocab()["q"] == 3, "a list keeps its order"


def test_what_a_task_does_not_know_stays_unknown() -> None:
    task = task_with(nearest=lambda self, *asked: None, distances=lambda self, *asked: None)
    assert hooks.nearest(task, [1], ["1"], [2], 1) is None
    assert hooks.distances(task, [1], ["1"], [2], [[0]], 1) is None


def test_no_more_questions_are_infinitely_far() -> None:
    given = np.array([[[0.0, np.inf]], [[np.inf, np.inf]]])
    found = hooks.distances(task_with(distances=lambda self, *asked: given), [1], ["1"], [2], [[0], []], 2)
    assert found is not None and np.array_equal(found, given)


@pytest.mark.parametrize("given", ["200", 1.5, -1, None])
def test_the_questions_that_a_task_takes_are_a_count(given: Any) -> None:
    with pytest.raises(UserError, match=r"Mine.least_train gives .*give a count"):
        hooks.least_train(task_with(least_train=lambda self: given))


def spec_and_task(**methods: Any) -> Any:
    registry = plugins.built_in()
    spec = load_task("fda", registry).replace(splits={"train": 60, "selection": 20, "validation": 20})
    task = make_task(spec, registry)
    return spec, type("Mine", (type(task),), methods)(task.parameters, task.seed), make_noise(spec, registry)


@pytest.mark.parametrize("hook", ["answers", "near_misses", "foils", "values"])
def test_data_are_refused_where_a_seed_would_draw_others_in_each_process(hook: str) -> None:
    spec, task, kind = spec_and_task(**{hook: lambda self, asked: {"1", "2"}})
    with pytest.raises(UserError, match=rf"Mine.{hook} gives a set .*sorted"):
        make_data(task, spec, kind, 0.05, limit=20)


def test_data_are_refused_where_facts_contradict_each_other() -> None:
    facts = [Example("1 =", "1"), Example("2 =", "2"), Example("1  =", "3")]
    spec, task, kind = spec_and_task(facts=lambda self: facts)
    with pytest.raises(UserError, match=r"fact 0 and fact 2 answer '1 =' with '1' and '3'.*keep one"):
        make_data(task, spec, kind, 0.05, limit=20)
    spec, task, kind = spec_and_task(facts=lambda self: [*facts[:2], facts[0]])
    assert len(make_data(task, spec, kind, 0.05, limit=20).facts) == 3


def test_a_limit_asks_for_the_count_that_a_task_takes() -> None:
    spec, task, _ = spec_and_task(least_train=lambda self: "many")
    with pytest.raises(UserError, match="least_train gives 'many'"):
        chosen(task, spec, 20)
    assert list(few(20, 100, 50))
