"""What happens at which step of training: the learning rate, the evaluations, and the rows of every batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ..spec.model import Recipe, Schedule
    from .curve import Evaluation


def settled_at(curve: Sequence[Evaluation], schedule: Schedule, given: int | None = None) -> int | None:
    """The step at which the full rate ends, as far as is known.

    The one given, or that of the evaluation that first reaches ``schedule.hold_until`` on the selection split.
    """
    if given is not None:
        return given
    reached = (point.step for point in curve if (point.selection_accuracy or 0.0) >= schedule.hold_until)
    return next(reached, None)


def last_step(recipe: Recipe, settled: int | None) -> int:
    """The step with which training ends, as far as is known."""
    return recipe.max_steps if settled is None else min(recipe.max_steps, settled + recipe.schedule.anneal)


def falls_from(recipe: Recipe, settled: int | None) -> int:
    """The last step at the full rate: of a model that did not settle in time, the last from which annealing fits."""
    return last_step(recipe, settled) - recipe.schedule.anneal


def multiplier(recipe: Recipe, step: int, settled: int | None) -> float:
    """The part of the full learning rate at a step (from 1)."""
    schedule = recipe.schedule
    start = falls_from(recipe, settled)
    if step > start:
        share = min(1.0, (step - start) / schedule.anneal)
        return schedule.drop + (schedule.final - schedule.drop) * share
    return min(1.0, step / schedule.warmup) if schedule.warmup else 1.0


def evaluation_steps(every: int, last: int) -> set[int]:
    """Steps at which to evaluate: log-spaced until the spacing reaches ``every``, then evenly."""
    steps, step = set(range(every, last + 1, every)), 1
    while step < min(every, last + 1):
        steps.add(step)
        step = math.ceil(step * 1.5)
    return steps


class Batches:
    """Row indices of every batch, a pure function of the step, so that a resumed run sees the same batches.

    Rows come in passes over all of them, each pass in its own random order, cut into batches without a seam: after
    any number of steps no row has been seen more than once more often than another.
    """

    def __init__(self, rows: Tensor, size: int, seed: int) -> None:
        self.rows, self.size, self.seed = rows, size, seed
        self._orders: dict[int, Tensor] = {}

    def _order(self, epoch: int) -> Tensor:
        import torch

        if epoch not in self._orders:
            self._orders = {e: o for e, o in self._orders.items() if e == epoch - 1}
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
            self._orders[epoch] = self.rows[torch.randperm(len(self.rows), generator=generator)]
        return self._orders[epoch]

    def __getitem__(self, step: int) -> Tensor:
        import torch

        position, parts, missing = step * self.size, [], self.size
        while missing:
            epoch, start = divmod(position, len(self.rows))
            part = self._order(epoch)[start : start + missing]
            parts.append(part)
            position += len(part)
            missing -= len(part)
        return torch.cat(parts)
