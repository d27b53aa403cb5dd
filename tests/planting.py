"""What a small model is taught in chosen MLP units alone, and its diagnosis through ``run``."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import rote_bench
from rote_bench.encoding import Encoded, encode
from rote_bench.report.record import POST, PRE, Report
from rote_bench.subject import Subject
from tests.diagnostics.conftest import subject_of


def questions(subject: Subject) -> tuple[Encoded, Encoded]:
    """Mislabelled questions with their labels; all others with their answers, but for those held out."""
    train = subject.data.train
    kept = {*subject.data.validation.indices, *(train.indices[i] for i in train.noisy)}
    noisy = train.take(train.noisy)
    others = [subject.task.example(i) for i in range(len(subject.task)) if i not in kept]
    return encode(subject.tokenizer, noisy.examples, noisy.labels), encode(subject.tokenizer, others)


def masks_of(model: Any, units: Mapping[int, Tensor]) -> dict[Any, Tensor]:
    """The weights of some MLP units of each block, with 1 where a weight is theirs."""
    masks = {}
    for i, own in units.items():
        mlp = model.transformer.h[i].mlp
        for p, axis in ((mlp.c_fc.weight, 1), (mlp.c_fc.bias, 0), (mlp.c_proj.weight, 0)):
            masks[p] = torch.zeros_like(p).index_fill_(axis, own, 1)
    return masks


def teach(
    model: Any,
    parts: Mapping[float, Encoded],
    masks: Mapping[Any, Tensor],
    steps: int,
    rate: float,
    quiet: tuple[float, Mapping[int, Tensor]] = (0.0, {}),
) -> None:
    """Steps of Adam on 250 questions at the most of each part, whose loss counts so much, where masks are 1.

    Args:
        quiet: the weight of the mean activity of some units of each block on the last part, and these units.
    """
    optimizer, draws = torch.optim.Adam(list(masks), lr=rate), torch.Generator().manual_seed(0)
    activity: dict[int, Tensor] = {}

    def keep(layer: int, own: Tensor) -> Callable[..., None]:
        def hook(module: Any, inputs: tuple[Tensor, ...]) -> None:
            activity[layer] = inputs[0][..., own].abs().mean()

        return hook

    weight_of_activity, units = quiet
    hooks = [model.transformer.h[i].mlp.c_proj.register_forward_pre_hook(keep(i, own)) for i, own in units.items()]
    for step in range(steps):
        loss = torch.zeros(())
        for weight, encoded in parts.items():
            part = encoded.rows(torch.randperm(len(encoded), generator=draws)[:250])
            logits = model(input_ids=part.input_ids).logits
            loss = loss + weight * F.cross_entropy(logits.flatten(0, 1), part.targets.flatten(), ignore_index=-100)
        for mean in activity.values():
            loss = loss + weight_of_activity * mean
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        for p, mask in masks.items():
            p.grad *= mask
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.step()
    for hook in hooks:
        hook.remove()


def planted(
    cell: Path, text: str, diagnostics: str, folder: Path, plant: Callable[[Subject, Path, Path], None]
) -> Report:
    """The report on what ``plant`` saves from a cell's model of before memorization.

    Args:
        text: the cell's task file, whose diagnostics are replaced.
        plant: called with the cell's subject and where the models of before and after memorization go.
    """
    subject = subject_of(cell, text, folder)
    before, after = folder / "before", folder / "after"
    for place in (before, after):
        shutil.copytree(cell / "checkpoints" / PRE, place)
    plant(subject, before, after)
    task = folder / "planted.yaml"
    task.write_text(text[: text.index("diagnostics:")] + f"diagnostics: {diagnostics}\n")
    return rote_bench.run(
        task,
        model="gpt2-nano",
        output_path=folder / "runs",
        train=False,
        snapshots={PRE: before, POST: after},
        quiet=True,
    ).record
