"""Other ways to train the same model on the same batch: the loop of a tutorial, the Trainer, and the best we can write.

Each gives a step, a call that measures itself or is to be measured. All take AdamW and the same arithmetic.
"""

from __future__ import annotations

import copy
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rote_bench.encoding import IGNORED, Encoded

Step = Callable[[], float | None]
RATE, BETAS, DECAY, CLIP = 1e-3, (0.9, 0.98), 0.01, 1.0


def casting(precision: str) -> Any:
    """Autocast where the arithmetic is bfloat16."""
    return torch.autocast("cpu", dtype=torch.bfloat16) if precision == "bfloat16" else nullcontext()


def fused(model: nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=RATE, betas=BETAS, weight_decay=DECAY, fused=True)


def tutorial(model: Any, batch: Encoded, precision: str) -> Step:
    """Autocast, the loss of the Hugging Face model with labels, clipping, fused AdamW."""
    model = copy.deepcopy(model).train()
    optimizer = fused(model)

    def step() -> None:
        with casting(precision):
            loss = model(input_ids=batch.input_ids, labels=batch.targets, shift_labels=batch.targets).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def trainer(model: Any, batch: Encoded, precision: str, steps: int = 4) -> Step:
    """The Trainer of transformers over a list of tensors; a step is the mean of several, between their ends."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            ends.append(time.process_time())

    model = copy.deepcopy(model)
    rows = [
        {"input_ids": ids, "labels": wanted, "shift_labels": wanted}
        for ids, wanted in zip(batch.input_ids, batch.targets, strict=True)
    ]
    chosen = TrainingArguments(
        tempfile.gettempdir(),  # where nothing is saved
        per_device_train_batch_size=len(rows),
        max_steps=steps + 1,
        learning_rate=RATE,
        weight_decay=DECAY,
        max_grad_norm=CLIP,
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        optim="adamw_torch_fused",
        bf16=precision == "bfloat16",
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )

    def step() -> float:
        ends.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Trainer(model=model, args=chosen, train_dataset=rows, callbacks=[Clock()]).train()
        return (ends[-1] - ends[0]) / steps

    return step


class Block(nn.Module):
    """A block of GPT-2 with plain attention, whose weights are those of a Hugging Face block."""

    def __init__(self, block: Any, heads: int, activation: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
        super().__init__()
        self.norms = nn.ModuleList([block.ln_1, block.ln_2])
        self.layers = nn.ModuleList([block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj])
        self.heads, self.activation, self.dtype = heads, activation, dtype

    def linear(self, which: int, x: Tensor) -> Tensor:
        layer: Any = self.layers[which]
        out = torch.addmm(layer.bias.to(self.dtype), x.flatten(0, -2), layer.weight.to(self.dtype))
        return out.view(*x.shape[:-1], -1)

    def normed(self, which: int, x: Tensor) -> Tensor:
        return self.norms[which](x).to(self.dtype)  # type: ignore[no-any-return]

    def forward(self, x: Tensor, bias: Tensor, at: Tensor | None) -> Tensor:
        """(batch, length, width), or (batch, width) at one position each where that is all that is asked for."""
        n, length, width = x.shape
        q, k, v = self.linear(0, self.normed(0, x)).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if at is not None:
            rows = torch.arange(n)
            q, bias, x = q[rows, :, at].unsqueeze(2), bias[at][:, None, None], x[rows, at].unsqueeze(1)
        scores = (q @ k.mT) * (q.shape[-1] ** -0.5) + bias
        mixed = scores.float().softmax(-1).to(self.dtype) @ v
        x = x + self.linear(1, mixed.transpose(1, 2).reshape(n, -1, width))
        x = x + self.linear(3, self.activation(self.linear(2, self.normed(1, x))))
        return x if at is None else x.squeeze(1)


class Plain(nn.Module):
    """GPT-2 written out, with the weights of a Hugging Face model: the answer's logits and nothing else."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        super().__init__()
        inner, config = model.transformer, model.config
        self.tokens, self.places, self.norm, self.dtype = inner.wte, inner.wpe, inner.ln_f, dtype
        activation = inner.h[0].mlp.act
        self.blocks = nn.ModuleList([Block(block, config.n_head, activation, dtype) for block in inner.h])

    def forward(self, ids: Tensor, at: Tensor) -> Tensor:
        """(batch, vocabulary) logits at one position of each row."""
        length = ids.shape[1]
        bias = torch.full((length, length), -1e4, dtype=self.dtype).triu(1)
        x = self.tokens(ids) + self.places.weight[:length]
        for block in self.blocks[:-1]:
            x = block(x, bias, None)
        x = self.blocks[-1](x, bias, at)
        return F.linear(self.norm(x).to(self.dtype), self.tokens.weight.to(self.dtype))


def plain(model: Any, batch: Encoded, precision: str) -> Step:
    """No autocast, attention in a few products, last block and unembedding at the answer only, fused AdamW.

    Raises:
        ValueError: for another architecture than GPT-2, or for answers of several tokens.
    """
    if model.config.model_type != "gpt2":
        raise ValueError("the loop is written for GPT-2")
    wanted = batch.targets != IGNORED
    if not bool((wanted.sum(1) == 1).all()):
        raise ValueError("the loop is written for answers of one token")
    at, answers = wanted.int().argmax(1), batch.targets[wanted]
    network = Plain(copy.deepcopy(model), getattr(torch, precision)).train()
    optimizer = fused(network)

    def step() -> None:
        loss = F.cross_entropy(network(batch.input_ids, at).float(), answers)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
