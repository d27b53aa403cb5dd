"""The training loop: fixed batches, four curves, two snapshots, resumable at every evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..encoding import IGNORED, Encoded
from ..evaluation import autocast, forward
from ..machine import cpu_seconds
from .curve import Evaluation, Levels
from .distributed import Processes
from .optimizers import make_optimizer
from .schedule import Batches, evaluation_steps, last_step, multiplier, settled_at
from .state import SavedState

if TYPE_CHECKING:
    from ..spec.model import Recipe

ALONE = Processes()
SNAPSHOT_RULE = (
    "pre_memorization is the evaluation with the largest P(true answer) - P(noisy label) on the noisy training examples"
    " among those before the end whose accuracy on the selection split is at least {share:g} of its final value and"
    " that give less than half of the noisy labels that the end gives; without one there is no such snapshot;"
    " post_memorization is the end of training"
)


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
    cpu: float = 0.0
    evaluation_cpu: float = 0.0
    earlier_cpu: float = 0.0

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
        final = self.curve[-1]
        if final.memorization_rate is None:
            return "no evaluation precedes memorization: there are no noisy labels at this noise rate"
        return (
            f"no evaluation precedes memorization: none of the {len(self.curve) - 1} before the end has {share:g} of"
            f" the final accuracy ({final.selection_accuracy or 0.0:.3f}) and gives less than half of the noisy labels"
            f" that the end gives ({final.memorization_rate:.3f})"
        )


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of all parameters and buffers on the CPU."""
    return {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}


