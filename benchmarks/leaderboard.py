"""How long ``rote-bench leaderboard build`` takes on many reports with their answers, and how much memory.

    python -m benchmarks.leaderboard [REPORT] [--reports 1000 3000] [--models 100] [--folder DIR]

Varies a finished report, of a small cell trained for this where none is given: models, noise rates and seeds of its
own, with other held-out accuracies, the answers that go with them, and everything else that must agree. Half of the
cells are the twins at noise rate 0.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from benchmarks.timing import Table, arguments, finish
from rote_bench.findings import decide
from rote_bench.hashing import digest, sha256
from rote_bench.measures import OF_NOISE
from rote_bench.report import schema
from rote_bench.report.record import DiagnosticEntry
from rote_bench.spec.model import Seeds
from rote_bench.statistics import wilson

RATES = (0.0, 0.05)
SAMPLES = "samples.parquet"
CURVE, RELATIVE = "learning_dynamics", "early_clean_peak_relative"
OF_CURVE = "early_clean_peak", "memorization_lag"  # of wrong labels, by that diagnostic
ELSE = "something else"  # what a model says that is neither answer nor label


class Cells:
    """Cells made of one: ``put`` writes the report of one, and the answers behind it.

    Args:
        folder: of the finished cell.
        scratch: where files of answers are kept, one for each number of wrong ones.
    """

    def __init__(self, folder: Path, scratch: Path) -> None:
        self.report = schema.read(json.loads((folder / "report.json").read_text(encoding="utf-8")))
        self.samples = pyarrow.parquet.read_table(folder / SAMPLES)
        self.scratch = scratch
        self.answers = cache(self._answers)
        none: Any = dict.fromkeys(("value", "ci_low", "ci_high", "ci_method", "reason_if_no_interval"))
        self.without_noise = {
            name: replace(self.report.metrics[name], n=0, reason_if_null="no noisy labels at this noise rate", **none)
            for name in (*OF_NOISE, *OF_CURVE)
        }

    def _answers(self, wrong: int, noisy: bool) -> Path:
        """The answers of the cell with so many of its right held-out ones made wrong, of those without a phantom.

        Args:
            noisy: whether some labels were wrong; where none was, there are no phantoms.
        """
        columns = self.samples.to_pydict()
        if not noisy:
            kept = [row for row, split in enumerate(columns["split"]) if split != "train_noisy"]
            columns = {name: [values[row] for row in kept] for name, values in columns.items()}
            columns["label"], columns["is_label"] = list(columns["answer"]), list(columns["is_answer"])
        at = [
            row
            for row, split in enumerate(columns["split"])
            if split == "validation" and columns["is_answer"][row] and (not noisy or not columns["is_label"][row])
        ]
        for row in at[:wrong]:
            columns["is_answer"][row], columns["prediction"][row] = False, ELSE
            columns["is_label"][row] = columns["is_label"][row] and noisy
        path = self.scratch / f"{wrong}-{noisy:d}-{SAMPLES}"
        pyarrow.parquet.write_table(pyarrow.table(columns, schema=self.samples.schema), path)
        return path

    def _with_losses(self, factor: float, *, noisy: bool) -> dict[str, DiagnosticEntry]:
        """The diagnostics, with a curve whose losses no other cell has: no training counts twice.

        Args:
            noisy: whether some labels were wrong; where none was, the curve asked nothing of them.
        """
        found = dict(self.report.diagnostics)
        if not noisy:
            entry = found[CURVE]
            effects: Any = entry.details["design_effects"]
            asked = {"n_noisy": 0, "design_effects": {**effects, "noisy": 1.0}}
            metrics = tuple(name for name in entry.metrics if name != RELATIVE)
            found[CURVE] = replace(entry, details={**entry.details, **asked}, metrics=metrics)
        for name, entry in found.items():
            if isinstance(curve := entry.details.get("curve"), list):
                varied = [{**p, "loss": p["loss"] * factor} if p.get("loss") else p for p in curve]
                found[name] = replace(entry, details={**entry.details, "curve": varied})
        return found

    def put(self, folder: Path, model: str, rate: float, seed: int) -> None:
        """Write another cell, and a sound one; what is not changed is shared with the given report."""
        report, seeds = self.report, Seeds.all(seed)
        old = report.identity.parts
        named = {**schema.write(old["model"]), "name": model}
        parts = {**old, "model": named, "noise_rate": rate, "seeds": asdict(seeds)}
        given = report.metrics["validation_accuracy"]
        wrong = random.Random(f"{model}-{rate}-{seed}").randint(0, given.n // 200) + (given.n // 200 if rate else 0)
        answers = self.answers(wrong, rate > 0)
        right = round((given.value or 0.0) * given.n) - wrong
        e = wilson(right, given.n)
        accuracy = replace(given, value=e.value, ci_low=e.ci_low, ci_high=e.ci_high, ci_method=e.ci_method)
        kept = tuple(
            replace(a, sha256=digest([a.sha256, parts])) if a.path.endswith(".safetensors") else a
            for a in report.artifacts
            if a.path != SAMPLES
        )
        (samples,) = (a for a in report.artifacts if a.path == SAMPLES)
        made = replace(
            report,
            seeds=seeds,
            model=replace(report.model, name=model),
            data=replace(report.data, noise_rate=rate, n_noisy=report.data.n_noisy if rate else 0),
            task=replace(report.task, spec={**report.task.spec, "seeds": asdict(seeds)}),
            identity=replace(report.identity, hash=digest(parts), parts=parts),
            metrics={
                **{name: metric for name, metric in report.metrics.items() if rate or name != RELATIVE},
                "validation_accuracy": accuracy,
                **({} if rate else self.without_noise),
            },
            diagnostics=self._with_losses(random.Random(f"{model}-{rate}-{seed}").uniform(0.9, 1.1), noisy=rate > 0),
            artifacts=(*kept, replace(samples, sha256=sha256(answers), bytes=answers.stat().st_size)),
        )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SAMPLES).write_bytes(answers.read_bytes())
        written = schema.write(replace(made, findings=decide(made)))
        (folder / "report.json").write_text(json.dumps(written), encoding="utf-8")


def trained(folder: Path) -> Path:
    """A cell to vary: every diagnostic of the two-hop task, after a training that is no longer than it must be."""
    command = [sys.executable, "-m", "rote_bench", "run", "thr", "--quick", "--model", "gpt2-nano", "--quiet"]
    subprocess.run([*command, "--device", "cpu", "-o", str(folder)], check=True)
    return next(folder.rglob("report.json")).parent


def build(folder: Path, output: Path) -> tuple[float, float]:
    """CPU seconds of a build with the processes that it starts, and MiB at the most in itself."""
    command = [sys.executable, "-m", "rote_bench", "leaderboard", "build", str(folder), "-o", str(output), "--quiet"]
    process = subprocess.Popen(command)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    parser = arguments(__doc__, rounds=1)
    parser.add_argument("report", type=Path, nargs="?", help="report.json of a finished cell, its answers beside it")
    parser.add_argument("--reports", type=int, nargs="+", default=[1000, 3000])
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="where the reports are made, and kept (default: a temporary one)")
    options = parser.parse_args()
    rows, seconds = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        cells = Cells(options.report.parent if options.report else trained(place / "cell"), place)
        folder = options.folder or place / "reports"
        for count in sorted(options.reports):
            seeds = -(-count // (options.models * len(RATES)))
            every = [(m, rate, s) for s in range(seeds) for m in range(options.models) for rate in RATES]
            for m, rate, seed in every[:count]:
                where = folder / f"model-{m}" / f"noise-{rate:g}" / f"seed-{seed}"
                if not (where / "report.json").is_file():
                    cells.put(where, f"model-{m}", rate, seed)
            taken, memory = [], 0.0
            for turn in range(options.rounds):
                each, memory = build(folder, place / f"board-{count}-{turn}")
                taken.append(each)
            output = place / f"board-{count}-0"
            board = json.loads((output / "leaderboard.json").read_text(encoding="utf-8"))
            sizes = [f"{(output / name).stat().st_size / 2**20:.1f}" for name in ("index.html", "leaderboard.json")]
            used = board["reports"]["counted"]
            spent = " / ".join(f"{value:.1f}" for value in sorted(taken))
            rows.append([f"{count}", f"{used}", spent, f"{1000 * min(taken) / count:.1f}", f"{memory:.0f}", *sizes])
            seconds[f"{count} reports"] = taken
    heads = ("reports", "counted", "CPU s", "ms a report", "MiB", "index.html, MiB", "leaderboard.json, MiB")
    answers = f"{len(cells.samples)} answers each"
    finish(options, Table(f"A leaderboard of {options.models} models, {answers}", heads, rows, seconds=seconds))


if __name__ == "__main__":
    main()
