"""What the benchmarks share: processor seconds, variants that take turns, and tables that a reader and a page can use.

Times are processor seconds, user and system, of a process or of those that it started: what else a machine does then
counts for less than with a clock. Variants take turns, so that a change of the machine's speed hits all of them, and a
ratio is one of the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from tabulate import tabulate

PACKAGES = (
    "torch",
    "transformers",
    "numpy",
    "scikit-learn",
    "concept-erasure",
    "transformer-lens",
    "nnsight",
    "pyarrow",
)
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")


@dataclass(frozen=True)
class Table:
    """A table of a benchmark.

    Attributes:
        title: what it is about, with its settings.
        heads: of the columns.
        rows: text, number by number.
        note: what a reader has to know beside it.
        seconds: variant -> what was measured, round by round, where variants took turns.
    """

    title: str
    heads: tuple[str, ...]
    rows: list[list[str]]
    note: str = ""
    seconds: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def markdown(self) -> str:
        """The title in bold, the table, and the note."""
        table = tabulate(self.rows, self.heads, tablefmt="github", disable_numparse=True)
        return "\n\n".join(part for part in (f"**{self.title}**", table, self.note) if part)


def own() -> float:
    """Processor seconds of this process so far, in all its threads."""
    return time.process_time()


def children() -> float:
    """Processor seconds so far of the processes that this one started and saw end."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def take_turns(
    variants: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warmup: int = 1,
    repeats: int = 1,
    clock: Callable[[], float] = own,
) -> dict[str, list[float]]:
    """Seconds that each variant takes, round by round; a variant that returns a float has measured itself.

    Args:
        warmup: rounds before the first that counts.
        repeats: calls in a row of which one round takes the mean.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(warmup + rounds):
        for name, call in variants.items():
            before = clock()
            measured = [call() for _ in range(repeats)]
            taken = (clock() - before) / repeats
            said = [value for value in measured if isinstance(value, float)]
            if turn >= warmup:
                seconds[name].append(sum(said) / repeats if said else taken)
    return seconds


def ratios(seconds: Mapping[str, Sequence[float]], base: str) -> dict[str, list[float]]:
    """Each variant's seconds as multiples of those that the base took in the same round."""
    return {n: [a / b for a, b in zip(values, seconds[base], strict=True)] for n, values in seconds.items()}


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Smallest, median and largest."""
    return " / ".join(f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))


def comparison(
    title: str,
    seconds: Mapping[str, Sequence[float]],
    base: str,
    note: str = "",
    more: Mapping[str, Mapping[str, str]] | None = None,
) -> Table:
    """A table of variants that took turns: median milliseconds, and ratios to one of them.

    Args:
        more: head of a further column -> variant -> its text.
    """
    more, multiples = more or {}, ratios(seconds, base)
    rows = [
        [name, f"{1000 * statistics.median(values):.4g}", spread(multiples[name])]
        + [column.get(name, "") for column in more.values()]
        for name, values in seconds.items()
    ]
    rounds = len(seconds[base])
    heads = ("variant", "CPU ms, median", f"x {base}: least / median / most of {rounds} rounds", *more)
    return Table(title, heads, rows, note, seconds)


def machine() -> str:
    """The processor and its cores in general words, and the GPU where there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    lines = _file("/proc/cpuinfo").splitlines()
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set((said.get("flags") or said.get("Features") or "").split())
    words = [f"{cores} cores", said.get("model name") or platform.machine(), " ".join(f for f in FLAGS if f in flags)]
    import torch

    if torch.cuda.is_available():
        words.append(torch.cuda.get_device_name())
    return ", ".join(word for word in words if word)


def _file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:  # a system without it
        return ""


def versions() -> str:
    """Python and the packages that are compared, as installed."""
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def quiet() -> None:
    """Nothing of what transformers says of its own doings."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def arguments(doc: str | None, rounds: int) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help="turns of each variant (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured here as well")
    return parser


def finish(options: Any, *tables: Table) -> None:
    """Print the tables, and write them with machine and versions where ``--json`` asks for it."""
    print("\n\n".join(table.markdown() for table in tables))
    if options.json is not None:
        result = {"machine": machine(), "versions": versions(), "tables": [asdict(table) for table in tables]}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def read(result: Mapping[str, Any]) -> list[Table]:
    """The tables of a result that ``finish`` wrote."""
    return [Table(**{**table, "heads": tuple(table["heads"])}) for table in result["tables"]]
