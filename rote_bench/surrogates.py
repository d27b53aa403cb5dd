"""What a change of activations is compared with: the same change in other examples, noise of its size, its mean.

All keep how large the change is and where it is put, and lose what it says of the example that receives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .statistics import cluster_codes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

SWEEPS = 5  # through those whose stranger is still none


def derangement(alike: Sequence[ArrayLike], rng: np.random.Generator) -> NDArray[np.int64]:
    """A random order in which nobody takes their own place, nor that of somebody like them where it can be helped.

    A random permutation whose conflicts are swapped away: with a random one of the places that lead to fewest.

    Args:
        alike: (n, n) each, true where two are alike in some respect; what matters most comes first.

    Returns:
        (n,) who takes whose place.

    Raises:
        ValueError: when there are fewer than two.
    """
    tables = [np.asarray(each, dtype=bool) for each in alike]
    n = len(tables[0])
    if n < 2:
        raise ValueError("one example has no other")
    cost = np.eye(n) * (n + 1.0) ** len(tables)
    for power, table in enumerate(reversed(tables)):
        cost += table * (n + 1.0) ** power
    order, everyone = rng.permutation(n), np.arange(n)
    for _ in range(SWEEPS):
        wrong = np.flatnonzero(cost[everyone, order] > 0)
        if not len(wrong):
            break
        for i in rng.permutation(wrong):
            now = cost[everyone, order]
            gain = now + now[i] - cost[i, order] - cost[everyone, order[i]]
            gain[i] = 0
            if gain.max() > 0:
                j = rng.choice(np.flatnonzero(gain == gain.max()))
                order[i], order[j] = order[j], order[i]
    return order


def respects(
    answers: Sequence[Sequence[object]], groups: Sequence[object], lengths: Sequence[object]
) -> dict[str, NDArray[np.bool_]]:
    """In what a stranger should not be as it is: (n, n) each, true where two are so, the weightiest first.

    Args:
        answers: one or more kinds of answers, (n,) each, none of which two may share.
        groups: (n,) the group of each.
        lengths: (n,) the length of each, in which two should not differ.
    """

    def same(values: Sequence[object]) -> NDArray[np.bool_]:
        codes = cluster_codes([str(value) for value in values])
        return np.asarray(codes[:, None] == codes)

    equal = np.any([same(kind) for kind in answers], axis=0)
    return {"same_answer": equal, "same_group": same(groups), "other_length": ~same(lengths)}


@dataclass(frozen=True)
class Aligned:
    """Sequences of several lengths, brought to stand with their last prompt tokens one above the other.

    Attributes:
        shift: (n,) by how many tokens each is moved to the right.
    """

    shift: Tensor

    @classmethod
    def at(cls, last: Tensor) -> Aligned:
        """By the index of each last prompt token, (n,)."""
        return cls(last.max() - last)

    def together(self, values: Tensor) -> Tensor:
        """(n, length, width) -> (n, length + the largest shift, width), zero where a sequence has nothing."""
        return self._moved(values, -self.shift, values.shape[1] + int(self.shift.max()))

    def apart(self, values: Tensor, rows: slice, length: int) -> Tensor:
        """What ``together`` gave, of any examples, as the sequences in ``rows`` have it: (rows, length, width)."""
        return self._moved(values, self.shift[rows], length)

    @staticmethod
    def _moved(values: Tensor, by: Tensor, length: int) -> Tensor:
        import torch

        if not by.any():
            return values[:, :length]
        at = torch.arange(length, device=values.device) + by[:, None]
        there = (at >= 0) & (at < values.shape[1])
        found = values[torch.arange(len(values), device=values.device)[:, None], at.clamp(0, values.shape[1] - 1)]
        return found * there.unsqueeze(-1)


def halves(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(n,) 0 or 1: a random half of the examples, for what is estimated on the other one."""
    return rng.permutation(n) % 2


def means(changes: Tensor, half: NDArray[np.int64]) -> Tensor:
    """For each example the mean change (length, width) of the other half, (n, length, width).

    Args:
        changes: (n, length, width), aligned.
        half: (n,) 0 or 1.
    """
    import torch

    out = torch.zeros_like(changes)
    for here in (0, 1):
        other = changes[torch.from_numpy(half != here).to(changes.device)]
        if len(other):
            out[torch.from_numpy(half == here).to(changes.device)] = other.mean(0)
    return out


def noise(changes: Tensor, half: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
    """For each example Gaussian noise with the covariance of the other half's changes, over positions and width.

    The examples' deviations from their mean, weighted with independent normal numbers, have their covariance; the
    matrix itself, which need not fit in memory, is never made.

    Args:
        changes: (n, length, width), aligned.
        half: (n,) 0 or 1.
    """
    import torch

    out = torch.zeros_like(changes)
    for here in (0, 1):
        own = torch.from_numpy(half == here).to(changes.device)
        other = changes[~own].flatten(1).float()
        if len(other) < 2:
            continue
        weights = torch.from_numpy(rng.standard_normal((int(own.sum()), len(other))) / np.sqrt(len(other) - 1))
        made = weights.to(other) @ (other - other.mean(0))
        out[own] = made.reshape(-1, *changes.shape[1:]).to(changes.dtype)
    return out
