"""What a task is made of: examples with named positions, and the base class of every task."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..errors import UserError

Span = tuple[int, int]
SPLITS = ("train", "selection", "validation")


@dataclass(frozen=True, slots=True)
class Example:
    """One question of a task with everything that is known about it.

    Attributes:
        prompt: the text in front of the answer, words separated by single spaces.
        answer: the true answer (not the noisy one).
        positions: name -> half-open character span of ``prompt``; which tokens matter.
        intermediates: name -> value of each intermediate result on the way to the answer.
        features: name -> surface class of the input (for structured noise and unit heuristics).
        group: the cluster to which the example belongs when intervals are made; examples that are all of one
            group, such as the empty one, count as independent.
    """

    prompt: str
    answer: str
    positions: Mapping[str, Span] = field(default_factory=dict)
    intermediates: Mapping[str, str] = field(default_factory=dict)
    features: Mapping[str, str] = field(default_factory=dict)
    group: str = ""

    @property
    def text(self) -> str:
        return f"{self.prompt} {self.answer}"


class Task(ABC):
    """A generator of examples: an indexed pool that the harness splits, labels and encodes.

    A task is deterministic: the same parameters and seed give the same example at every index. The
    harness draws ``train``, ``selection`` (what recipes and layers are chosen on) and ``validation``
    (what is reported) from the pool, all disjoint.

    Subclasses set ``name``, ``version`` (raise it whenever the examples change) and ``Parameters``, a
    frozen dataclass whose fields are the keys allowed under ``parameters`` in a task file.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    description: ClassVar[str] = ""
    Parameters: ClassVar[type]

    def __init__(self, parameters: Any, seed: int) -> None:
        self.parameters = parameters
        self.seed = seed

    @abstractmethod
    def __len__(self) -> int:
        """The number of different examples in the pool."""

    @abstractmethod
    def example(self, index: int) -> Example:
        """The example at ``index`` of the pool, 0 <= index < len(self)."""

    def place(self, index: int) -> str:
        """Where the example at ``index`` comes from, in words by which the user finds it."""
        return f"question {index}"

    def fact_place(self, number: int) -> str:
        """Where the fact at position ``number`` of ``facts()`` comes from, in such words."""
        return f"fact {number}"

    @abstractmethod
    def words(self) -> Iterable[str]:
        """Every word that can occur in a prompt or an answer, for the task's own tokenizer."""

    def facts(self) -> Sequence[Example]:
        """Auxiliary training examples that are always clean, such as the single facts of a two-hop task."""
        return ()

    @abstractmethod
    def answers(self, example: Example) -> Sequence[str]:
        """All answers of the same kind as the example's own, itself included; may be a lazy sequence."""

    def near_misses(self, example: Example) -> Sequence[str]:
        """Wrong answers that are almost right. Empty when the task has no such notion."""
        return ()

    def values(self, intermediate: str) -> Sequence[str]:
        """All values that the named intermediate result can take."""
        return ()

    def answer_if(self, example: Example, intermediate: str, value: str) -> str | None:
        """What the answer would be if the named intermediate result had this value; None when undefined."""
        return None

    def neighbours(self, example: Example) -> Mapping[str, Sequence[int]]:
        """Kind of neighbour -> pool indices of examples one step away from this one."""
        return {}

    def heuristics(self, example: Example) -> Sequence[str]:
        """Names of the simple input patterns that hold for this example, as ``family: pattern``."""
        return [f"{name}: {value}" for name, value in {**example.features, **example.intermediates}.items()]

    def split(self, sizes: Mapping[str, int | float], seed: int) -> dict[str, list[int]]:
        """Disjoint pool indices for each split, drawn without replacement and in random order.

        The first rows of a split stand for all of it wherever not all are looked at.

        Args:
            sizes: split -> a count, or a share of the pool when it is a float below 1.
            seed: the data seed.

        Raises:
            UserError: when the pool is too small.
        """
        total = len(self)
        counts = {name: sizes[name] if isinstance(sizes[name], int) else int(sizes[name] * total) for name in SPLITS}
        needed = sum(counts.values())
        if needed > total:
            raise UserError(
                f"the splits ask for {needed} examples but the task has {total}",
                where="splits",
                hint="lower the counts or enlarge the task's parameters",
            )
        for name, count in counts.items():
            if count < 1:
                raise UserError(
                    f"the split {name!r} would be empty", where=f"splits.{name}", hint=f"the pool has {total}"
                )
        drawn = random.Random(f"split-{seed}").sample(range(total), int(needed))
        out: dict[str, list[int]] = {}
        start = 0
        for name in SPLITS:
            stop = start + int(counts[name])
            out[name] = drawn[start:stop]
            start = stop
        return out
