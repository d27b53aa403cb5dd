"""Greedy answers of a model, by teacher forcing (exact match) and by decoding (the answer's text)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .encoding import IGNORED, Encoded
from .models.columns import PARAMETER, selective
from .rendering import end_asked

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


def forward(model: Any, input_ids: Tensor, columns: Tensor | None = None) -> Tensor:
    """Logits (n, length, vocabulary) of a causal language model, or (n, columns, vocabulary) at some token indices.

    A model of a large vocabulary that was proved to can leave the other logits out, which saves their time and memory.

    Args:
        input_ids: (n, length).
        columns: (columns,) the token indices of which logits are wanted, in order.
    """
    if columns is not None and selective(model):
        chosen: Tensor = model(input_ids=input_ids, **{PARAMETER: columns}).logits
        return chosen
    logits: Tensor = model(input_ids=input_ids).logits
    return logits if columns is None else logits.index_select(1, columns)


def scored(encodings: Sequence[Encoded]) -> Tensor:
    """(columns,) the token indices, in order, at which some of the encodings predicts a token of an answer."""
    columns: Tensor = torch.unique(torch.cat([e.scored for e in encodings]))
    return columns


def alike(encodings: Mapping[str, Encoded]) -> list[dict[str, Encoded]]:
    """Encodings in groups that share their input ids, as those of one-token answers do: one run serves each group."""
    groups: list[dict[str, Encoded]] = []
    for name, encoded in encodings.items():
        for group in groups:
            if torch.equal(next(iter(group.values())).input_ids, encoded.input_ids):
                group[name] = encoded
                break
        else:
            groups.append({name: encoded})
    return groups


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
            parts = [e.rows(rows).to(device) for e in encodings]
            together = scored([part for part, same in zip(parts, shared, strict=True) if same])
            logits = forward(model, parts[0].input_ids, together)
            for i, part in enumerate(parts):
                columns = together if shared[i] else part.scored
                own = logits if shared[i] else forward(model, part.input_ids, columns)
                hits[i].append(part.correct(own, columns).cpu())
    model.train(was_training)
    return [torch.cat(h) for h in hits]


def decode(
    model: Any, tokenizer: PreTrainedTokenizerBase, encodings: Sequence[Encoded], *, batch_size: int = BATCH
) -> tuple[list[str], list[Tensor], Tensor]:
    """What a model says, and which of the answers encoded for the same prompts that is.

    It is asked for as many tokens as the longest of an example's answers has. What follows an answer that it gives is
    cut off: nothing tells it where to stop, unless an end is asked for behind answers, which is no part of the text.

    Returns:
        The texts; for each encoding (n,) bool: that answer is given, token by token; and (n,) bool: some logit where a
        token is chosen is NaN, so that nothing is said from there on.
    """
    device = next(model.parameters()).device
    width = max(e.max_length for e in encodings)
    end = end_asked(tokenizer)
    texts: list[str] = []
    given: list[list[Tensor]] = [[] for _ in encodings]
    broken: list[Tensor] = []
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for rows in batches(len(encodings[0]), batch_size):
            parts = [e.rows(rows).to(device) for e in encodings]
            first = parts[0]
            counts = torch.stack([(part.needed != IGNORED).sum(1) for part in parts])
            longest = counts.max(0).values
            ids = torch.nn.functional.pad(first.input_ids, (0, width - first.max_length))
            index = torch.arange(len(first), device=device)
            said = torch.full((len(first), int(longest.max())), IGNORED, device=device)
            silent = torch.zeros(len(first), dtype=torch.bool, device=device)
            for k in range(said.shape[1]):
                at = (first.positions["last"] + k).clamp(max=width - 1)
                columns, column = torch.unique(at, return_inverse=True)
                logits = forward(model, ids, columns)[index, column]
                silent |= logits.isnan().any(-1) & (k < longest)
                token = logits.argmax(-1)
                said[:, k] = token.where((k < longest) & ~silent, IGNORED)
                more = k + 1 < longest
                ids[index[more], at[more] + 1] = token[more]
            hits = torch.stack([_begins_with(said, part) for part in parts])
            answered = (counts * hits).max(0).values
            if first.free is not None:  # of an answer and one that begins with it the longer one is given
                hits &= counts == answered
            lengths = answered.where(answered > 0, longest)
            for row, length in zip(said.tolist(), lengths.tolist(), strict=True):
                words = row[:length] if end not in row else row[: min(length, row.index(end))]
                words = [word for word in words if word != IGNORED]
                texts.append(" ".join(str(tokenizer.decode(words)).split()))
            for found, hit in zip(given, hits, strict=True):
                found.append(hit.cpu())
            broken.append(silent.cpu())
    model.train(was_training)
    return texts, [torch.cat(found) for found in given], torch.cat(broken)


def _begins_with(said: Tensor, answers: Encoded) -> Tensor:
    """(n,) bool: the first of the tokens said (n, k) are the row's answer."""
    at = answers.positions["last"][:, None] + torch.arange(said.shape[1], device=said.device)
    wanted = answers.needed.gather(1, at.clamp(max=answers.max_length - 1))
    wanted = wanted.where(at < answers.max_length, IGNORED)
    return ((said == wanted) | (wanted == IGNORED)).all(1)
