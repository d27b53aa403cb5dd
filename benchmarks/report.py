"""Run every benchmark and write the page of what they found: ``make bench``.

    python -m benchmarks.report [--quick] [--only NAME ...]

What matrix products reach is measured first. Results are kept beside each other, one file a benchmark, and the page is
made of them: one that needs a GPU keeps what it found where there was one, and says so where it never ran.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.timing import machine, read, versions

FOLDER = Path(__file__).parent
PAGE, RESULTS = FOLDER / "README.md", FOLDER / "results"


@dataclass(frozen=True)
class Benchmark:
    """A script, and what the page says of it.

    Attributes:
        name: of the module in this folder.
        asks: the question that it answers.
        quick: arguments for a rehearsal.
        prints: whether it only prints, and is run by its path; what it prints is kept as it is.
        gpu: whether it runs only where there is one.
    """

    name: str
    asks: str
    quick: str = ""
    prints: bool = False
    gpu: bool = False

    def command(self) -> list[str]:
        """What follows ``python`` in the folder above."""
        return [f"benchmarks/{self.name}.py"] if self.prints else ["-m", f"benchmarks.{self.name}"]


BENCHMARKS = (
    Benchmark("peak", "What can this processor do?", "--rounds 1"),
    Benchmark(
        "training_step", "A training step beside other loops, and beside what the processor can do", "--rounds 1"
    ),
    Benchmark("patching", "Looking into a model, beside other libraries", "--rounds 1 --layers 2 --questions 32"),
    Benchmark("probes", "Probes and erasure, beside other libraries", "--rounds 1 --states 256"),
    Benchmark(
        "growth",
        "How diagnoses grow",
        "--rounds 1 --layers 2 3 --widths 32 64 --examples 20 30",
    ),
    Benchmark("startup", "How long commands take", "--rounds 1"),
    Benchmark("leaderboard", "How long a leaderboard takes", "--reports 20 --models 5"),
    Benchmark(
        "vocabulary", "A training step where the vocabulary is large", "--rounds 1 --vocabularies 106", prints=True
    ),
    Benchmark("stacking", "Which architectures train as one", "gpt2", prints=True),
    Benchmark("stacked", "Many cells trained as one, on a GPU", prints=True, gpu=True),
)


def here(benchmarks: Sequence[Benchmark] = BENCHMARKS) -> list[Benchmark]:
    """Those whose script is in this folder."""
    return [benchmark for benchmark in benchmarks if (FOLDER / f"{benchmark.name}.py").is_file()]


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def measure(benchmark: Benchmark, results: Path, quick: bool) -> bool:
    """Run a benchmark in a process of its own, on one thread; whether it ended well."""
    file = results / f"{benchmark.name}.json"
    command = [sys.executable, "-W", "ignore", *benchmark.command(), *(shlex.split(benchmark.quick) if quick else [])]
    print(f"{benchmark.name}: {benchmark.asks}", file=sys.stderr, flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if not benchmark.prints:
        command += ["--json", str(file)]
    done = subprocess.run(
        command,
        env=environment,
        cwd=FOLDER.parent,
        stdout=subprocess.PIPE if benchmark.prints else None,
        text=True,
        check=False,
    )
    if benchmark.prints:
        print(done.stdout)
        kept = {"machine": machine(), "versions": versions(), "tables": [], "text": done.stdout}
        file.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return done.returncode == 0


def section(benchmark: Benchmark, result: dict[str, Any] | None, on: str) -> str:
    """A heading, the command, and the tables.

    Args:
        on: the machine of the page; another one is named.
    """
    parts = [f"## {benchmark.asks}", f"`python {' '.join(benchmark.command())}`"]
    if result is None:
        parts.append("It needs a GPU and has not been run where there is one." if benchmark.gpu else "Not run.")
    else:
        if result["machine"] != on:
            parts[-1] += f", on {result['machine']}; {result['versions']}"
        parts += [table.markdown() for table in read(result)]
        if result.get("text"):
            parts.append(f"```text\n{result['text'].strip()}\n```")
    return "\n\n".join(parts)


def page(found: dict[str, dict[str, Any] | None], benchmarks: Sequence[Benchmark], on: str, installed: str) -> str:
    """The page in Markdown.

    Args:
        found: name of a benchmark -> its result, None where there is none.
    """
    head = (
        "# Benchmarks\n\n"
        "Written by `make bench`; every command below prints its tables and can be run alone, in an environment with\n"
        "`pip install -c constraints.txt -e '.[dev,peers]'`. Figures are CPU seconds, user and system, on one thread.\n"
        "What is compared takes turns in one process or in processes that take turns, and a ratio is one of the same\n"
        "round: least / median / most. Whether a figure can be compared with one of another machine, the peak says.\n\n"
        f"Machine: {on}. Versions: {installed}."
    )
    return "\n\n".join([head, *(section(b, found[b.name], on) for b in benchmarks)]) + "\n"


def main() -> int:
    names = [benchmark.name for benchmark in here()]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a rehearsal at small sizes, whose figures say nothing")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="run these again, keep the others")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results are kept (default: %(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write (default: %(default)s)")
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    gpu = has_gpu()
    failed = [
        benchmark.name
        for benchmark in here()
        if benchmark.name in options.only
        and (gpu or not benchmark.gpu)
        and not measure(benchmark, options.results.resolve(), options.quick)
    ]
    found: dict[str, dict[str, Any] | None] = {}
    for name in names:
        file = options.results / f"{name}.json"
        found[name] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() and name not in failed else None
    options.page.write_text(page(found, here(), machine(), versions()), encoding="utf-8")
    print(f"written: {options.page}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
