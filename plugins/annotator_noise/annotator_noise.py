"""Label noise as annotators make it: each labels a part of the data, and some err far more often than others."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from rote_bench.plugin import Example, NoiseKind, Task, UserError, hookimpl


@dataclass(frozen=True)
class Options:
    """The annotators.

    Attributes:
        annotators: how many there are; each labels an equal share of the examples.
        spread: how much their error rates differ: 0 makes all alike, 1 lets the worst err twice as often as the mean
            and the best never.
        habit: the part of an annotator's errors that fall on one favourite answer; the rest fall anywhere.
    """

    annotators: int = field(default=5, metadata={"min": 2})
    spread: float = field(default=0.8, metadata={"min": 0, "max": 1})
    habit: float = field(default=0.5, metadata={"min": 0, "max": 1})


class AnnotatorNoise(NoiseKind):
    """Errors of several annotators (Dawid and Skene, 1979), the simplest noise in which labels err together."""

    name = "annotators"
    description = "errors of several annotators, some careless, each with a favourite wrong answer"
    Options: ClassVar[type] = Options

    def rates(self, rate: float) -> list[float]:
        """The error rate of each annotator; they average to ``rate``."""
        n, spread = self.options.annotators, self.options.spread
        return [rate * (1 + spread * (2 * k / (n - 1) - 1)) for k in range(n)]

    def mark(self, task: Task, examples: Sequence[Example], rate: float, rng: random.Random) -> list[int]:
        """A random share of each annotator's examples, as large as that annotator's error rate."""
        order = rng.sample(range(len(examples)), len(examples))
        n = self.options.annotators
        marked: list[int] = []
        for k, own_rate in enumerate(self.rates(rate)):
            own = order[k::n]
            marked += rng.sample(own, min(len(own), round(own_rate * len(own))))
        return sorted(marked)

    def draw(self, task: Task, examples: Sequence[Example], rng: random.Random) -> list[str]:
        seed = rng.getrandbits(64)
        return [self._label(task, example, random.Random(f"{seed}-{i}"), seed) for i, example in enumerate(examples)]

    def _label(self, task: Task, example: Example, rng: random.Random, seed: int) -> str:
        wrong: Any = task.answers(example)
        if len(wrong) < 2:
            raise UserError(f"{self.name} noise has no wrong label for {example.text!r}", where="noise.kind")
        # whose error it is: the careless make most of them
        (annotator,) = rng.choices(range(self.options.annotators), weights=self.rates(1.0))
        favourite = wrong[random.Random(f"habit-{seed}-{annotator}").randrange(len(wrong))]
        if favourite != example.answer and rng.random() < self.options.habit:
            return str(favourite)
        while True:
            label = wrong[rng.randrange(len(wrong))]
            if label != example.answer:
                return str(label)


@hookimpl
def register_noise(register: Callable[[type[NoiseKind]], None]) -> None:
    register(AnnotatorNoise)
