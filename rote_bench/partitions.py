"""Concepts that could stand in for an intermediate result: its carriers, dealt out to other classes at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from .tasks.example import Example

ALIKE = 0.1  # of what the best surface features tell, so much less tells as well
DECIDES = 0.5  # of the way from guessing to certainty


@dataclass(frozen=True)
class Carriers:
    """The surface features of a question that decide an intermediate result.

    Attributes:
        features: their names.
        told: share of examples whose value the others with the same features tell.
        chance: share of the most frequent value.
        classes: what the features are -> the most frequent value there, as an index.
    """

    features: tuple[str, ...]
    told: float
    chance: float
    classes: dict[tuple[str, ...], int]

    @property
    def decide(self) -> bool:
        """Whether they come at least half of the way from guessing to certainty."""
        return self.told >= self.chance + DECIDES * (1 - self.chance)

    def dealt(self, examples: Sequence[Example], rng: np.random.Generator) -> NDArray[np.int64]:
        """(n,) a class for each example: those of all carriers, dealt out to the carriers anew.

        Examples with the same carrier share a class, and each class has as many carriers as a value of the intermediate
        result has. What the classes do not have is a meaning.
        """
        dealt = dict(zip(self.classes, rng.permutation([*self.classes.values()]).tolist(), strict=True))
        return np.array([dealt[_carrier(e, self.features)] for e in examples], dtype=np.int64)


def carriers_of(examples: Sequence[Example], intermediate: str, values: Sequence[str]) -> Carriers | None:
    """The coarsest surface feature, or pair of them, that tells an intermediate result about as well as any does.

    How well: the most frequent value among the other examples with the same features is the example's own. A feature
    that is never the same twice tells nothing.

    Args:
        examples: those that a model learned from.

    Returns:
        None where the examples have no features.
    """
    index = {value: i for i, value in enumerate(values)}
    classes = np.array([index[e.intermediates[intermediate]] for e in examples], dtype=np.int64)
    names = list(examples[0].features)
    codes = {name: np.unique([e.features[name] for e in examples], return_inverse=True)[1] for name in names}
    found: list[tuple[float, int, tuple[str, ...]]] = []
    sets: list[tuple[str, ...]] = [*((name,) for name in names), *combinations(names, 2)]
    for chosen in sets:
        numbers = codes[chosen[0]] if len(chosen) == 1 else codes[chosen[0]] * len(examples) + codes[chosen[1]]
        _, carrier = np.unique(numbers, return_inverse=True)
        found.append((_told(carrier, classes, len(values)), int(carrier.max()) + 1, chosen))
    if not found:
        return None
    best = max(told for told, _, _ in found)
    told, _, chosen = min((each for each in found if each[0] >= best - ALIKE), key=lambda each: each[1:2])
    counts: dict[tuple[str, ...], NDArray[np.int64]] = {}
    for example, value in zip(examples, classes, strict=True):
        counts.setdefault(_carrier(example, chosen), np.zeros(len(values), dtype=np.int64))[value] += 1
    chance = float(np.bincount(classes).max() / len(classes))
    return Carriers(chosen, told, chance, {key: int(count.argmax()) for key, count in counts.items()})


def _carrier(example: Example, features: Sequence[str]) -> tuple[str, ...]:
    return tuple(example.features[name] for name in features)


def _told(carrier: NDArray[np.int64], classes: NDArray[np.int64], count: int) -> float:
    """The share of examples of whose class there are more among the others with their carrier than of any else."""
    table = np.zeros((int(carrier.max()) + 1, count), dtype=np.int64)
    np.add.at(table, (carrier, classes), 1)
    others = table[carrier]
    own = others[np.arange(len(classes)), classes] - 1
    others[np.arange(len(classes)), classes] = 0
    return float((own > others.max(1)).mean())