def answer_loss(model: Any, batch: Encoded, tokens: int | None = None, *, columns: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of the answer tokens, in nats; the prompt is not learned.

    Args:
        tokens: how many answer tokens to divide by: those of the whole batch where this is a part of it.
        columns: the token indices at which to compute logits, ``batch.scored`` among them; just those when None.
    """
    columns = batch.scored if columns is None else columns
    logits, targets = forward(model, batch.input_ids, columns), batch.targets[:, columns]
    wanted = targets != IGNORED
    if not bool(wanted.all()):
        logits, targets = logits[wanted], targets[wanted]
    logits, targets = logits.flatten(0, -2).float(), targets.flatten()
    if tokens is None:
        return F.cross_entropy(logits, targets)
    return F.cross_entropy(logits, targets, reduction="sum") / tokens


def train(
    model: Any,
    data: Encoded,
    rows: Tensor,
    recipe: Recipe,
    evaluate: Callable[[], Levels],
    *,
    seed: int,
    precision: str,
    settle: int | None = None,
    compiled: Callable[..., Any] | None = None,
    progress: Callable[[int, int, Evaluation | None], None],
    record: Callable[[Evaluation], None],
    checkpoint: Path | None = None,
    identity: str = "",
    checkpoint_seconds: float = 30.0,
    stop_requested: Callable[[], bool] = lambda: False,
    processes: Processes = ALONE,
) -> Trained:
    """Train to the end of the schedule, or until the noisy labels are memorised where the recipe says so.

    Args:
        data: all training rows, encoded with the labels taught, on the model's device.
        rows: indices into ``data``, an index twice when its row is seen twice per pass.
        evaluate: the curves at this moment.
        settle: the last step at the full learning rate; None waits for the recipe's event.
        compiled: computes the model's logits in training steps; the model itself when None.
        progress: called with (step, steps in all, last evaluation).
        record: called with each evaluation as it is made.
        checkpoint: file for the state from which an interrupted run goes on; removed at the end by the caller.
        checkpoint_seconds: least time between two states; longer when writing one takes long.
        identity: a checkpoint of another identity is ignored.
        stop_requested: asked before every step; when true the state is saved and ``KeyboardInterrupt`` raised.
        processes: those that share the work; only the first evaluates, and what it sees decides.

    Raises:
        FloatingPointError: when the loss is no longer finite.
        KeyboardInterrupt: when a stop was requested.
    """
    torch.manual_seed(seed)
    optimizer = make_optimizer(
        model,
        kind=recipe.optimizer,
        muon_lr=recipe.learning_rate,
        adam_lr=recipe.adam_learning_rate,
        weight_decay=recipe.weight_decay,
        precision=precision,
    )
    saved = SavedState(checkpoint, identity, checkpoint_seconds)
    at = saved.read(model, optimizer)
    if processes.first:
        at.candidates.tidy()
    for point in at.curve:
        record(point)
    size = min(recipe.batch_size, len(rows))
    order = Batches(rows, size, seed)
    when = evaluation_steps(recipe.evaluate_every, recipe.max_steps)
    every_column = data.scored
    settled = settled_at(at.curve, recipe.schedule, settle)
    total = last_step(recipe, settled)
    device = data.input_ids.device
    model.train()
    while at.step < total and at.stop_reason == "budget":
        if processes.any(stop_requested(), str(device)):
            if processes.first:
                saved.write(model, optimizer, at)
            raise KeyboardInterrupt
        index = order[at.step].to(device)
        batch = Encoded(data.input_ids[index], data.targets[index], {})
        columns, width = every_column, batch.max_length  # compiled code is made for one shape
        if compiled is None:
            columns = batch.scored
            width = int(columns[-1]) + 1
            batch = Encoded(batch.input_ids[:, :width], batch.targets[:, :width], {})
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * multiplier(recipe, at.step + 1, settled)
        at.running.append(
            _learn(model, compiled or model, optimizer, batch, columns, recipe.clip, precision, processes)
        )
        at.step += 1
        at.tokens += size * width
        if at.step not in when and at.step < total:
            progress(at.step, total, at.curve[-1] if at.curve else None)
            continue
        mean_loss = float(processes.sum(torch.stack(at.running).mean()))
        at.running.clear()
        if not math.isfinite(mean_loss):
            raise FloatingPointError(f"the loss is not finite at step {at.step}; lower the learning rate")
        before, cpu = time.monotonic(), cpu_seconds()
        levels: Levels | None = None
        if processes.first:
            with autocast(device, precision):
                levels = evaluate()
        levels = processes.agree(levels)
        assert levels is not None  # the first process measured them
        at.evaluating += time.monotonic() - before
        at.evaluating_cpu += cpu_seconds() - cpu
        point = Evaluation(
            step=at.step,
            examples_seen=at.step * size,
            epoch=at.step * size / len(rows),
            seconds=round(at.seconds, 3),
            loss=mean_loss,
            lr=float(optimizer.param_groups[0]["lr"]),
            **vars(levels),
        )
        at.curve.append(point)
        record(point)
        memorized = point.memorization_rate
        if processes.first and memorized is not None:
            true, accuracy = point.noisy_true_rate or 0.0, point.selection_accuracy or 0.0
            at.candidates.offer(true, memorized, accuracy, at.step, lambda: weights(model))
        settled = settled_at(at.curve, recipe.schedule, settle)
        total = last_step(recipe, settled)
        progress(at.step, total, point)
        if recipe.stop_at is not None and memorized is not None and memorized >= recipe.stop_at:
            at.stop_reason = "memorized"
        elif processes.first and at.step < total and saved.due:
            saved.write(model, optimizer, at)
    chosen = None
    if processes.first:
        chosen = at.candidates.choose(at.curve[-1], recipe.snapshot_share)
        if at.candidates.saved:  # the state on disk needs files that are not needed any more
            saved.write(model, optimizer, at)
        at.candidates.tidy()
    model.eval()
    return Trained(
        curve=at.curve,
        steps=at.step,
        stop_reason=at.stop_reason,
        pre_step=None if chosen is None else chosen[0],
        pre_state={} if chosen is None else chosen[1],
        examples_seen=at.step * size,
        tokens_seen=at.tokens,
        seconds=at.seconds,
        evaluation_seconds=at.evaluating,
        earlier_seconds=at.earlier,
        cpu=at.cpu,
        evaluation_cpu=at.evaluating_cpu,
        earlier_cpu=at.earlier_cpu,
    )


def _learn(
    model: torch.nn.Module,
    network: Callable[..., Any],
    optimizer: torch.optim.Optimizer,
    batch: Encoded,
    columns: Tensor,
    clip: float | None,
    precision: str,
    processes: Processes,
) -> Tensor:
    """One step on a batch, or on this process's part of it; returns the loss before it."""
    tokens = None
    if processes.count > 1:
        tokens = int((batch.targets != IGNORED).sum())
        batch = Encoded(processes.part(batch.input_ids), processes.part(batch.targets), {})
    parameters = list(model.parameters())
    with autocast(batch.input_ids.device, precision):
        loss = answer_loss(network, batch, tokens, columns=columns)
    torch.autograd.backward(loss)
    processes.sum_gradients(parameters)
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(parameters, clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()
