"""How long ``rote-bench leaderboard build`` takes on many reports, and how much memory.

    python benchmarks/leaderboard.py REPORT [--reports 10000] [--models 200] [--folder DIR]

Varies a finished report: models, noise rates and seeds of its own, with other held-out accuracies, and everything
that must agree with them. Half of the cells are the twins at noise rate 0.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

from rote_bench.findings import decide
from rote_bench.hashing import digest
from rote_bench.report import schema
from rote_bench.report.record import Report
from rote_bench.spec.model import Seeds
from rote_bench.statistics import wilson

RATES = (0.0, 0.05)


def varied(report: Report, model: str, rate: float, seed: int) -> Report:
    """Another cell, and a sound one; what is not changed is shared with the given report."""
    seeds = Seeds.all(seed)
    old = report.identity.parts
    named = {**schema.write(old["model"]), "name": model}
    parts = {**old, "model": named, "noise_rate": rate, "seeds": asdict(seeds)}
    given = report.metrics["validation_accuracy"]
    wrong = random.Random(f"{model}-{rate}-{seed}").randint(0, given.n // 200) + (given.n // 200 if rate else 0)
    e = wilson(given.n - wrong, given.n)
    accuracy = replace(given, value=e.value, ci_low=e.ci_low, ci_high=e.ci_high, ci_method=e.ci_method)
    metrics = {**report.metrics, "validation_accuracy": accuracy}
    made = replace(
        report,
        seeds=seeds,
        model=replace(report.model, name=model),
        data=replace(report.data, noise_rate=rate),
        task=replace(report.task, spec={**report.task.spec, "seeds": asdict(seeds)}),
        identity=replace(report.identity, hash=digest(parts), parts=parts),
        metrics=metrics,
    )
    return replace(made, findings=decide(made))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("--reports", type=int, default=10_000)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="where the reports are made, and kept (default: a temporary one)")
    options = parser.parse_args()
    report = schema.read(json.loads(options.report.read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "reports"
        seeds = -(-options.reports // (options.models * len(RATES)))
        cells = [(m, rate, s) for m in range(options.models) for s in range(seeds) for rate in RATES]
        for m, rate, seed in cells[: options.reports]:
            path = folder / f"model-{m}" / f"noise-{rate:g}" / f"seed-{seed}" / "report.json"
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                made = schema.write(varied(report, f"model-{m}", rate, seed))
                path.write_text(json.dumps(made), encoding="utf-8")
        output = Path(temporary) / "board"
        command = [sys.executable, "-m", "rote_bench", "leaderboard", "build", str(folder), "-o", str(output)]
        before = time.perf_counter()
        subprocess.run([*command, "--quiet"], check=True)
        seconds = time.perf_counter() - before
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        board = json.loads((output / "leaderboard.json").read_text(encoding="utf-8"))
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        print(f"{board['reports']} on {cores} cores")
        print(f"{seconds:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of processor time")
        print(f"{used.ru_maxrss / 1024:.0f} MiB at the most in one process")
        for file in sorted(output.iterdir()):
            print(f"{file.name:18s} {file.stat().st_size / 2**20:7.1f} MiB")


if __name__ == "__main__":
    main()
