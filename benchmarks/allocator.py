"""What it is worth to let the allocator keep memory between training steps, each way in processes that take turns.

python benchmarks/allocator.py [--models gpt2-nano mamba-nano] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time


def seconds(model_name: str, keep: bool) -> float:
    """Processor time of a forward and backward pass over 512 compact two-hop questions, on one thread."""
    import torch
    from transformers.utils import logging

    from rote_bench import plugins
    from rote_bench.encoding import build_tokenizer, encode
    from rote_bench.machine import keep_memory
    from rote_bench.models.load import FromConfig, ModelRequest
    from rote_bench.spec.loader import load_task
    from rote_bench.splits import make_task
    from rote_bench.training.loop import answer_loss

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    if keep:
        keep_memory()
    registry = plugins.built_in()
    task = make_task(load_task("thr", registry, profile="compact"), registry)
    tokenizer = build_tokenizer(task.words())
    data = encode(tokenizer, [task.example(i) for i in range(512)], named=False)
    model = FromConfig().load(ModelRequest(model_name, len(tokenizer), 16, pad_token_id=0)).model.train()
    taken = []
    for _ in range(4):
        before = time.process_time()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = answer_loss(model, data)
        torch.autograd.backward(loss)
        taken.append(time.process_time() - before)
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["gpt2-nano", "rwkv-nano", "falcon_h1-nano", "mamba-nano"])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for model in options.models:
        found: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(options.rounds):
            for keep, values in found.items():
                call = f"import allocator; print(allocator.seconds({model!r}, {keep}))"
                code = f"import sys; sys.path[:] = {sys.path!r}; {call}"
                done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], stdout=subprocess.PIPE, check=True)
                values.append(float(done.stdout.splitlines()[-1]))
        default, kept = (statistics.median(found[keep]) for keep in (False, True))
        print(f"{model:16s} {1000 * default:8.1f} ms by default, {1000 * kept:8.1f} ms kept   {default / kept:5.2f} x")


if __name__ == "__main__":
    main()
