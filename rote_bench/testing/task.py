"""The rules of a task."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import UserError
from ..tasks import hooks
from ..tasks.example import SPLITS, WORD, Example, Task, reserved
from .rules import NOISE_RATE, Findings, built, class_rules


def check_task(
    cls: type[Task],
    parameters: Mapping[str, Any] | None = None,
    *,
    rule: Callable[[str], str] | None = None,
    seed: int = 0,
    examples: int = 200,
) -> Task:
    """Check everything that the harness relies on in a task.

    Args:
        parameters: as under ``parameters`` in a task file.
        rule: the true answer to a prompt, found in another way than the generator's.
        examples: how many questions to look at, spread over the pool.

    Returns:
        The task that was checked.

    Raises:
        RuleBroken: with a line for each broken rule.
    """
    found = Findings(f"task {getattr(cls, 'name', cls.__name__)!r}")
    class_rules(found, cls, "Parameters")
    options = built(found, cls, "Parameters", parameters)
    task, twin = cls(options, seed), cls(options, seed)
    total = len(task)
    if not found.rule(total >= 3, "pool", f"it has {total} questions", "return a larger number from __len__"):
        found.raise_all()
    rows = sorted(random.Random(seed).sample(range(total), min(examples, total)))
    made = {i: task.example(i) for i in rows}
    again = {i: twin.example(i) for i in reversed(rows)}
    for i in rows:
        found.rule(
            made[i] == again[i],
            "determinism",
            f"example({i}) differs when asked again: {made[i].text!r} and {again[i].text!r}",
            "draw with random.Random of the seed and the index, never of a shared state",
        )
    prompts = [e.prompt for e in made.values()]
    twice = next((p for p in prompts if prompts.count(p) > 1), None)
    found.rule(twice is None, "unique prompts", f"{twice!r} comes twice", "let each index give another prompt")
    found.attempt("split", _split_rules, task, seed)
    other = next((i for i, e in made.items() if task.question(i) != (e.prompt, e.positions)), None)
    found.rule(
        other is None,
        "question",
        f"question({other}) is not that of example({other})",
        "let `question` give the example's prompt and positions, or leave it out",
    )
    for example in made.values():
        found.attempt("example", _example_rules, task, example, next(iter(made.values())))
        if rule is not None and (right := rule(example.prompt)) != example.answer:
            found.rule(False, "answer", f"{example.text!r} should end with {right!r}", "mend `answer` or the rule")
    found.held("least_train", hooks.least_train, task)
    clusters = {e.group for e in made.values()}
    found.rule(
        len(clusters) > 1,
        "group",
        f"every question is in the group {next(iter(clusters))!r}",
        "set `group` to what makes questions alike, or to the prompt when nothing does",
    )
    found.raise_all()  # what follows would only repeat it
    found.attempt("answer_if", _intervention_rules, task, list(made.values()))
    found.attempt("words", _word_rules, task, list(made.values()))
    found.attempt("labels", _label_rules, task, list(made.values()), rows)
    found.attempt("neighbours", _neighbour_rules, task, made)
    found.attempt("nearest", _nearest_rules, task, list(made.values()), rows)
    found.raise_all()
    return task


def _split_rules(found: Findings, task: Task, seed: int) -> None:
    total = len(task)
    sizes = {"train": max(1, total // 2), "selection": max(1, total // 8), "validation": max(1, total // 8)}
    sizes = {name: min(size, 10_000) for name, size in sizes.items()}
    try:
        parts = task.split(sizes, seed)
        other = task.split(sizes, seed)
    except UserError:  # a task with splits of its own may not have as many
        return
    flat = [i for name in SPLITS for i in parts[name]]
    found.rule(
        len(set(flat)) == len(flat),
        "disjoint splits",
        "an example is in two splits",
        "let `split` give every index once",
    )
    found.rule(parts == other, "splits by seed", "the same seed gives other splits", "draw with random.Random(seed)")
    found.rule(
        all(0 <= i < total for i in flat),
        "splits within the pool",
        "an index is outside of it",
        "give indices below len(task)",
    )
    found.rule(
        all(len(parts[name]) == sizes[name] for name in SPLITS),
        "split sizes",
        "a split has another size than asked for",
        "give as many indices as `sizes` says",
    )


def _example_rules(found: Findings, task: Task, example: Example, first: Example) -> None:
    shown = repr(example.text)
    for what in ("prompt", "answer"):
        text = getattr(example, what)
        joined = example.joined and text != " ".join(text.split())
        found.rule(
            bool(text.split()) and not joined,
            f"{what} in words",
            repr(text),
            "write words; where they are to be joined, separated by single spaces and with none at the ends",
        )
    found.rule(
        set(example.positions) == set(first.positions),
        "same positions everywhere",
        f"{sorted(example.positions)} and {sorted(first.positions)}",
        "name the same positions in every example",
    )
    found.rule(
        set(example.intermediates) == set(first.intermediates),
        "same intermediates everywhere",
        f"{sorted(example.intermediates)} and {sorted(first.intermediates)}",
        "name the same intermediate results in every example",
    )
    for what in ("positions", "intermediates"):
        for name in getattr(example, what):
            means = reserved(what, name)
            found.rule(means is None, f"free names of {what}", f"{name!r} is {means}", "give it another name")
    found.rule(
        set(example.features) == set(first.features),
        "same features everywhere",
        f"{sorted(example.features)} and {sorted(first.features)}",
        "name the same features in every example",
    )
    for name, (start, stop) in example.positions.items():
        text = example.prompt[start:stop]
        inside = 0 <= start < stop <= len(example.prompt)
        found.rule(
            inside and text == text.strip() and bool(text),
            f"position {name!r}",
            f"characters {start} to {stop} of {example.prompt!r} are {text!r}",
            "give the half-open span of whole words",
        )
        meant = example.features.get(name, example.intermediates.get(name))
        found.rule(
            meant is None or meant == text,
            f"position {name!r} points at what it names",
            f"it shows {text!r}, but {name} is {meant!r} in {example.prompt!r}",
            "move the span, or rename the feature",
        )
    answers = found.held("answers in order", hooks.answers, task, example)
    if answers is None:
        return
    found.rule(
        _among(answers, example.answer),
        "answer among the answers",
        f"{example.answer!r} is none of answers({shown})",
        "let `answers` hold the true answer too",
    )
    found.rule(len(answers) > 1, "wrong answers exist", f"{shown} has one answer", "let `answers` give all of its kind")
    for label in task.near_misses(example):
        found.rule(
            label != example.answer, "near misses are wrong", f"{label!r} is true for {shown}", "leave the answer out"
        )
    found.held("lists in order", hooks.check_ordered, task, example)
    _foil_rules(found, task, example)
    for name, value in example.intermediates.items():
        _intermediate_rules(found, task, example, name, value)


def _foil_rules(found: Findings, task: Task, example: Example) -> None:
    foils = list(task.foils(example))
    found.rule(
        example.answer not in foils,
        "foils are wrong",
        f"{example.answer!r} is true for {example.text!r}",
        "leave the answer out of `foils`",
    )
    found.rule(
        len(set(foils)) == len(foils),
        "foils once",
        f"one stands twice beside {example.text!r}",
        "let `foils` name each answer once",
    )
    known = set(task.words()) if foils else set()
    wrong = next((foil for foil in foils if not foil or not known.issuperset(foil.split())), None)
    found.rule(
        wrong is None, "foils in words", f"{wrong!r} has words that `words` does not know", "add them to `words`"
    )


def _among(answers: Sequence[str], label: str) -> bool:
    """Whether a label is one of the answers, without walking through a long lazy sequence of them."""
    if len(answers) <= 5000:
        return label in answers
    try:
        return answers[answers.index(label)] == label
    except ValueError:
        return False


def _intermediate_rules(found: Findings, task: Task, example: Example, name: str, value: str) -> None:
    values = task.values(name)
    if not values:
        return
    found.rule(
        len(set(values)) == len(values),
        f"values of {name!r} once",
        "one stands twice",
        "let `values` name each once",
    )
    found.rule(
        value in values,
        f"values of {name!r}",
        f"{value!r} is missing",
        "let `values` give all that the intermediate can be",
    )
    implied = {v: task.answer_if(example, name, v) for v in list(values)[:50]}
    if all(answer is None for answer in implied.values()):
        return
    same = task.answer_if(example, name, value)
    found.rule(
        same in (None, example.answer),
        f"answer_if({name!r}) at the true value",
        f"{example.text!r} would change to {same!r}",
        "let the true intermediate result imply the true answer",
    )
    known = set(task.words())
    wrong = next((a for a in implied.values() if a is not None and not known.issuperset(a.split())), None)
    found.rule(
        wrong is None,
        f"answer_if({name!r}) gives answers",
        f"{wrong!r} has words that `words` does not know",
        "return an answer, or None",
    )


def _intervention_rules(found: Findings, task: Task, examples: Sequence[Example]) -> None:
    """An intermediate result that an answer can be asked of must be able to change it."""
    moves: dict[str, bool] = {}
    for example in examples:
        for name, value in example.intermediates.items():
            others = (task.answer_if(example, name, v) for v in list(task.values(name))[:50] if v != value)
            implied = [a for a in others if a is not None]
            if implied and not moves.get(name):
                moves[name] = any(a != example.answer for a in implied)
    still = next((name for name, moved in moves.items() if not moved), None)
    found.rule(
        still is None,
        "interventions change the answer",
        f"answer_if({still!r}) gives the true answer whatever the value",
        "compute the answer from the value that is given, or return None",
    )


def _word_rules(found: Findings, task: Task, examples: Sequence[Example]) -> None:
    from ..encoding import build_tokenizer, encode

    facts = list(task.facts())
    found.held("facts", hooks.check_facts, task, facts)
    known = set(task.words())
    for example in (*examples, *facts[:200]):
        missing = [word for word in WORD.findall(example.text) if word not in known]
        if not found.rule(
            not missing, "words", f"{missing[:3]} of {example.text!r} are missing", "add them to `words`"
        ):
            return
    for example in examples:
        for label in task.near_misses(example):
            missing = [word for word in label.split() if word not in known]
            found.rule(
                not missing, "near misses in words", f"{missing[:3]} of {label!r} are missing", "add them to `words`"
            )
    tokenizer = build_tokenizer(known)
    encoded = encode(tokenizer, examples)
    for example, row, target in zip(examples, encoded.input_ids, encoded.targets, strict=True):
        ids = [*row.tolist(), *target[target != -100].tolist()[-1:]]
        text = " ".join(tokenizer.decode([i for i in ids if i != tokenizer.pad_token_id]).split())
        found.rule(
            text == " ".join(example.text.split()),
            "round trip",
            f"{example.text!r} comes back as {text!r}",
            "use plain words in prompts",
        )


def _label_rules(found: Findings, task: Task, examples: Sequence[Example], rows: Sequence[int]) -> None:
    from ..noise import NoOptions, Uniform, label_train

    try:
        labelled = label_train(task, Uniform(NoOptions()), examples, rows, NOISE_RATE, 0)
    except (UserError, ValueError) as error:
        found.rule(False, "wrong labels can be drawn", str(error), "let `answers` give other answers than the true one")
        return
    known = set(task.words())
    for i in labelled.noisy:
        label, answer = labelled.labels[i], examples[i].answer
        found.rule(
            label.split() != answer.split(),
            "wrong labels read otherwise",
            f"{label!r} stands for {answer!r}",
            "let `answers` name no answer twice",
        )
        missing = [word for word in label.split() if word not in known]
        found.rule(not missing, "answers in words", f"{missing[:3]} of {label!r} are missing", "add them to `words`")


def _neighbour_rules(found: Findings, task: Task, made: Mapping[int, Example]) -> None:
    for index, example in list(made.items())[:50]:
        for kind, others in task.neighbours(example).items():
            found.rule(
                all(0 <= other < len(task) for other in others),
                f"neighbours {kind!r} within the pool",
                f"of {example.text!r}",
                "give indices below len(task)",
            )
            found.rule(
                index not in others,
                f"neighbours {kind!r} without the example",
                f"{example.text!r} is its own",
                "leave the example's own index out",
            )


def _nearest_rules(found: Findings, task: Task, examples: Sequence[Example], rows: Sequence[int]) -> None:
    half = len(rows) // 2
    asked = (task, rows[:half], [e.answer for e in examples[:half]], rows[half:])
    found.held("distances", hooks.distances, *asked, [range(half), []], 3)
    near = found.held("nearest questions", hooks.nearest, *asked, 3)
    if near is None:
        return
    found.rule(
        all(len(set(known)) == len(known) for known in ([i for i in row if i >= 0] for row in near.tolist())),
        "nearest questions once",
        "one stands twice beside the same question",
        "let each position stand once",
    )
