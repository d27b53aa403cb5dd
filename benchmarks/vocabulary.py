"""What it is worth to unembed only what is scored, each way in processes that take turns.

    python benchmarks/vocabulary.py [--vocabularies 106 5000 50257] [--width 256] [--layers 4] [--rounds 5]

A model whose anatomy was not looked at was not proved to leave logits out, and computes all of them, as every model
of a small vocabulary does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

LENGTH, ROWS, STEPS = 6, 256, 4


def training(vocabulary: int, width: int, layers: int, chosen: bool) -> tuple[float, float]:
    """Seconds of processor time of a training step on one thread, and the GiB that its process took at the most."""
    import torch
    from transformers.utils import logging

    from rote_bench.encoding import IGNORED, Encoded
    from rote_bench.evaluation import autocast
    from rote_bench.machine import choose_precision, keep_memory
    from rote_bench.models.anatomy import Anatomy
    from rote_bench.models.load import FromConfig, ModelRequest
    from rote_bench.report.provenance import peak_memory_bytes
    from rote_bench.training.loop import answer_loss
    from rote_bench.training.optimizers import make_optimizer

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    keep_memory()
    overrides = {"width": width, "layers": layers, "heads": width // 64}
    model = FromConfig().load(ModelRequest("gpt2-nano", vocabulary, 16, pad_token_id=0, overrides=overrides)).model
    if chosen:
        Anatomy.of(model)
    model.train()
    optimizer = make_optimizer(model, kind="muon", muon_lr=1e-3, adam_lr=1e-3, weight_decay=0.01)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, vocabulary, (ROWS, LENGTH + 1), generator=generator)
    targets = torch.full((ROWS, LENGTH), IGNORED)
    targets[:, -1] = tokens[:, -1]
    data = Encoded(tokens[:, :-1], targets, {})
    precision = choose_precision("auto", "cpu")
    taken = []
    for _ in range(STEPS):
        before = time.process_time()
        with autocast("cpu", precision):
            loss = answer_loss(model, data)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        taken.append(time.process_time() - before)
    return min(taken), peak_memory_bytes() / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabularies", nargs="+", type=int, default=[106, 5_000, 50_257])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{options.layers} layers of {options.width}, {ROWS} x {LENGTH} tokens; CPU seconds and peak GiB, medians")
    for vocabulary in options.vocabularies:
        found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for _ in range(options.rounds):
            for chosen, values in found.items():
                call = f"vocabulary.training({vocabulary}, {options.width}, {options.layers}, {chosen})"
                code = f"import sys, json; sys.path[:] = {sys.path!r}; import vocabulary; print(json.dumps({call}))"
                done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], stdout=subprocess.PIPE, check=True)
                values.append(tuple(json.loads(done.stdout.splitlines()[-1])))
        (everywhere, large), (scored, small) = (
            (statistics.median(s for s, _ in values), statistics.median(g for _, g in values))
            for values in (found[False], found[True])
        )
        ratios = [b / a for (a, _), (b, _) in zip(found[False], found[True], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"{vocabulary:7,} tokens  everywhere {everywhere:.3f} s {large:.2f} GiB", end="  ")
        print(f"where scored {scored:.3f} s {small:.2f} GiB  ratio {statistics.median(ratios):.2f} ({spread})")


if __name__ == "__main__":
    main()
