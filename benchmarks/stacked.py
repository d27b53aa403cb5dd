"""What stacks of cells are worth on a GPU, in under eight minutes: ``python benchmarks/stacked.py``.

Cells a minute of one sweep with learning_dynamics, logit_lens and activation_patching, its cells trained as one and
each in a process of its own; then whole runs with every diagnostic. Wall seconds, from the start of the command to its
end, imports included. What no time is left for is left out, and said to be. ``--rehearse`` does the same on a
processor, with few cells and steps.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tabulate import tabulate

SWEEP = """
name: cells
tasks: [{{task: thr, profile: {profile}}}]
models: [gpt2-nano]
seeds: [{seeds}]
overrides: {overrides}
run: {{device: {device}}}
"""
DIAGNOSTICS = "learning_dynamics, logit_lens, activation_patching"


@dataclass(frozen=True)
class Line:
    """One thing to measure.

    Attributes:
        cells: of the sweep, or 1 for a run.
        arguments: of the command line, without the folder of its output.
        share: of the time that is left, the most that it may take.
    """

    name: str
    cells: int
    arguments: Sequence[str]
    share: float


def lines(folder: Path, rehearse: bool) -> list[Line]:
    """What is measured, one after the other."""
    profile, steps = "compact", ""
    if rehearse:
        profile, steps = "quick", "training: {max_steps: 40, evaluate_every: 10, schedule: {anneal: 5}}, "
    device = "cpu" if rehearse else "cuda"

    def sweep(cells: int) -> str:
        path = folder / f"cells-{cells}.yaml"
        overrides = f"{{{steps}diagnostics: [{DIAGNOSTICS}]}}"
        seeds = ", ".join(map(str, range(cells)))
        path.write_text(SWEEP.format(profile=profile, seeds=seeds, overrides=overrides, device=device))
        return str(path)

    def run(model: str) -> list[str]:
        few = ("max_steps=40", "evaluate_every=10", "schedule.anneal=5")
        short = ["--quick", *(word for each in few for word in ("--set", f"training.{each}"))]
        return ["run", "thr", "--model", model, "--device", device, *(short if rehearse else [])]

    many, few = (2, 1) if rehearse else (64, 16)
    size, workers = ("2", "1") if rehearse else ("auto", "8")
    stacked = ["sweep", sweep(many), "--stack", size, "--workers"]
    found = [
        Line("stacked, one process", many, [*stacked, "1"], 0.5),
        Line("each by itself", few, ["sweep", sweep(few), "--stack", "1", "--workers", workers], 0.4),
        Line("gpt2-nano, every diagnostic", 1, run("gpt2-nano"), 0.5),
    ]
    if not rehearse:
        found.insert(1, Line("stacked, four processes", many, [*stacked, "4"], 0.5))
        found.append(Line("gpt2-small, every diagnostic", 1, run("gpt2-small"), 1.0))
    return found


def measure(line: Line, output: Path, seconds: float) -> dict[str, Any]:
    """Run a command for so long at most; what it took, and what its reports say."""
    before = time.monotonic()
    command = [sys.executable, "-m", "rote_bench", *line.arguments, "-o", str(output), "--quiet"]
    try:
        done = subprocess.run(command, timeout=seconds, check=False, capture_output=True, text=True)
        said = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    except subprocess.TimeoutExpired:
        said = f"cut off after {seconds:.0f} s"
    took = time.monotonic() - before
    reports = [json.loads(path.read_text()) for path in output.rglob("report.json")]
    whole = [report for report in reports if report["status"] == "success"]

    def level(name: str) -> float | None:
        values = [report["metrics"][name]["value"] for report in whole]
        return median(values) if values and None not in values else None

    stages = ("data", "training", "evaluation", "diagnostics", "figures")
    return {
        "name": line.name,
        "cells": len(whole),
        "seconds": round(took, 1),
        "cells a minute": round(60 * len(whole) / took, 1),
        "stacks": sorted({report["training"]["stacked"] or 1 for report in whole}),
        "seconds of a cell": {s: round(sum(r["timings"][s] for r in whole) / max(1, len(whole)), 2) for s in stages},
        "validation": level("validation_accuracy"),
        "memorization": level("memorization_rate"),
        "fault": said,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true", help="few cells and steps on a processor")
    parser.add_argument("--seconds", type=float, default=470, help="time for all of it (default: %(default)s)")
    parser.add_argument("-o", "--output", type=Path, help="write the numbers there, as JSON")
    options = parser.parse_args()
    start = time.monotonic()
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        for number, line in enumerate(lines(Path(place), options.rehearse)):
            left = options.seconds - (time.monotonic() - start)
            if left < 15:
                print(f"{line.name}: no time left", file=sys.stderr)
                continue
            found.append(measure(line, Path(place) / str(number), left * line.share))
            print(json.dumps(found[-1]), file=sys.stderr, flush=True)
            if options.output is not None:
                options.output.write_text(json.dumps(found, indent=1))
    heads = ("name", "cells", "seconds", "cells a minute", "stacks", "validation", "memorization", "fault")
    print(tabulate([[each[head] for head in heads] for each in found], heads, tablefmt="github"))
    return int(any(each["fault"] for each in found))


if __name__ == "__main__":
    sys.exit(main())
