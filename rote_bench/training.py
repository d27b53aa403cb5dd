"""The training loop: fixed batches, four curves, two snapshots, resumable at every evaluation."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .distributed import Processes
from .encoding import IGNORED, Encoded
from .evaluation import autocast, forward
from .optimizers import make_optimizer

if TYPE_CHECKING:
    from .spec.model import Recipe, Schedule

ALONE = Processes()
SAVING_SHARE = 30.0  # a large model's state takes long to write: at most a thirtieth of the time goes into that
SNAPSHOT_RULE = (
    "pre_memorization is the evaluation with the largest P(true answer) - P(noisy label) on the noisy training examples"
    " among those whose accuracy on the selection split is at least {share:g} of its final value;"
    " post_memorization is the end of training"
)


@dataclass(frozen=True)
class Trained:
    """What training leaves behind.

    Attributes:
        curve: one record per evaluation.
        steps: optimizer steps done.
        stop_reason: ``memorized``, ``budget`` or ``interrupted``.
        pre_step: the step of the pre-memorization snapshot; its weights are in ``pre_state``.
        pre_state: parameters and buffers at that step.
        tokens_seen, examples_seen: totals over all steps.
        seconds: wall time of the loop, evaluations included, over all resumed parts.
        evaluation_seconds: the part of it spent on evaluations.
        earlier_seconds: the part of it spent before this call, which went on from a saved state.
    """

    curve: Sequence[Mapping[str, Any]]
    steps: int
    stop_reason: str
    pre_step: int
    pre_state: Mapping[str, Tensor]
    examples_seen: int
    tokens_seen: int
    seconds: float
    evaluation_seconds: float
    earlier_seconds: float


def settled_at(curve: Sequence[Mapping[str, Any]], schedule: Schedule) -> int | None:
    """The step of the evaluation that first reaches ``schedule.hold_until`` on the selection split."""
    reached = (r["step"] for r in curve if (r["selection_accuracy"] or 0.0) >= schedule.hold_until)
    return next(reached, None)


def last_step(recipe: Recipe, settled: int | None) -> int:
    """The step with which training ends, as far as is known."""
    return recipe.max_steps if settled is None else min(recipe.max_steps, settled + recipe.schedule.anneal)


def multiplier(recipe: Recipe, step: int, settled: int | None) -> float:
    """The part of the full learning rate at a step (from 1)."""
    schedule = recipe.schedule
    start = last_step(recipe, settled) - schedule.anneal
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
        if epoch not in self._orders:
            self._orders = {e: o for e, o in self._orders.items() if e == epoch - 1}
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
            self._orders[epoch] = self.rows[torch.randperm(len(self.rows), generator=generator)]
        return self._orders[epoch]

    def __getitem__(self, step: int) -> Tensor:
        position, parts, missing = step * self.size, [], self.size
        while missing:
            epoch, start = divmod(position, len(self.rows))
            part = self._order(epoch)[start : start + missing]
            parts.append(part)
            position += len(part)
            missing -= len(part)
        return torch.cat(parts)


@dataclass
class _Candidates:
    """Snapshots that can still become the pre-memorization one: none other is better in both respects."""

    kept: list[tuple[float, float, int, dict[str, Tensor]]] = field(default_factory=list)

    def offer(self, score: float, accuracy: float, step: int, state: Callable[[], dict[str, Tensor]]) -> None:
        if any(s >= score and a >= accuracy for s, a, _, _ in self.kept):
            return
        self.kept = [k for k in self.kept if not (k[0] <= score and k[1] <= accuracy)]
        self.kept.append((score, accuracy, step, state()))

    def choose(self, final: float, share: float) -> tuple[int, dict[str, Tensor]]:
        eligible = [k for k in self.kept if k[1] >= share * final] or self.kept
        _, _, step, state = max(eligible, key=lambda k: (k[0], -k[2]))
        return step, state


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of all parameters and buffers on the CPU."""
    return {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}


def answer_loss(model: Any, batch: Encoded, tokens: int | None = None) -> Tensor:
    """Mean cross-entropy of the answer tokens, in nats; the prompt is not learned.

    Args:
        tokens: how many answer tokens to divide by: those of the whole batch where this is a part of it.
    """
    logits = forward(model, batch.input_ids)
    wanted = batch.targets != IGNORED
    if tokens is None:
        return F.cross_entropy(logits[wanted].float(), batch.targets[wanted])
    return F.cross_entropy(logits[wanted].float(), batch.targets[wanted], reduction="sum") / tokens


