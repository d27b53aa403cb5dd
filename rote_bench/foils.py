"""Foils as tokens: the answers that a model cannot tell from the true one before it has computed it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from .encoding import IGNORED, encode

if TYPE_CHECKING:
    from torch import Tensor

    from .subject import Subject, View
    from .tasks.example import Example

REFERENCE = 4096  # clean training questions that say how frequent answers are; those that probes are fitted on


@dataclass(frozen=True)
class Foils:
    """The foils of n examples at the position that is scored.

    Attributes:
        tokens: (n, k) the first token in which each foil differs from the true answer.
        weights: (n, k) how often it is the true answer to such questions; 0 where there are no more foils.
    """

    tokens: Tensor
    weights: Tensor


def find(subject: Subject, view: View, limit: int) -> Foils | None:
    """Foils of a view's first examples, of those that have a label, where the true answer and the label part.

    A foil counts where it parts from the true answer at that very token and is not the label there. Each counts as
    often as it is the true answer to such questions: of clean training questions that have the same answers to tell
    apart, half a question added. So whoever knows how frequent answers are, and has computed nothing, wins exactly one
    half: of two answers the more frequent one is true as much more often as it counts less as a foil.

    Returns:
        None where no example has any.
    """
    return _Found(subject, view, limit).foils()


class _Found:
    """Foils by example, and the tokens of every answer in question."""

    def __init__(self, subject: Subject, view: View, limit: int) -> None:
        n = min(limit, len(view))
        examples = view.labelled.examples[:n]
        self.task, self.labels = subject.task, view.labelled.labels[:n]
        self.rows = [i for i in range(n) if self.labels[i] != examples[i].answer]
        self.examples = examples
        self.known = subject.more_clean(REFERENCE).labelled.examples
        self.device = view.true.input_ids.device
        self.asked = view.true.targets[:n]
        answers: dict[str, None] = {}
        self.named: dict[int, Sequence[str]] = {}
        for e in (*(examples[i] for i in self.rows), *self.known):
            self.named[id(e)] = list(self.task.foils(e))
            answers.update(dict.fromkeys((e.answer, *self.named[id(e)])))
        answers.update(dict.fromkeys(self.labels[i] for i in self.rows))
        self.tokens = _answer_tokens(subject, examples[0], list(answers)) if self.rows else {}

    def foils(self) -> Foils | None:
        """None where no example has any."""
        at = [_parting(self.tokens[self.examples[i].answer], self.tokens[self.labels[i]]) for i in self.rows]
        options = [self._options(self.examples[i], p) for i, p in zip(self.rows, at, strict=True)]
        options = [kind if self._as_asked(i) else None for i, kind in zip(self.rows, options, strict=True)]
        frequent: Counter[tuple[int, frozenset[int], int]] = Counter()
        for e in self.known:
            for p in set(at):
                if (kind := self._options(e, p)) is not None:
                    frequent[p, kind, self.tokens[e.answer][p]] += 1
        tokens: list[list[int]] = []
        weights: list[list[float]] = []
        for i, p, kind in zip(self.rows, at, options, strict=True):
            counts = {token: frequent[p, kind, token] + 0.5 for token in sorted(kind)} if kind else {}
            both = {self.tokens[self.examples[i].answer][p], self.tokens[self.labels[i]][p]}
            kept = [token for token in counts if token not in both]
            tokens.append(kept)
            weights.append([counts[token] / sum(counts.values()) for token in kept])
        width = max(map(len, tokens), default=0)
        if width == 0:
            return None
        padded = [[*row, *[0] * (width - len(row))] for row in tokens]
        filled = [[*row, *[0.0] * (width - len(row))] for row in weights]
        return Foils(torch.tensor(padded, device=self.device), torch.tensor(filled, device=self.device))

    def _as_asked(self, row: int) -> bool:
        """Whether a true answer has the same tokens behind its own prompt as elsewhere, as it has behind a space."""
        asked = tuple(t for t in self.asked[row].tolist() if t != IGNORED)
        return asked == self.tokens[self.examples[row].answer]

    def _options(self, example: Example, p: int) -> frozenset[int] | None:
        """The tokens at place p of the true answer and of the foils that agree with it so far; None without foils."""
        true = self.tokens[example.answer]
        if p >= len(true):
            return None
        others = (self.tokens[foil] for foil in self.named[id(example)])
        found = {other[p] for other in others if len(other) > p and other[:p] == true[:p] and other[p] != true[p]}
        return frozenset({true[p], *found}) if found else None


def _parting(first: Sequence[int], second: Sequence[int]) -> int:
    """The first place at which two answers differ."""
    return next(p for p, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)


def _answer_tokens(subject: Subject, example: Example, answers: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The tokens of answers, as they follow a prompt."""
    encoded = encode(subject.tokenizer, [example] * len(answers), answers, named=False)
    rows = encoded.targets.tolist()
    return {a: tuple(t for t in row if t != IGNORED) for a, row in zip(answers, rows, strict=True)}
