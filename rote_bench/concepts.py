"""What probes are fitted to: intermediate results and the true answer as classes, and control tasks of their shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from .subject import Subject, View

ANSWER = "answer"
DRAWS = 5  # of the control task


@dataclass(frozen=True)
class Target:
    """Classes (n,) of one concept in every view, and (draws, n) of its control task."""

    classes: int
    labels: dict[str, Tensor]
    control: dict[str, Tensor]


def find_targets(subject: Subject, views: Mapping[str, View], wanted: Sequence[str]) -> dict[str, Target]:
    import torch

    examples = views["fit"].labelled.examples
    names = [n for n in examples[0].intermediates if (not wanted or n in wanted) and subject.task.values(n)]
    rng = subject.rng("probe-control")
    out = {}
    for name in names:
        values = subject.task.values(name)
        labels = {key: torch.tensor(view.intermediate(name, values)) for key, view in views.items()}
        deciding = _deciding_features(examples, name)
        control: dict[str, Tensor] = {}
        drawn: dict[tuple[str, ...], NDArray[np.int64]] = {}
        for key, view in views.items():
            inputs = [tuple(e.features[f] for f in deciding) or (e.prompt,) for e in view.labelled.examples]
            for i in inputs:
                if i not in drawn:
                    drawn[i] = rng.integers(len(values), size=DRAWS)
            control[key] = torch.tensor(np.array([drawn[i] for i in inputs]).T)
        out[name] = Target(len(values), labels, control)
    tokens = {key: answer_tokens(subject, view) for key, view in views.items()}
    known = sorted({int(t) for column in tokens.values() for t in column[1]})
    index = {token: i for i, token in enumerate(known)}
    labels = {key: torch.tensor([index[int(t)] for t in column[1]]) for key, column in tokens.items()}
    shuffled = {
        key: torch.tensor(np.array([rng.permutation(value.numpy()) for _ in range(DRAWS)]))
        for key, value in labels.items()
    }
    out[ANSWER] = Target(len(known), labels, shuffled)
    return out


def _deciding_features(examples: Sequence[Any], intermediate: str) -> tuple[str, ...]:
    """The coarsest one or two surface features whose values decide an intermediate result, for the control task.

    They are what a probe could have learned by heart instead of the concept. None where it takes more.
    """
    for size in (1, 2):
        found: list[tuple[int, tuple[str, ...]]] = []
        for chosen in combinations(examples[0].features, size):
            implied: dict[tuple[str, ...], str] = {}
            for e in examples:
                value = e.intermediates[intermediate]
                if implied.setdefault(tuple(e.features[f] for f in chosen), value) != value:
                    break
            else:
                found.append((len(implied), chosen))
        if found:
            return min(found)[1]
    return ()


def answer_tokens(subject: Subject, view: View) -> tuple[Tensor, Tensor]:
    """Position and true token at which the true answer parts from the label.

    Clean training examples have no second label; they take the offsets at which the noisy ones part, in turn, as far as
    their answer has tokens.
    """
    import torch

    from .encoding import IGNORED, first_difference

    if view.name != "clean":
        marked = [x != e.answer for e, x in zip(view.labelled.examples, view.labelled.labels, strict=True)]
        if all(marked):
            position, token, _ = first_difference(view.true, view.taught)
            return position, token
    noisy = subject.noisy
    offset = first_difference(noisy.true, noisy.taught)[0] - noisy.true.positions["last"]
    rows = torch.arange(len(view), device=offset.device)
    furthest = (view.true.targets != IGNORED).sum(1) - 1
    position = view.true.positions["last"] + torch.minimum(offset[rows % len(offset)], furthest)
    return position, view.true.targets[rows, position]
