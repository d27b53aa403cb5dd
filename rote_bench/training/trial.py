"""Whether compiled steps are worth having: a few of each kind are timed before training begins."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from ..encoding import Encoded
from ..errors import UserError
from ..evaluation import autocast
from .distributed import Processes
from .loop import ALONE, answer_loss

ROUNDS = 3
SLOWER = 1.05  # what is nearer to 1 cannot be told from a busy machine


def try_compiled(
    model: Any,
    compiled: Callable[..., Any],
    data: Encoded,
    size: int,
    precision: str,
    *,
    processes: Processes = ALONE,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Compile the model for its training, and refuse where its passes forward and back then take longer than before.

    The two kinds take turns, and the shortest of each counts. The model is left as it was.

    Args:
        data: all training rows, on the model's device.
        size: rows in a batch.
        processes: those that share a batch; what the first finds holds for all.

    Raises:
        UserError: with the ratio that was measured.
    """
    batch = data.rows(slice(size))
    batch = Encoded(processes.part(batch.input_ids), processes.part(batch.targets), {})
    columns = batch.scored
    width = int(columns[-1]) + 1 if len(columns) else 0
    short = Encoded(batch.input_ids[:, :width], batch.targets[:, :width], {})
    ways = ((model, short, columns), (compiled, batch, data.scored))  # compiled code has one shape

    def passes(network: Callable[..., Any], rows: Encoded, at: torch.Tensor) -> float:
        _wait(rows.input_ids.device)
        before = clock()
        with autocast(rows.input_ids.device, precision):
            loss = answer_loss(network, rows, columns=at)
        torch.autograd.backward(loss)
        _wait(rows.input_ids.device)
        return clock() - before

    was_training, buffers = model.training, [buffer.clone() for buffer in model.buffers()]
    model.train()
    taken = [[passes(*way) for way in ways] for _ in range(ROUNDS + 1)][1:]  # the first compiles
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for buffer, before in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(before)
    model.train(was_training)
    plain, other = (min(times) for times in zip(*taken, strict=True))
    ratio = processes.agree(other / plain)
    if ratio > SLOWER:
        raise UserError(
            f"compiled steps take {ratio:.2f} times as long as plain ones here", where="--compile", hint="leave it out"
        )


def _wait(device: torch.device) -> None:
    """Until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
