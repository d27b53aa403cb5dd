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


def find(subject: Subject, views: Sequence[View], limit: int) -> dict[str, Foils | None]:
    """Foils of the first examples of views, of those that have a label, where the true answer and the label part.

    A foil counts where it parts from the true answer at that very token and is not the label there. Each counts as
    often as it is the true answer to such questions: of clean training questions that have the same answers to tell
    apart, half a question added. So whoever knows how frequent answers are, and has computed nothing, wins exactly one
    half: of two answers the more frequent one is true as much more often as it counts less as a foil.

    Returns:
        By the view's name; None where no example of it has any.
    """
    search = _Search(subject, [example for view in views for example in view.labelled.examples[:limit]])
    return {view.name: search.foils(view, limit) for view in views}


class _Search:
    """The foils of examples and of the clean training questions that they are compared with, and all their tokens."""

    def __init__(self, subject: Subject, examples: Sequence[Example]) -> None:
        self.subject, self.first = subject, examples[0]
        self.known = subject.more_clean(REFERENCE).labelled.examples
        self.named = {id(e): subject.task.foils(e) for e in (*examples, *self.known)}
        self.tokens: dict[str, tuple[int, ...]] = {}
        self._look_up([e.answer for e in (*examples, *self.known)])
        self._look_up([foil for foils in self.named.values() for foil in foils])
        self.frequent: dict[int, Counter[tuple[frozenset[int], int]]] = {}

    def _look_up(self, answers: Sequence[str]) -> None:
        """Add the tokens of answers, as they follow a prompt."""
        new = [answer for answer in dict.fromkeys(answers) if answer not in self.tokens]
        if new:
            encoded = encode(self.subject.tokenizer, [self.first] * len(new), new, named=False)
            rows = encoded.targets.tolist()
            self.tokens |= {a: tuple(t for t in row if t != IGNORED) for a, row in zip(new, rows, strict=True)}

    def _frequency(self, p: int) -> Counter[tuple[frozenset[int], int]]:
        """How often each token is the true one at place p, by the tokens that are to be told apart there."""
        if p not in self.frequent:
            kinds = ((self._options(e, p), self.tokens[e.answer]) for e in self.known)
            self.frequent[p] = Counter((kind, true[p]) for kind, true in kinds if kind is not None)
        return self.frequent[p]

    def foils(self, view: View, limit: int) -> Foils | None:
        """None where no example has any."""
        examples, labels = view.labelled.examples[:limit], view.labelled.labels[:limit]
        self._look_up(labels)
        tokens: list[list[int]] = []
        weights: list[list[float]] = []
        for e, label, targets in zip(examples, labels, view.true.targets[:limit].tolist(), strict=True):
            if label == e.answer:
                continue
            true, taught = self.tokens[e.answer], self.tokens[label]
            p = next(p for p, (a, b) in enumerate(zip(true, taught, strict=False)) if a != b)
            # behind its own prompt an answer could have other tokens than behind the one it was looked up with
            kind = self._options(e, p) if true == tuple(t for t in targets if t != IGNORED) else None
            counts = {token: self._frequency(p)[kind, token] + 0.5 for token in sorted(kind)} if kind else {}
            kept = [token for token in counts if token not in (true[p], taught[p])]
            tokens.append(kept)
            weights.append([counts[token] / sum(counts.values()) for token in kept])
        width = max(map(len, tokens), default=0)
        if width == 0:
            return None
        device = view.true.input_ids.device
        padded = [[*row, *[0] * (width - len(row))] for row in tokens]
        filled = [[*row, *[0.0] * (width - len(row))] for row in weights]
        return Foils(torch.tensor(padded, device=device), torch.tensor(filled, device=device))

    def _options(self, example: Example, p: int) -> frozenset[int] | None:
        """The tokens at place p of the true answer and of the foils that agree with it so far; None without foils."""
        true = self.tokens[example.answer]
        if p >= len(true):
            return None
        others = (self.tokens[foil] for foil in self.named[id(example)])
        found = {other[p] for other in others if len(other) > p and other[:p] == true[:p] and other[p] != true[p]}
        return frozenset({true[p], *found}) if found else None
