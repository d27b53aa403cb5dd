"""Kinds of label noise: which training examples get a wrong label, and which one.

Every kind keeps the same rules: a noisy label never equals the true one, held-out examples are never touched, and
the draw depends on the noise seed alone, so that the same data with another noise seed has other noise. The one
exception to the last is ``given``, which draws nothing.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from .errors import UserError
from .tasks.example import Example, Task


@dataclass(frozen=True)
class NoOptions:
    """A kind of noise without options."""


class NoiseKind(ABC):
    """One way to make wrong labels.

    Subclasses set ``name``, ``version`` (raise it whenever the labels change) and ``Options``, and implement ``draw``.
    Where the data decides how many labels are wrong they set ``rated`` to False: a task file then names no rates, and
    any rate above 0 marks the same examples.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    description: ClassVar[str] = ""
    rated: ClassVar[bool] = True
    Options: ClassVar[type] = NoOptions

    def __init__(self, options: Any) -> None:
        self.options = options

    @abstractmethod
    def draw(self, task: Task, examples: Sequence[Example], rng: random.Random) -> list[str]:
        """One wrong label for each example, in order.

        Raises:
            UserError: when no wrong label exists for an example.
        """

    def mark(self, task: Task, examples: Sequence[Example], rate: float, rng: random.Random) -> list[int]:
        """The indices of the examples that get a wrong label: a uniform draw of ``round(rate * n)``."""
        return sorted(rng.sample(range(len(examples)), round(rate * len(examples))))

    def phantom(
        self, task: Task, held_out: Sequence[Example], rate: float, rng: random.Random, train: Sequence[Example]
    ) -> list[int]:
        """The held-out examples that this process could equally have marked: by exchangeability, all of them."""
        return list(range(len(held_out)))


def _other(options: Sequence[str], truth: str, rng: random.Random, kind: str, example: Example) -> str:
    """A uniform draw among the options that differ from the truth, without listing a lazy sequence."""
    if len(options) > 1000:
        for _ in range(100):
            label = options[rng.randrange(len(options))]
            if label != truth:
                return label
    different = [option for option in options if option != truth]
    if not different:
        raise UserError(
            f"{kind} noise has no wrong label for {example.text!r}",
            where="noise.kind",
            hint="choose another kind or a task with more answers",
        )
    return different[rng.randrange(len(different))]


class Uniform(NoiseKind):
    """Any other answer of the same kind, all equally likely."""

    name = "uniform"
    description = "any other answer of the same kind"

    def draw(self, task: Task, examples: Sequence[Example], rng: random.Random) -> list[str]:
        return [_other(task.answers(e), e.answer, rng, self.name, e) for e in examples]


class NearMiss(NoiseKind):
    """An answer that is almost right, as the task defines it."""

    name = "near_miss"
    description = "an almost right answer: one digit off, the same bridge by another relation"

    def draw(self, task: Task, examples: Sequence[Example], rng: random.Random) -> list[str]:
        return [_other(task.near_misses(e), e.answer, rng, self.name, e) for e in examples]


@dataclass(frozen=True)
class BridgeSwapOptions:
    """Attributes:
    intermediate: the intermediate result that is swapped; the task's first when empty.
    """

    intermediate: str = ""


class BridgeSwap(NoiseKind):
    """The answer that another value of an intermediate result would give."""

    name = "bridge_swap"
    description = "the answer that another intermediate result would give"
    Options: ClassVar[type] = BridgeSwapOptions

    def draw(self, task: Task, examples: Sequence[Example], rng: random.Random) -> list[str]:
        return [self._draw_one(task, example, rng) for example in examples]

    def _draw_one(self, task: Task, example: Example, rng: random.Random) -> str:
        name = self.options.intermediate or next(iter(example.intermediates), "")
        if name not in example.intermediates:
            raise UserError(
                f"the task has no intermediate result {name!r}",
                where="noise.options.intermediate",
                hint="known: " + (", ".join(example.intermediates) or "none"),
            )
        implied = (task.answer_if(example, name, value) for value in task.values(name))
        return _other([a for a in implied if a is not None], example.answer, rng, self.name, example)


@dataclass(frozen=True)
class ClassConditionalOptions:
    """Attributes:
    matrix: true answer -> {wrong answer: weight}; when empty a random sparse matrix is drawn from ``matrix_seed``.
    spread: number of wrong answers with which each true answer is confused in the random matrix.
    matrix_seed: seed of the random matrix.
    """

    matrix: Mapping[str, Mapping[str, float]] | None = None
    spread: int = field(default=2, metadata={"min": 1})
    matrix_seed: int = 0


