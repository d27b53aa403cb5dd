"""One cell of every kind of architecture, from training to report: ``python benchmarks/architectures.py``.

Attention before, beside and after its norms, grouped heads, soft caps, experts, state spaces, linear recurrence and
hybrids of these. Prints a table of seconds, parameters, answers and the status of every diagnostic; exits with 1 when
a run does not end in success, or a diagnostic fails instead of saying that it does not apply.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

import rote_bench
from rote_bench.errors import UserError
from rote_bench.models.names import known_types

TYPES = (
    *("gpt2", "gpt_neox", "llama", "qwen3", "gemma2", "olmo2", "mixtral"),
    *("mamba", "mamba2", "rwkv", "recurrent_gemma", "falcon_h1"),
)
TASK = Path(__file__).with_suffix(".yaml")


def row(name: str, seconds: float, report: Mapping[str, Any]) -> list[Any]:
    """One line of the table."""
    statuses = [entry["status"] for entry in report["diagnostics"].values()]
    metrics = report["metrics"]
    levels = [f"{metrics[key]['value']:.2f}" for key in ("validation_accuracy", "memorization_rate")]
    counts = (statuses.count(status) for status in ("success", "not_applicable", "failed"))
    return [name, f"{report['model']['parameters'] / 1e6:.2f}M", f"{seconds:.0f}", *levels, *counts]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*", default=TYPES, help="model types (default: twelve that differ)")
    parser.add_argument("--all", action="store_true", help="every model type; those that are refused are no fault")
    parser.add_argument("--task", type=Path, default=TASK, help="task file (default: %(default)s)")
    parser.add_argument("--size", default="nano")
    parser.add_argument("-o", "--output-path", default="runs/architectures")
    options = parser.parse_args()
    rows: list[list[Any]] = []
    reasons: list[str] = []
    wrong = False
    for model_type in known_types() if options.all else options.types:
        name = f"{model_type}-{options.size}"
        before = time.monotonic()
        try:
            run = rote_bench.run(options.task, model=name, output_path=options.output_path, device="cpu", quiet=True)
            report = run.data
        except Exception as error:  # one architecture that breaks must not hide the others
            wrong |= not (options.all and isinstance(error, UserError))
            rows.append([name, "", f"{time.monotonic() - before:.0f}"])
            reasons.append(f"{name}: {type(error).__name__}: {error}")
            continue
        rows.append(row(name, report["timings"]["total"], report))
        for diagnostic, entry in report["diagnostics"].items():
            wrong |= entry["status"] == "failed"
            if entry["status"] != "success":
                reasons.append(f"{name}: {diagnostic} {entry['status']}: {entry['reason']}")
        print(f"{name} {rows[-1][2]} s", file=sys.stderr, flush=True)
    heads = ("model", "parameters", "seconds", "accuracy", "memorised", "success", "not applicable", "failed")
    print(tabulate(rows, heads, tablefmt="github", disable_numparse=True))
    if reasons:
        print("", *reasons, sep="\n")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
