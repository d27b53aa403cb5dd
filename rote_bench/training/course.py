"""One training in progress: which rows come next, at which rate, when to evaluate, and what is kept of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ..encoding import IGNORED
from ..machine import cpu_seconds
from .curve import Evaluation, Levels
from .schedule import Batches, evaluation_steps, last_step, multiplier, settled_at
from .state import Standing

if TYPE_CHECKING:
    from ..encoding import Encoded
    from ..spec.model import Recipe


@dataclass(frozen=True)
class Trained:
    """What training leaves behind.

    Attributes:
        curve: every evaluation.
        steps: optimizer steps done.
        stop_reason: ``memorized`` or ``budget``.
        pre_step: the step of the pre-memorization snapshot; its weights are in ``pre_state``. None where no evaluation
            precedes memorization, and in processes that only help.
        pre_state: parameters and buffers at that step.
        tokens_seen, examples_seen: totals over all steps.
        seconds: wall time of the loop, evaluations included, over all resumed parts.
        evaluation_seconds: the part of it spent on evaluations.
        earlier_seconds: the part of it spent before this call, which went on from a saved state.
        cpu, evaluation_cpu, earlier_cpu: the same in seconds of processor time.
        stacked: how many models were trained as one; None for one trained by itself.
    """

    curve: Sequence[Evaluation]
    steps: int
    stop_reason: Literal["memorized", "budget"]
    pre_step: int | None
    pre_state: Mapping[str, Tensor]
    examples_seen: int
    tokens_seen: int
    seconds: float
    evaluation_seconds: float
    earlier_seconds: float
    cpu: float
    evaluation_cpu: float
    earlier_cpu: float
    stacked: int | None = None

    @property
    def snapshots(self) -> dict[str, int]:
        """Name -> step of the snapshots that there are."""
        before = {} if self.pre_step is None else {"pre_memorization": self.pre_step}
        return {**before, "post_memorization": self.steps}

    def without_pre(self, share: float) -> str:
        """Why there is no pre-memorization snapshot, in words.

        Args:
            share: of the final accuracy, that one needs.
        """
        return without_pre(self.curve, share)


def without_pre(curve: Sequence[Evaluation], share: float) -> str:
    """Why a training that left such a curve has no pre-memorization snapshot, in words.

    Args:
        share: of the final accuracy, that one needs.
    """
    final = curve[-1]
    if final.memorization_rate is None:
        return "no evaluation precedes memorization: there are no noisy labels at this noise rate"
    return (
        f"no evaluation precedes memorization: none of the {len(curve) - 1} before the end has {share:g} of"
        f" the final accuracy ({final.selection_accuracy or 0.0:.3f}) and gives less than half of the noisy labels"
        f" that the end gives ({final.memorization_rate:.3f})"
    )


class Course:
    """One training in progress.

    Args:
        data: all training rows, encoded with the labels taught.
        rows: indices into ``data``, an index twice when its row is seen twice per pass.
        at: how far it is.
        settle: the last step at the full learning rate; None waits for the recipe's event.
        progress: called with (step, steps in all, last evaluation).
        record: called with each evaluation as it is made, and at once with those made before.

    Attributes:
        settled, total: the last step at the full learning rate, and the last of all, as far as they are known.
    """

    def __init__(
        self,
        data: Encoded,
        rows: Tensor,
        recipe: Recipe,
        at: Standing,
        *,
        seed: int,
        settle: int | None,
        progress: Callable[[int, int, Evaluation | None], None],
        record: Callable[[Evaluation], None],
    ) -> None:
        self.data, self.recipe, self.at = data, recipe, at
        self.rows, self.settle, self.progress, self.record = len(rows), settle, progress, record
        self.size = min(recipe.batch_size, len(rows))
        self._order = Batches(rows, self.size, seed)
        self._when = evaluation_steps(recipe.evaluate_every, recipe.max_steps)
        self.lengths = (data.targets != IGNORED).int().cumsum(1).argmax(1) + 1
        for point in at.curve:
            record(point)
        self._look()

    def _look(self) -> None:
        self.settled = settled_at(self.at.curve, self.recipe.schedule, self.settle)
        self.total = last_step(self.recipe, self.settled)

    @property
    def over(self) -> bool:
        """Whether there is nothing left to learn."""
        return self.at.step >= self.total or self.at.stop_reason != "budget"

    @property
    def due(self) -> bool:
        """Whether an evaluation follows the step just done."""
        return self.at.step in self._when or self.at.step >= self.total

    @property
    def multiplier(self) -> float:
        """The part of the full learning rate at the next step."""
        return multiplier(self.recipe, self.at.step + 1, self.settled)

    def batch(self) -> Tensor:
        """(size,) rows of ``data`` that the next step learns."""
        return self._order[self.at.step]

    def stepped(self, loss: Tensor, width: int) -> None:
        """Keep account of a step on so many tokens a row; says how far it is where no evaluation follows."""
        self.at.running.append(loss)
        self.at.step += 1
        self.at.tokens += self.size * width
        if not self.due:
            self.progress(self.at.step, self.total, self.at.curve[-1] if self.at.curve else None)

    def mean_loss(self, total: Callable[[Tensor], Tensor] = lambda part: part) -> float:
        """The mean over the steps since the last evaluation, which are then forgotten.

        Args:
            total: sums what several processes have a part of.

        Raises:
            FloatingPointError: when it is not finite.
        """
        mean = float(total(torch.stack(self.at.running).mean()))
        self.at.running.clear()
        if not math.isfinite(mean):
            raise FloatingPointError(f"the loss is not finite at step {self.at.step}; lower the learning rate")
        return mean

    def evaluated(
        self,
        levels: Levels,
        *,
        loss: float,
        lr: float,
        before: tuple[float, float],
        weights: Callable[[], dict[str, Tensor]] | None,
    ) -> None:
        """Record an evaluation, and find out what follows from it.

        Args:
            lr: the learning rate of the last step.
            before: wall and processor seconds when it began.
            weights: a copy of parameters and buffers; None where no snapshots are kept.
        """
        at = self.at
        wall, cpu = before
        at.evaluating += time.monotonic() - wall
        at.evaluating_cpu += cpu_seconds() - cpu
        point = Evaluation(
            step=at.step,
            examples_seen=at.step * self.size,
            epoch=at.step * self.size / self.rows,
            seconds=round(at.seconds, 3),
            loss=loss,
            lr=lr,
            **vars(levels),
        )
        at.curve.append(point)
        self.record(point)
        memorized = point.memorization_rate
        if weights is not None and memorized is not None:
            true, accuracy = point.noisy_true_rate or 0.0, point.selection_accuracy or 0.0
            at.candidates.offer(true, memorized, accuracy, at.step, weights)
        self._look()
        self.progress(at.step, self.total, point)
        if self.recipe.stop_at is not None and memorized is not None and memorized >= self.recipe.stop_at:
            at.stop_reason = "memorized"

    def end(self, save: Callable[[], None] | None, *, stacked: int | None = None) -> Trained:
        """Choose the snapshot and say what training left behind.

        Args:
            save: writes the state, where the one on disk must not need files that are not needed any more; None in
                processes that keep nothing.
        """
        at, chosen = self.at, None
        if save is not None:
            chosen = at.candidates.choose(at.curve[-1], self.recipe.snapshot_share)
            save()
            at.candidates.tidy()
        return Trained(
            curve=at.curve,
            steps=at.step,
            stop_reason=at.stop_reason,
            pre_step=None if chosen is None else chosen[0],
            pre_state={} if chosen is None else chosen[1],
            examples_seen=at.step * self.size,
            tokens_seen=at.tokens,
            seconds=at.seconds,
            evaluation_seconds=at.evaluating,
            earlier_seconds=at.earlier,
            cpu=at.cpu,
            evaluation_cpu=at.evaluating_cpu,
            earlier_cpu=at.earlier_cpu,
            stacked=stacked,
        )