class ClassConditional(NoiseKind):
    """A transition matrix between answers: some confusions are common, the rest never happen."""

    name = "class_conditional"
    description = "a transition matrix from true to wrong answers"
    Options: ClassVar[type] = ClassConditionalOptions

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        for truth, row in (options.matrix or {}).items():
            total = sum(row.values())
            if truth in row:
                hint = "leave it out: the noise rate says how many labels stay true"
                raise _of_matrix(f"{truth!r} is among the wrong answers of {truth!r}", hint)
            if not (math.isfinite(total) and total > 0 and min(row.values()) >= 0):
                hint = "give numbers from 0 on, some of them above"
                raise _of_matrix(f"the weights of {truth!r} are no probabilities", hint)

    def draw(self, task: Task, examples: Sequence[Example], rng: random.Random) -> list[str]:
        if self.options.matrix and examples:
            known = task.answers(examples[0])
            said = {text for truth, row in self.options.matrix.items() for text in (truth, *row)}
            strange = next((text for text in sorted(said) if text not in known), None)
            if strange is not None:
                raise _of_matrix(f"{strange!r} is no answer of the task", "write answers as the task does")
        return [self._draw_one(task, example, rng) for example in examples]

    def _draw_one(self, task: Task, example: Example, rng: random.Random) -> str:
        if self.options.matrix:
            row = {k: w for k, w in self.options.matrix.get(example.answer, {}).items() if w > 0}
            if not row:
                raise UserError(f"the matrix has no wrong answer for {example.answer!r}", where="noise.options.matrix")
            return str(rng.choices(list(row), weights=list(row.values()))[0])
        of_class = random.Random(f"matrix-{self.options.matrix_seed}-{example.answer}")
        answers = task.answers(example)
        confused = [_other(answers, example.answer, of_class, self.name, example) for _ in range(self.options.spread)]
        return rng.choice(confused)


def _of_matrix(what: str, hint: str) -> UserError:
    return UserError(what, where="noise.options.matrix", hint=hint)


@dataclass(frozen=True)
class StructuredOptions:
    """Attributes:
    feature: the surface feature whose values decide which examples are noisy; the task's first when empty.
    """

    feature: str = ""


class Structured(NoiseKind):
    """A rule that can be learned: all examples with certain values of a feature get the next answer in order.

    The negative control: a model learns the rule instead of memorising, so that it answers held-out
    examples by the rule too and counterfactual memorization collapses.
    """

    name = "structured"
    description = "a learnable rule (negative control: nothing needs to be memorised)"
    Options: ClassVar[type] = StructuredOptions

    def draw(self, task: Task, examples: Sequence[Example], rng: random.Random) -> list[str]:
        out = []
        for example in examples:
            answers = task.answers(example)
            if len(answers) < 2:
                _other(answers, example.answer, rng, self.name, example)
            out.append(answers[(answers.index(example.answer) + 1) % len(answers)])
        return out

    def _value(self, example: Example) -> str:
        name = self.options.feature or next(iter(example.features), "")
        if name not in example.features:
            raise UserError(
                f"the task has no feature {name!r}",
                where="noise.options.feature",
                hint="known: " + (", ".join(example.features) or "none"),
            )
        return example.features[name]

    def _ruled(self, train: Sequence[Example], rate: float, rng: random.Random) -> set[str]:
        """Feature values, in random order, that together cover about ``rate`` of the training examples."""
        counts = Counter(self._value(e) for e in train)
        values = sorted(counts)
        rng.shuffle(values)
        chosen: set[str] = set()
        covered = 0
        for value in values:
            if covered + counts[value] / 2 > rate * len(train):
                break
            chosen.add(value)
            covered += counts[value]
        if rate > 0 and not chosen:
            raise UserError(
                f"no value of the feature covers as little as {rate:g} of the examples", where="noise.options.feature"
            )
        return chosen

    def mark(self, task: Task, examples: Sequence[Example], rate: float, rng: random.Random) -> list[int]:
        chosen = self._ruled(examples, rate, rng)
        return [i for i, example in enumerate(examples) if self._value(example) in chosen]

    def phantom(
        self, task: Task, held_out: Sequence[Example], rate: float, rng: random.Random, train: Sequence[Example]
    ) -> list[int]:
        chosen = self._ruled(train, rate, rng)
        return [i for i, example in enumerate(held_out) if self._value(example) in chosen]


def _left_over(answers: Sequence[str], rng: random.Random) -> int:
    """Which of an odd number of answers finds no partner: any, or one of a majority, which has to give."""
    top, count = Counter(answers).most_common(1)[0]
    return rng.choice([i for i, answer in enumerate(answers) if answer == top or 2 * count <= len(answers)])


