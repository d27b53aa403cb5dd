"""A training step beside other loops, and what each choice in it is worth.

    python -m benchmarks.training_step [--model gpt2-nano] [--rounds 7] [--choices]

The product's step with each of its optimizers, the Trainer of transformers, the loop of a tutorial, and the best plain
loop that we can write for GPT-2, on the same weights, batch and arithmetic; with --choices also the choices that are
made in the step. The share of the peak is that of the step's matrix products at the rate that benchmarks.peak reaches.
"""

from __future__ import annotations

import inspect
import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import loops, peak
from benchmarks.timing import arguments, comparison, finish, quiet, take_turns
from rote_bench import plugins
from rote_bench.encoding import IGNORED, Encoded, build_tokenizer, encode
from rote_bench.evaluation import autocast
from rote_bench.machine import choose_precision, keep_memory
from rote_bench.models.compiling import compiled
from rote_bench.models.load import FromConfig, ModelRequest
from rote_bench.models.statespace import quicken
from rote_bench.spec.loader import load_task
from rote_bench.splits import make_task
from rote_bench.training.loop import answer_loss
from rote_bench.training.optimizers import make_optimizer

PRODUCT, ADAMW = "product, Muon", "product, AdamW"
CHOICES: dict[str, dict[str, Any]] = {
    "float32 arithmetic": {"precision": "float32"},
    "bfloat16 arithmetic": {"precision": "bfloat16"},
    "float32, Muon's bfloat16": {"precision": "float32", "muon": "bfloat16"},
    "by torch.compile": {"by_compiler": True},
    "transformers' own scan": {"general": True},
    "torch.optim.Muon": {"optimizer": "torch"},
    "GPT-2's own activation": {"activation": "gelu_new"},
}


def torch_muon(model: torch.nn.Module) -> list[torch.optim.Optimizer]:
    """torch's own Muon on the same matrices, AdamW on the rest."""
    ours = make_optimizer(model, kind="muon", muon_lr=1e-3, adam_lr=1e-3, weight_decay=0.01)
    groups = {g["algorithm"]: g["params"] for g in ours.param_groups}
    return [
        torch.optim.Muon(groups["muon"], lr=1e-3, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups["adamw"], lr=1e-3, betas=(0.9, 0.98)),
    ]


def built(name: str, vocabulary: int, activation: str = "relu") -> Any:
    """A model as the product trains it."""
    request = ModelRequest(name, vocabulary, 16, pad_token_id=0, overrides={"activation": activation})
    model = FromConfig().load(request).model.train()
    quicken(model)
    return model


def variant(
    name: str,
    batch: Encoded,
    vocabulary: int,
    *,
    precision: str,
    optimizer: Any = "muon",
    activation: str = "relu",
    muon: str | None = None,
    by_compiler: bool = False,
    general: bool = False,
) -> Callable[[], None]:
    """The product's step, with some of its choices made otherwise."""
    model = built(name, vocabulary, activation)
    if optimizer == "torch":
        optimizers: list[Any] = torch_muon(model)
    else:
        kinds: dict[str, Any] = {"kind": optimizer, "precision": muon or precision}
        optimizers = [make_optimizer(model, muon_lr=1e-3, adam_lr=1e-3, weight_decay=0.01, **kinds)]
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


def operations(step: Callable[[], object]) -> float:
    """Floating-point operations of the matrix products of a step."""
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


def alike(model: Any, batch: Encoded, precision: str) -> str:
    """How far the plain loop's loss lies from the product's on the same weights."""
    with torch.no_grad(), autocast("cpu", precision):
        ours = float(answer_loss(model, batch))
    wanted = batch.targets != IGNORED
    with torch.no_grad():
        logits = loops.Plain(model, getattr(torch, precision))(batch.input_ids, wanted.int().argmax(1))
    theirs = float(torch.nn.functional.cross_entropy(logits.float(), batch.targets[wanted]))
    return f"The plain loop's first loss differs from the product's by {abs(ours - theirs):.1e} of {ours:.2f}."


def main() -> None:
    parser = arguments(__doc__, rounds=7)
    parser.add_argument("--model", default="gpt2-nano")
    parser.add_argument("--batch", type=int, default=512, help="questions a step (default: %(default)s)")
    parser.add_argument("--choices", action="store_true", help="also what is chosen in the product's step")
    options = parser.parse_args()
    keep_memory()
    quiet()
    torch.set_num_threads(1)
    registry = plugins.built_in()
    task = make_task(load_task("thr", registry), registry)
    tokenizer = build_tokenizer(task.words())
    batch = encode(tokenizer, [task.example(i) for i in range(options.batch)], named=False)
    precision = choose_precision("auto", "cpu")
    model = built(options.model, len(tokenizer))
    product = partial(variant, options.model, batch, len(tokenizer))
    steps: dict[str, Callable[[], object]] = {
        PRODUCT: product(precision=precision),
        ADAMW: product(precision=precision, optimizer="adamw"),
        "Trainer of transformers": loops.trainer(model, batch, precision),
        "a tutorial's loop": loops.tutorial(model, batch, precision),
    }
    note = ""
    if model.config.model_type == "gpt2":
        steps["best plain loop"] = loops.plain(model, batch, precision)
        note = alike(model, batch, precision) + " "
    if options.choices:
        steps |= {name: product(**{"precision": precision, **choice}) for name, choice in CHOICES.items()}
    most = peak.reached(peak.rates(3), precision)
    seconds = take_turns(steps, options.rounds, warmup=2)
    counted = {name: operations(steps[name]) for name in (PRODUCT, ADAMW)}
    shares = {name: f"{flops / statistics.median(seconds[name]) / most:.0%}" for name, flops in counted.items()}
    note += f"Peak just before: {most / 1e9:.0f} GFLOP a CPU second in {precision}."
    shape = " x ".join(map(str, batch.input_ids.shape))
    title = f"A training step of {options.model}, {shape} tokens, {precision}, one thread"
    finish(options, comparison(title, seconds, PRODUCT, note, {"share of the peak": shares}))


if __name__ == "__main__":
    main()
