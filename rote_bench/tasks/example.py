"""What a task is made of: examples with named positions, and the base class of every task."""

from __future__ import annotations

import random
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Span = tuple[int, int]
SPLITS = ("train", "selection", "validation")
EXTRA = ("ood",)  # held-out splits that only some tasks have
# Words as tokenizers that split at white space find them; to Unicode's white space Python adds four separators.
WORD = re.compile(r"[^\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
OPENING, CLOSING = "([{\"'“‘«¿¡", ")]}\"'”’».,;:?!"  # what stands around words and is no part of them


def word_spans(text: str, prompt: str) -> list[Span]:
    """Where a text stands in a prompt as words of its own, in order: ``1`` does so neither in ``11`` nor in ``1.5``.

    Where it stands between spaces, or brackets, quotes and punctuation beside spaces, those places alone count, and
    ``1`` is none in ``-1`` or ``$1``; else all where no letter, mark or digit goes on. In scripts that write no spaces
    few texts have any.
    """
    found = [each.span() for each in re.finditer(re.escape(text), prompt)] if text else []
    alone = [span for span in found if _alone(prompt, *span)]
    return alone or [span for span in found if _whole(prompt, *span)]


def _alone(prompt: str, start: int, stop: int) -> bool:
    before, behind = prompt[:start].rstrip(OPENING), prompt[stop:].lstrip(CLOSING)
    return (not before or before[-1].isspace()) and (not behind or behind[0].isspace())


def _whole(prompt: str, start: int, stop: int) -> bool:
    before, text, behind = prompt[:start], prompt[start:stop], prompt[stop:]
    for word, next_to_it in ((text[0], before[-1:]), (text[-1], behind[:1])):
        if next_to_it and _goes_on(next_to_it) and _goes_on(word):
            return False
    if text[0].isdigit() and re.search(r"\d[.,]\Z|\.\Z", before):
        return False
    return not (text[-1].isdigit() and re.match(r"[.,]\d", behind))


def _goes_on(character: str) -> bool:
    """Whether a word goes on with it: a letter, a digit, or a mark that belongs to one."""
    return character.isalnum() or character == "_" or unicodedata.category(character).startswith("M")


# Names that the harness gives itself beside a task's own: what they mean.
RESERVED = {
    "positions": {r"last": "the last token of the prompt", r"answer_\d+": "what predicts a later token of the answer"},
    "intermediates": {"answer": "the true answer"},
}


def reserved(what: str, name: str) -> str | None:
    """What a name already stands for among ``positions`` or ``intermediates``; None where it is free."""
    return next((means for form, means in RESERVED[what].items() if re.fullmatch(form, name, re.ASCII)), None)


def rows_of(size: int | float, total: int) -> int:
    """The rows of a split: a count, or the share of all that a float is, down to whole rows (.57 of 100 are 57)."""
    return size if isinstance(size, int) else int(size * total + 1e-9)


@dataclass(frozen=True, slots=True)
class Example:
    """One question of a task with everything that is known about it.

    Attributes:
        prompt: the text in front of the answer.
        answer: the true answer (not the noisy one).
        positions: name -> half-open character span of ``prompt``; which tokens matter. ``last`` and ``answer_1``,
            ``answer_2`` and so on are taken.
        intermediates: name -> value of each intermediate result on the way to the answer. ``answer`` is taken.
        features: name -> surface class of the input (for structured noise and unit heuristics). All examples of a
            task name the same positions, intermediate results and features.
        group: the cluster to which the example belongs when intervals are made; examples that are all of one
            group, such as the empty one, count as independent.
        given: the label that the data itself brings along, right or wrong, for noise of the kind ``given``; None where
            it brings none.
        joined: the words of prompt and answer are the task's own, separated by single spaces, and what reads ordinary
            text gets them as such: ``Ada's`` for ``Ada 's``. Otherwise every model reads the text as it is written.
    """

    prompt: str
    answer: str
    positions: Mapping[str, Span] = field(default_factory=dict)
    intermediates: Mapping[str, str] = field(default_factory=dict)
    features: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    given: str | None = None
    joined: bool = False

    @property
    def text(self) -> str:
        return f"{self.prompt} {self.answer}"


class Task(ABC):
    """A generator of examples: an indexed pool that the harness splits, labels and encodes.

    A task is deterministic: the same parameters and seed give the same example at every index. The
    harness draws ``train``, ``selection`` (what recipes and layers are chosen on) and ``validation``
    (what is reported) from the pool, all disjoint, and ``ood`` where a task sets some apart.

    Subclasses set ``name``, ``version`` (raise it whenever the examples change) and ``Parameters``, a
    frozen dataclass whose fields are the keys allowed under ``parameters`` in a task file; ``arithmetic`` says that
    the paper's claim about heuristics of arithmetic is about it.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    description: ClassVar[str] = ""
    arithmetic: ClassVar[bool] = False
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

    def question(self, index: int) -> tuple[str, Mapping[str, Span]]:
        """The prompt and the positions at ``index``, for large pools of which no more is looked at."""
        example = self.example(index)
        return example.prompt, example.positions

    def place(self, index: int) -> str:
        """Where the example at ``index`` comes from, in words by which the user finds it."""
        return f"question {index}"

    def fact_place(self, number: int) -> str:
        """Where the fact at position ``number`` of ``facts()`` comes from, in such words."""
        return f"fact {number}"

    def remarks(self) -> Sequence[str]:
        """What is to be known of the data before they are used, such as how it was read; ``validate`` says it."""
        return ()

    def untaught(self, rows: Mapping[str, Sequence[int]]) -> Sequence[str]:
        """What is to be known of held-out examples with words that training never shows.

        Args:
            rows: split -> pool indices of its examples.
        """
        return ()

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

    def foils(self, example: Example) -> Sequence[str]:
        """The wrong answers that are as likely as the true one until its intermediate result is known.

        All that another value of an intermediate result would lead to, each once and never the true answer. Whether a
        model has computed an answer shows in comparison with these: any other wrong answer may be ruled out by what
        the question says of itself. Empty when the task has no such notion; by default what ``values`` and
        ``answer_if`` give.
        """
        found: dict[str, None] = {}
        for name, own in example.intermediates.items():
            for value in self.values(name):
                answer = None if value == own else self.answer_if(example, name, value)
                if answer is not None:
                    found[answer] = None
        found.pop(example.answer, None)
        return list(found)

    def neighbours(self, example: Example) -> Mapping[str, Sequence[int]]:
        """Kind of relation -> pool indices of the other examples that stand in it to this one.

        They are one step away, or alike in what is computed; relations hold either way.
        """
        return {}

    def heuristics(self, example: Example) -> Sequence[str]:
        """Names of the simple input patterns that hold for this example, as ``family: pattern``."""
        return [f"{name}: {value}" for name, value in {**example.features, **example.intermediates}.items()]

    def least_train(self) -> int:
        """About how many training questions it takes to learn the task; ``--limit`` leaves as many. 0: not known."""
        return 0

    def nearest(
        self, train: Sequence[int], labels: Sequence[str], asked: Sequence[int], k: int
    ) -> NDArray[np.int64] | None:
        """For each question asked the k nearest training questions, by a distance that is the task's own.

        Args:
            train: pool indices of the training questions.
            labels: what each of them is taught.
            asked: pool indices of the questions asked, none of them in ``train``.

        Returns:
            (asked, k) positions in ``train``, nearest first, -1 where there are no more; None without a distance.
        """
        return None

    def distances(
        self, train: Sequence[int], labels: Sequence[str], asked: Sequence[int], among: Sequence[Sequence[int]], k: int
    ) -> NDArray[np.float64] | None:
        """How far the nearest questions of some sets are, by the distance of ``nearest``.

        Args:
            train, labels, asked: as for ``nearest``.
            among: sets of positions in ``train``.

        Returns:
            (sets, asked, k) distances, nearest first, in a unit of the task's own; infinite where there are no more
            questions, or none that can be compared. None without a distance.
        """
        return None

    def set_apart(self, count: int, seed: int) -> Sequence[int]:
        """At least ``count`` pool indices of questions unlike those trained, which no other split may hold.

        Raises:
            UserError: when the task has no such questions, or not as many.
        """
        raise UserError(
            "the task has no out-of-distribution questions", where="splits.ood", hint="leave it out, or set it to 0"
        )

    def split(self, sizes: Mapping[str, int | float], seed: int) -> dict[str, list[int]]:
        """Disjoint pool indices for each split, drawn without replacement and in random order.

        The first rows of a split stand for all of it wherever not all are looked at.

        Args:
            sizes: split -> a count, or a share of the pool when it is a float below 1. ``ood`` may be 0 or missing.
            seed: the data seed.

        Raises:
            UserError: when the pool is too small.
        """
        total = len(self)
        counts = {name: rows_of(size, total) for name, size in sizes.items()}
        for name in SPLITS:
            if counts[name] < 1:
                raise UserError(
                    f"the split {name!r} would be empty", where=f"splits.{name}", hint=f"the pool has {total}"
                )
        unlike = counts.get("ood", 0)
        apart = self.set_apart(unlike, seed) if unlike else ()
        needed, left = sum(counts[name] for name in SPLITS), total - len(apart)
        if needed > left:
            raise UserError(
                f"the splits ask for {needed} examples but the task has {left}"
                + (f" beside the {len(apart)} set apart for {unlike} of ood" if unlike else ""),
                where="splits",
                hint="lower the counts or enlarge the task's parameters",
            )
        taken = set(apart)
        pool = [i for i in range(total) if i not in taken] if taken else range(total)
        drawn = random.Random(f"split-{seed}").sample(pool, needed)
        out: dict[str, list[int]] = {}
        for name in SPLITS:
            out[name], drawn = drawn[: counts[name]], drawn[counts[name] :]
        if unlike:
            out["ood"] = random.Random(f"split-ood-{seed}").sample(apart, unlike)
        return out
