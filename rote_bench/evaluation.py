"""Greedy answers of a model, by teacher forcing (exact match) and by decoding (the answer's text)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .encoding import IGNORED, Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH = 512


def autocast(device: torch.device | str, precision: str) -> AbstractContextManager[Any]:
    """bfloat16 arithmetic with float32 weights, or nothing for ``float32``."""
    if precision == "bfloat16":
        return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)
    return nullcontext()


def batches(n: int, size: int = BATCH) -> list[slice]:
    """Slices that cover ``range(n)`` in order."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def forward(model: Any, input_ids: Tensor) -> Tensor:
    """Logits (n, length, vocabulary) of a causal language model."""
    logits: Tensor = model(input_ids=input_ids).logits
    return logits


def matches(model: Any, encodings: Sequence[Encoded], *, batch_size: int = BATCH) -> list[Tensor]:
    """For each encoding of the same prompts, (n,) bool on the CPU: the greedy answer is that encoding's answer.

    Encodings that share their input ids, as those of one-token answers do, share one forward pass.
    """
    first = encodings[0]
    shared = [torch.equal(e.input_ids, first.input_ids) for e in encodings]
    device = next(model.parameters()).device
    hits: list[list[Tensor]] = [[] for _ in encodings]
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for rows in batches(len(first), batch_size):
            logits = forward(model, first.input_ids[rows].to(device))
            for i, encoded in enumerate(encodings):
                part = encoded.rows(rows).to(device)
                own = logits if shared[i] else forward(model, part.input_ids)
                hits[i].append(part.correct(own).cpu())
    model.train(was_training)
    return [torch.cat(h) for h in hits]


def decode(
    model: Any, tokenizer: PreTrainedTokenizerBase, encoded: Encoded, *, batch_size: int = BATCH
) -> tuple[list[str], Tensor]:
    """Greedy answers, as many tokens as each true answer has.

    Returns:
        The answers' texts, and (n,) bool: equal to the true answer token by token.
    """
    device = next(model.parameters()).device
    texts: list[str] = []
    right: list[Tensor] = []
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for rows in batches(len(encoded), batch_size):
            part = encoded.rows(rows).to(device)
            counts = (part.targets != IGNORED).sum(1)
            ids = part.input_ids.clone()
            index = torch.arange(len(part), device=device)
            produced = torch.full((len(part), int(counts.max())), IGNORED, device=device)
            ok = torch.ones(len(part), dtype=torch.bool, device=device)
            for k in range(int(counts.max())):
                at = (part.positions["last"] + k).clamp(max=part.max_length - 1)
                token = forward(model, ids)[index, at].argmax(-1)
                active = k < counts
                produced[active, k] = token[active]
                ok &= ~active | (token == part.targets[index, at])
                more = k + 1 < counts
                ids[index[more], at[more] + 1] = token[more]
            for row in produced.tolist():
                texts.append(" ".join(str(tokenizer.decode([t for t in row if t != IGNORED])).split()))
            right.append(ok.cpu())
    model.train(was_training)
    return texts, torch.cat(right)
