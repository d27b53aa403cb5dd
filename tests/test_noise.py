"""The rules that every kind of noise keeps."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rote_bench import plugins
from rote_bench.errors import UserError
from rote_bench.noise import (
    BUILT_IN,
    BridgeSwap,
    ClassConditional,
    ClassConditionalOptions,
    NoiseKind,
    NoOptions,
    Pairs,
    Structured,
    Uniform,
    label_held_out,
    label_train,
)
from rote_bench.spec.loader import load_task
from rote_bench.spec.model import TaskSpec
from rote_bench.splits import make_data, make_noise, make_task, rates_of
from rote_bench.tasks.addition import Addition, AdditionParameters
from rote_bench.tasks.example import Example, Task
from rote_bench.tasks.two_hop import TwoHop, TwoHopParameters

REGISTRY = plugins.built_in()
SMALL = """
name: small
generator: {generator}
parameters: {parameters}
splits: {{train: 300, selection: 40, validation: 80{ood}}}
noise: {{kind: {kind}}}
"""
TASKS: list[Task] = [TwoHop(TwoHopParameters(relations=8), 0), Addition(AdditionParameters(), 0)]
each_kind = pytest.mark.parametrize("kind", BUILT_IN, ids=lambda k: k.name)
each_task = pytest.mark.parametrize("task", TASKS, ids=["two_hop", "addition"])


def pool(task: Task, n: int, seed: int = 0) -> tuple[list[int], list[Example]]:
    """Examples, a tenth of which the data itself labels wrongly."""
    rows = random.Random(seed).sample(range(len(task)), n)
    examples = [task.example(i) for i in rows]
    wrong = [next(a for a in task.answers(e) if a != e.answer) for e in examples]
    given = [w if i % 10 == 0 else e.answer for i, (w, e) in enumerate(zip(wrong, examples, strict=True))]
    return rows, [replace(e, given=label) for e, label in zip(examples, given, strict=True)]


@each_kind
@each_task
def test_labels_are_wrong_seeded_and_as_many_as_asked(kind: type[NoiseKind], task: Task) -> None:
    rows, examples = pool(task, 1000)
    noise = kind(kind.Options())
    labelled = label_train(task, noise, examples, rows, 0.1, 5)
    assert labelled == label_train(task, noise, examples, rows, 0.1, 5)
    other = label_train(task, noise, examples, rows, 0.1, 6)
    assert other.examples == labelled.examples
    assert (other.labels != labelled.labels) == kind.rated  # what is given is not drawn
    if kind is not Structured:
        assert len(labelled.noisy) == 100
    assert 50 <= len(labelled.noisy) <= 150
    for i in labelled.noisy:
        assert labelled.labels[i] in task.answers(examples[i])


@each_kind
@each_task
def test_rate_zero_leaves_every_label_true(kind: type[NoiseKind], task: Task) -> None:
    rows, examples = pool(task, 200)
    assert not label_train(task, kind(kind.Options()), examples, rows, 0.0, 0).noisy


@each_kind
@each_task
def test_phantoms_of_held_out_examples_are_wrong_too(kind: type[NoiseKind], task: Task) -> None:
    rows, examples = pool(task, 1200)
    noise = kind(kind.Options())
    held = label_held_out(task, noise, examples[1000:], rows[1000:], 0.1, 0, examples[:1000], "validation")
    if kind is Structured:
        trained = label_train(task, noise, examples[:1000], rows[:1000], 0.1, 0)
        feature = next(iter(examples[0].features))
        ruled = {trained.examples[i].features[feature] for i in trained.noisy}
        assert {held.examples[i].features[feature] for i in held.noisy} <= ruled
    else:
        assert len(held.noisy) == (200 if kind.rated else 20)


@pytest.fixture(scope="module", params=[kind.name for kind in BUILT_IN])
def spec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TaskSpec:
    """A small task with each kind of noise; with that which the data brings along a table, else two hops."""
    folder, kind = tmp_path_factory.mktemp(request.param), request.param
    file = folder / "small.yaml"
    if kind == "given":
        rows = (f"what is {i} and {i % 7},{i % 11},{i % 11 if i % 9 else (i + 1) % 11}" for i in range(500))
        (folder / "rows.csv").write_text("\n".join(["prompt,answer,given", *rows]) + "\n")
        file.write_text(
            SMALL.format(generator="dataset", parameters="{path: rows.csv, noisy: given}", ood="", kind=kind)
        )
    else:
        sizes = "{form: symbols, entities: 9, bridges: 5, answers: 7, relations: 8}"
        file.write_text(SMALL.format(generator="two_hop", parameters=sizes, ood=", ood: 30", kind=kind))
    return load_task(file, REGISTRY)


@given(seed=st.integers(0, 10_000), rate=st.sampled_from([0.2, 0.5]))
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_noise_may_touch(spec: TaskSpec, seed: int, rate: float) -> None:
    """A wrong label is wrong, stands on a training question alone, and that question stands nowhere else."""
    task, kind = make_task(spec, REGISTRY), make_noise(spec, REGISTRY)
    seeds = (replace(spec.seeds, noise=noise) for noise in range(seed, seed + 4))
    first, *others = (make_data(task, spec.replace(seeds=each), kind, rate) for each in seeds)
    noisy = set(first.train.noisy)
    taught = zip(first.train.examples, first.train.labels, strict=True)
    assert noisy and all((label != e.answer) == (i in noisy) for i, (e, label) in enumerate(taught))
    wrong = {first.train.examples[i].prompt for i in noisy}
    clean = [e.prompt for i, e in enumerate(first.train.examples) if i not in noisy]
    rest = [e.prompt for name, part in first if name != "train" for e in part.examples]
    assert wrong.isdisjoint(clean) and wrong.isdisjoint(rest)
    assert all(label == e.answer for e, label in zip(first.facts.examples, first.facts.labels, strict=True))
    for other in others:
        for (_, part), (_, again) in zip(first, other, strict=True):
            assert part.examples == again.examples and part.indices == again.indices
    assert any(first.train.labels != other.train.labels for other in others) == kind.rated
    assert kind.rated or rates_of(spec, REGISTRY) == (len(noisy) / 300,)


@given(st.integers(0, 10_000), st.integers(30, 300))
@settings(max_examples=25, deadline=None)
def test_pairs_keep_the_counts_of_all_labels(seed: int, count: int) -> None:
    task = TASKS[0]
    rows, examples = pool(task, 600, seed)
    labelled = label_train(task, Pairs(NoOptions()), examples, rows, count / 600, seed)
    assert Counter(labelled.labels) == Counter(e.answer for e in examples)
    assert len(labelled.noisy) == count - count % 2  # of an odd number one stays clean
    swapped = Counter(
        (e.answer, label) for e, label in zip(examples, labelled.labels, strict=True) if e.answer != label
    )
    assert all(swapped[a, b] == swapped[b, a] for a, b in swapped)


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=9), st.integers(0, 20))
@settings(deadline=None)
def test_pairs_refuse_only_what_cannot_be_paired(answers: list[str], seed: int) -> None:
    """Pairs of different answers exist when no answer has more than half, of an odd number without one of its kind."""
    examples = [Example(f"q {i}", answer) for i, answer in enumerate(answers)]
    paired, most = len(answers) // 2 * 2, Counter(answers).most_common(1)[0][1]
    fits = 2 * (most - (len(answers) % 2 and 2 * most > len(answers))) <= paired
    task = TASKS[0]
    if not fits:
        with pytest.raises(UserError, match="cannot swap"):
            label_train(task, Pairs(NoOptions()), examples, range(len(answers)), 1.0, seed)
        return
    labelled = label_train(task, Pairs(NoOptions()), examples, range(len(answers)), 1.0, seed)
    assert len(labelled.noisy) == paired and Counter(labelled.labels) == Counter(answers)
    if len(set(answers)) > 1:  # what is held out is never taught, so that the one left over needs no partner
        held = label_held_out(
            task, Pairs(NoOptions()), examples, range(len(answers)), 1.0, seed, examples, "validation"
        )
        assert len(held.noisy) == len(answers) and set(held.labels) <= set(answers)


def test_bridge_swap_gives_the_answer_of_another_bridge() -> None:
    task = TASKS[0]
    rows, examples = pool(task, 300)
    labelled = label_train(task, BridgeSwap(BridgeSwap.Options()), examples, rows, 0.2, 0)
    for i in labelled.noisy:
        implied = {task.answer_if(examples[i], "bridge", b) for b in task.values("bridge")}
        assert labelled.labels[i] in implied


def test_class_conditional_follows_its_matrix() -> None:
    task = TASKS[0]
    rows, examples = pool(task, 400)
    answers = sorted({e.answer for e in examples})
    matrix = {a: {answers[(i + 1) % len(answers)]: 1.0} for i, a in enumerate(answers)}
    kind = ClassConditional(ClassConditionalOptions(matrix=matrix))
    labelled = label_train(task, kind, examples, rows, 0.5, 0)
    assert all(labelled.labels[i] in matrix[examples[i].answer] for i in labelled.noisy)
    few = ClassConditional(ClassConditionalOptions(spread=2))
    confused: dict[str, set[str]] = {}
    spread = label_train(task, few, examples, rows, 0.9, 0)
    for i in spread.noisy:
        confused.setdefault(examples[i].answer, set()).add(spread.labels[i])
    assert max(map(len, confused.values())) <= 2


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"own": 1.0, "other": 1.0}, "is among the wrong answers of"),
        ({"other": -1.0}, "are no probabilities"),
        ({"other": 0.0}, "are no probabilities"),
        ({"other": 1e308, "third": 1e308}, "are no probabilities"),
        ({"other ": 1.0}, "is no answer of the task"),
    ],
)
def test_a_matrix_that_is_none_is_refused(row: dict[str, float], said: str) -> None:
    task = TASKS[0]
    rows, examples = pool(task, 40)
    own, other, third, *_ = sorted({e.answer for e in examples})
    names = {"own": own, "other": other, "third": third, "other ": f"{other} "}
    matrix = {own: {names[key]: weight for key, weight in row.items()}}
    with pytest.raises(UserError, match=said) as error:
        label_train(task, ClassConditional(ClassConditionalOptions(matrix=matrix)), examples, rows, 0.5, 0)
    assert error.value.where == "noise.options.matrix"


def test_uniform_reaches_every_other_answer_about_equally() -> None:
    task = TASKS[0]
    example = task.example(0)
    draws = Counter(Uniform(NoOptions()).draw(task, [example] * 5000, random.Random(0)))
    others = len(task.answers(example)) - 1
    assert len(draws) == others
    assert max(draws.values()) < 1.5 * 5000 / others


def test_noise_that_cannot_be_drawn_is_one_clear_line() -> None:
    task = TwoHop(TwoHopParameters(entities=4, bridges=2, answers=2, relations=1), 0)
    example = task.example(0)
    with pytest.raises(UserError, match="near_miss noise has no wrong label"):
        BUILT_IN[1](NoOptions()).draw(task, [example], random.Random(0))
