"""The training loop: fixed batches, four curves, two snapshots, resumable at every evaluation."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..encoding import IGNORED, Encoded
from ..evaluation import autocast, forward
from ..machine import cpu_seconds
from .course import Course, Trained
from .curve import Evaluation, Levels
from .distributed import Processes
from .optimizers import make_optimizer
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
    warn: Callable[[str], None] = lambda text: None,
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
        stop_requested: asked before every step and after the last; when true the state is saved and
            ``KeyboardInterrupt`` raised.
        processes: those that share the work; only the first evaluates, and what it sees decides.
        warn: told of a state that cannot be gone on from, or cannot be written.

    Raises:
        FloatingPointError: when the loss is no longer finite.
        KeyboardInterrupt: when a stop was requested.
    """
    torch.manual_seed(seed)
    random.seed(seed)  # which a model's own code may draw from, as of a layer that is dropped
    np.random.seed(seed % 2**32)
    optimizer = make_optimizer(
        model,
        kind=recipe.optimizer,
        muon_lr=recipe.learning_rate,
        adam_lr=recipe.adam_learning_rate,
        weight_decay=recipe.weight_decay,
        precision=precision,
    )
    saved = SavedState(checkpoint, identity, checkpoint_seconds, warn if processes.first else lambda text: None)
    at = saved.read(model, optimizer)
    if processes.first:
        at.candidates.tidy()
    course = Course(data, rows, recipe, at, seed=seed, settle=settle, progress=progress, record=record)
    every_column = data.scored
    device = data.input_ids.device
    model.train()

    def heed_stop() -> None:
        if processes.any(stop_requested(), str(device)):
            if processes.first:
                saved.write(model, optimizer, at)
            raise KeyboardInterrupt

    while not course.over:
        heed_stop()
        index = course.batch().to(device)
        batch = Encoded(data.input_ids[index], data.targets[index], {})
        columns, width = every_column, batch.max_length  # compiled code is made for one shape
        if compiled is None:
            columns = batch.scored
            width = int(columns[-1]) + 1
            batch = Encoded(batch.input_ids[:, :width], batch.targets[:, :width], {})
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * course.multiplier
        loss = _learn(model, compiled or model, optimizer, batch, columns, recipe.clip, precision, processes)
        course.stepped(loss, width)
        if not course.due:
            continue
        mean_loss = course.mean_loss(processes.sum)
        before = time.monotonic(), cpu_seconds()
        levels: Levels | None = None
        if processes.first:
            with autocast(device, precision):
                levels = evaluate()
        levels = processes.agree(levels)
        assert levels is not None  # the first process measured them
        course.evaluated(
            levels,
            loss=mean_loss,
            lr=float(optimizer.param_groups[0]["lr"]),
            before=before,
            weights=(lambda: weights(model)) if processes.first else None,
        )
        if processes.first and not course.over and saved.due:
            saved.write(model, optimizer, at)
    heed_stop()

    def save() -> None:
        # what follows may be interrupted too, and a training that took long is not to be done again
        if at.candidates.saved or at.seconds >= checkpoint_seconds:
            saved.write(model, optimizer, at)

    trained = course.end(save if processes.first else None)
    model.eval()
    return trained


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
