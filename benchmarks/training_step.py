"""What each choice of the training step is worth, as ratios measured in one process.

    python benchmarks/training_step.py [--model gpt2-nano] [--rounds 7]

Variants take turns, so that a change of the machine's speed during the run hits all of them alike; the median of the
rounds is shown.
"""

from __future__ import annotations

import argparse
import inspect
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from rote_bench import plugins
from rote_bench.encoding import Encoded, build_tokenizer, encode
from rote_bench.evaluation import autocast
from rote_bench.machine import choose_precision, keep_memory
from rote_bench.models.compiling import compiled
from rote_bench.models.load import FromConfig, ModelRequest
from rote_bench.models.statespace import quicken
from rote_bench.spec.loader import load_task
from rote_bench.spec.options import build
from rote_bench.training.loop import answer_loss
from rote_bench.training.optimizers import make_optimizer


def torch_muon(model: torch.nn.Module) -> list[torch.optim.Optimizer]:
    """torch's own Muon on the same matrices, AdamW on the rest."""
    ours = make_optimizer(model, kind="muon", muon_lr=1e-3, adam_lr=1e-3, weight_decay=0.01)
    groups = {g["algorithm"]: g["params"] for g in ours.param_groups}
    return [
        torch.optim.Muon(groups["muon"], lr=1e-3, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups["adamw"], lr=1e-3, betas=(0.9, 0.98)),
    ]


def variant(
    model_name: str,
    data: Encoded,
    vocabulary: int,
    *,
    precision: str,
    optimizer: Any,
    activation: str,
    size: int,
    muon: str | None = None,
    by_compiler: bool = False,
    general: bool = False,
) -> Callable[[], None]:
    request = ModelRequest(model_name, vocabulary, 16, pad_token_id=0, overrides={"activation": activation})
    model = FromConfig().load(request).model.train()
    quicken(model)
    if optimizer == "torch":
        optimizers: list[Any] = torch_muon(model)
    else:
        kinds: dict[str, Any] = {"kind": optimizer, "precision": muon or precision}
        optimizers = [make_optimizer(model, muon_lr=1e-3, adam_lr=1e-3, weight_decay=0.01, **kinds)]
    batch = data.rows(slice(size))
    network = compiled(model) if by_compiler else model

    def step() -> None:
        with autocast("cpu", precision):
            loss = answer_loss(network, batch)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for one in optimizers:
            one.step()
            one.zero_grad(set_to_none=True)

    return as_transformers_has_it(model, step) if general else step


def as_transformers_has_it(model: torch.nn.Module, step: Callable[[], None]) -> Callable[[], None]:
    """The step with the scan and convolution that ``quicken`` replaced."""
    namespaces = [vars(sys.modules[source]) for source in {type(module).__module__ for module in model.modules()}]
    quick = [
        (space, name, value) for space in namespaces for name, value in space.items() if hasattr(value, "quickened")
    ]

    def slow_step() -> None:
        for space, name, value in quick:
            space[name] = inspect.unwrap(value)
        step()
        for space, name, value in quick:
            space[name] = value

    return slow_step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gpt2-nano")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    keep_memory()
    torch.set_num_threads(options.threads)
    registry = plugins.load()
    spec = load_task("thr", registry)
    cls = registry.table("tasks")[spec.generator]
    task = cls(build(cls.Parameters, spec.parameters), 0)
    tokenizer = build_tokenizer(task.words())
    data = encode(tokenizer, [task.example(i) for i in range(512)], named=False)
    chosen: dict[str, Any] = {
        "precision": choose_precision("auto", "cpu"),
        "optimizer": "muon",
        "activation": "relu",
        "size": 512,
    }
    variants: dict[str, dict[str, Any]] = {
        "as shipped": {},
        "float32 arithmetic": {"precision": "float32"},
        "bfloat16 arithmetic": {"precision": "bfloat16"},
        "float32, Muon's bfloat16": {"precision": "float32", "muon": "bfloat16"},
        "by torch.compile": {"by_compiler": True},
        "transformers' own scan": {"general": True},
        "torch.optim.Muon": {"optimizer": "torch"},
        "AdamW alone": {"optimizer": "adamw"},
        "GPT-2's own activation": {"activation": "gelu_new"},
    }
    steps = {n: variant(options.model, data, len(tokenizer), **{**chosen, **v}) for n, v in variants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(options.rounds + 2):
        for name, step in steps.items():
            before = time.perf_counter()
            step()
            if round_ >= 2:
                seconds[name].append(time.perf_counter() - before)
    base = statistics.median(seconds["as shipped"])
    print(f"{options.model}, {chosen['precision']} as shipped, 512 questions a step, {options.threads} thread(s),")
    print(f"median of {options.rounds} rounds")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"  {name:24s} {1000 * median:8.1f} ms   {median / base:5.2f} x")


if __name__ == "__main__":
    main()