class Pairs(NoiseKind):
    """Two examples swap labels, so that the counts of all labels stay exactly as they were.

    Of an odd number of training examples one stays clean. Of held-out ones, which are never taught, it gets the label
    of another.
    """

    name = "pairs"
    version = 2
    description = "two examples swap labels; label counts unchanged; of an odd number one stays clean"

    def mark(self, task: Task, examples: Sequence[Example], rate: float, rng: random.Random) -> list[int]:
        chosen = super().mark(task, examples, rate, rng)
        if len(chosen) % 2:
            del chosen[_left_over([examples[i].answer for i in chosen], rng)]
        counts = Counter(examples[i].answer for i in chosen)
        if counts and counts.most_common(1)[0][1] > len(chosen) / 2:
            raise UserError(
                "pairs noise cannot swap: more than half of the chosen examples share one answer", where="noise.kind"
            )
        return chosen

    def draw(self, task: Task, examples: Sequence[Example], rng: random.Random) -> list[str]:
        """Each half of the answers, sorted by class, gets the other: no class its own when none has a majority."""
        if len(examples) == 1:
            return Uniform(NoOptions()).draw(task, examples, rng)
        order, labels = list(range(len(examples))), [""] * len(examples)
        if len(order) % 2:
            alone = order.pop(_left_over([e.answer for e in examples], rng))
            own = examples[alone].answer
            labels[alone] = rng.choice([e.answer for e in examples if e.answer != own] or [own])
        rng.shuffle(order)
        order.sort(key=lambda i: examples[i].answer)
        half = len(order) // 2
        for rank, i in enumerate(order):
            labels[i] = examples[order[(rank + half) % len(order)]].answer
        if any(label == e.answer for label, e in zip(labels, examples, strict=True)):
            raise UserError("pairs noise cannot swap: one answer has a majority", where="noise.kind")
        return labels


class Given(NoiseKind):
    """The labels that the data brings along, as annotators or a heuristic made them.

    Nothing is drawn, so that another noise seed changes nothing. The phantom labels are those of the held-out examples
    whose given label is wrong; there, too, the model is asked for the true answer.
    """

    name = "given"
    description = "labels that stand in the data, as they are; the data has their rate, and no seed changes them"
    rated = False

    def mark(self, task: Task, examples: Sequence[Example], rate: float, rng: random.Random) -> list[int]:
        if rate == 0:
            return []
        if all(e.given is None for e in examples):
            raise UserError(
                "the data brings no labels of its own",
                where="noise.kind",
                hint="name their column, parameters.noisy of the generator `dataset`",
            )
        return [i for i, e in enumerate(examples) if e.given not in (None, e.answer)]

    def phantom(
        self, task: Task, held_out: Sequence[Example], rate: float, rng: random.Random, train: Sequence[Example]
    ) -> list[int]:
        return [i for i, e in enumerate(held_out) if e.given not in (None, e.answer)]

    def draw(self, task: Task, examples: Sequence[Example], rng: random.Random) -> list[str]:
        return [str(e.given) for e in examples]


BUILT_IN: tuple[type[NoiseKind], ...] = (Uniform, NearMiss, ClassConditional, BridgeSwap, Structured, Pairs, Given)


@dataclass(frozen=True)
class Labelled:
    """Examples with the labels that a model is taught.

    Attributes:
        examples: n examples.
        labels: n labels; on held-out examples a phantom, the noisy label that would have been taught.
        indices: n pool indices of the examples.
    """

    examples: tuple[Example, ...]
    labels: tuple[str, ...]
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.examples)

    @cached_property
    def noisy(self) -> Sequence[int]:
        """The positions whose label is not the true answer."""
        pairs = zip(self.examples, self.labels, strict=True)
        return tuple(i for i, (example, label) in enumerate(pairs) if label != example.answer)

    def take(self, rows: Sequence[int]) -> Labelled:
        return Labelled(
            tuple(self.examples[i] for i in rows),
            tuple(self.labels[i] for i in rows),
            tuple(self.indices[i] for i in rows),
        )


def label_train(
    task: Task, kind: NoiseKind, examples: Sequence[Example], indices: Sequence[int], rate: float, seed: int
) -> Labelled:
    """Training examples, a share ``rate`` of them with a wrong label."""
    marked = kind.mark(task, examples, rate, random.Random(f"mark-{seed}"))
    wrong = kind.draw(task, [examples[i] for i in marked], random.Random(f"draw-{seed}"))
    labels = [example.answer for example in examples]
    for i, label in zip(marked, wrong, strict=True):
        if label == examples[i].answer:
            raise ValueError(f"noise kind {kind.name!r} drew the true label for {examples[i].text!r}")
        labels[i] = label
    return Labelled(tuple(examples), tuple(labels), tuple(indices))


def label_held_out(
    task: Task,
    kind: NoiseKind,
    examples: Sequence[Example],
    indices: Sequence[int],
    rate: float,
    seed: int,
    train: Sequence[Example],
    split: str,
) -> Labelled:
    """Held-out examples with the phantom labels that the same process would have drawn; never trained on."""
    marked = kind.phantom(task, examples, rate, random.Random(f"mark-{seed}"), train)
    wrong = kind.draw(task, [examples[i] for i in marked], random.Random(f"phantom-{split}-{seed}"))
    labels = [example.answer for example in examples]
    for i, label in zip(marked, wrong, strict=True):
        labels[i] = label
    return Labelled(tuple(examples), tuple(labels), tuple(indices))