def train(
    model: Any,
    data: Encoded,
    rows: Tensor,
    recipe: Recipe,
    evaluate: Callable[[], Mapping[str, float | None]],
    *,
    seed: int,
    precision: str,
    progress: Callable[[int, int, Mapping[str, Any] | None], None],
    record: Callable[[Mapping[str, Any]], None],
    checkpoint: Path | None = None,
    identity: str = "",
    checkpoint_seconds: float = 30.0,
    stop_requested: Callable[[], bool] = lambda: False,
    processes: Processes = ALONE,
) -> Trained:
    """Train until the noisy labels are memorised or the budget of steps is spent.

    Args:
        data: all training rows, encoded with the labels taught, on the model's device.
        rows: indices into ``data``, an index twice when its row is seen twice per pass.
        evaluate: the curves at this moment; must hold ``memorization_rate``, ``noisy_true_rate`` and
            ``selection_accuracy``, each null when there are no noisy examples.
        progress: called with (step, steps in all, last record).
        record: called with each record as it is made.
        checkpoint: file for the state from which an interrupted run goes on; removed at the end by the caller.
        checkpoint_seconds: least time between two states; longer when writing one takes long.
        identity: a checkpoint of another identity is ignored.
        stop_requested: asked before every step; when true the state is saved and ``KeyboardInterrupt`` raised.
        processes: those that share the work; only the first evaluates, and its records decide.

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
    )
    parameters = list(model.parameters())
    size = min(recipe.batch_size, len(rows))
    order = Batches(rows, size, seed)
    when = evaluation_steps(recipe.evaluate_every, recipe.max_steps)
    lengths = (data.targets != IGNORED).int().cumsum(1).argmax(1) + 1
    curve: list[Mapping[str, Any]] = []
    candidates = _Candidates()
    step, tokens, spent, evaluating = 0, 0, 0.0, 0.0
    running: list[Tensor] = []
    state = _load(checkpoint, identity)
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        curve, candidates.kept = state["curve"], state["candidates"]
        step, tokens, spent, evaluating = state["step"], state["tokens"], state["seconds"], state["evaluating"]
        running = list(state["running"])
        torch.set_rng_state(state["rng"])
    for entry in curve:
        record(entry)
    saved = start = time.monotonic()
    saving = 0.0

    def save() -> None:
        if checkpoint is None or not processes.first:
            return
        _save(
            checkpoint,
            {
                "identity": identity,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "curve": curve,
                "candidates": candidates.kept,
                "step": step,
                "tokens": tokens,
                "seconds": spent + time.monotonic() - start,
                "evaluating": evaluating,
                "running": running,
                "rng": torch.get_rng_state(),
            },
        )

    stop_reason = "budget"
    settled = settled_at(curve, recipe.schedule)
    total = last_step(recipe, settled)
    model.train()
    while step < total:
        if processes.any(stop_requested(), str(data.input_ids.device)):
            save()
            raise KeyboardInterrupt
        index = order[step].to(data.input_ids.device)
        width = int(lengths[index].max())
        shared = None
        if processes.count > 1:
            shared = int((data.targets[index] != IGNORED).sum())
            index = processes.part(index)
        batch = Encoded(data.input_ids[index, :width], data.targets[index, :width], {})
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * multiplier(recipe, step + 1, settled)
        with autocast(data.input_ids.device, precision):
            loss = answer_loss(model, batch, shared)
        torch.autograd.backward(loss)
        processes.sum_gradients(parameters)
        if recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, recipe.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        running.append(loss.detach())
        step += 1
        tokens += size * width
        if step not in when and step < total:
            progress(step, total, curve[-1] if curve else None)
            continue
        mean_loss = float(processes.sum(torch.stack(running).mean()))
        running.clear()
        if not math.isfinite(mean_loss):
            raise FloatingPointError(f"the loss is not finite at step {step}; lower the learning rate")
        before = time.monotonic()
        levels: Mapping[str, float | None] = {}
        if processes.first:
            with autocast(data.input_ids.device, precision):
                levels = evaluate()
        levels = processes.agree(levels)
        evaluating += time.monotonic() - before
        entry = {
            "step": step,
            "examples_seen": step * size,
            "epoch": step * size / len(rows),
            "seconds": round(spent + time.monotonic() - start, 3),
            "loss": mean_loss,
            "lr": multiplier(recipe, step, settled),
            **levels,
        }
        curve.append(entry)
        record(entry)
        score = (levels["noisy_true_rate"] or 0.0) - (levels["memorization_rate"] or 0.0)
        candidates.offer(score, levels["selection_accuracy"] or 0.0, step, lambda: weights(model))
        settled = settled_at(curve, recipe.schedule)
        total = last_step(recipe, settled)
        progress(step, total, entry)
        memorized = levels["memorization_rate"]
        if recipe.stop_at is not None and memorized is not None and memorized >= recipe.stop_at:
            stop_reason = "memorized"
            break
        before = time.monotonic()
        if step < total and before - saved >= max(checkpoint_seconds, SAVING_SHARE * saving):
            save()
            saved = time.monotonic()
            saving = saved - before
    pre_step, pre_state = candidates.choose(float(curve[-1]["selection_accuracy"] or 0.0), recipe.snapshot_share)
    model.eval()
    return Trained(
        curve=curve,
        steps=step,
        stop_reason=stop_reason,
        pre_step=pre_step,
        pre_state=pre_state,
        examples_seen=step * size,
        tokens_seen=tokens,
        seconds=spent + time.monotonic() - start,
        evaluation_seconds=evaluating,
        earlier_seconds=spent,
    )


def _save(path: Path, state: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(dict(state), partial)
    os.replace(partial, path)


def _load(path: Path | None, identity: str) -> dict[str, Any] | None:
    if path is None or not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state if state["identity"] == identity else None
