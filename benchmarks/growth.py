"""How each diagnostic grows with layers, width and examples.

    python -m benchmarks.growth [--rounds 2] [--layers 2 4 8 16]

Models of GPT-2's kind that have learned nothing, before and after: what a diagnosis does hardly depends on what it
finds. The sizes take turns, and each diagnostic has its own line.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.timing import Table, arguments, finish, quiet, spread
from rote_bench import plugins
from rote_bench.diagnostics import Diagnostic, NotApplicable
from rote_bench.encoding import build_tokenizer
from rote_bench.machine import keep_memory
from rote_bench.models.anatomy import Anatomy
from rote_bench.models.load import FromConfig, ModelRequest
from rote_bench.plugins import Registry
from rote_bench.spec.loader import load_task
from rote_bench.spec.options import build
from rote_bench.splits import make_data, make_task
from rote_bench.subject import Subject

RATE = 0.5  # of wrong labels, so that few questions hold enough of both kinds


@dataclass(frozen=True, order=True)
class Size:
    """What is diagnosed: blocks, their width, and how many examples of each kind."""

    layers: int
    width: int
    examples: int


def subject(size: Size, registry: Registry) -> Subject:
    """Two snapshots with random weights, and the questions of the shipped two-hop task."""
    spec = load_task("thr", registry)
    task = make_task(spec, registry)
    kind = registry.table("noise")[spec.noise.kind]
    data = make_data(task, spec, kind(build(kind.Options, spec.noise.options)), RATE, limit=2 * size.examples)
    tokenizer = build_tokenizer(task.words())
    sizes = {"layers": size.layers, "width": size.width, "heads": size.width // 32}
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        models.append(FromConfig().load(ModelRequest("gpt2-nano", len(tokenizer), 16, 0, overrides=sizes)).model)
    after = Anatomy.of(models[1])
    anatomies = {"pre_memorization": after.on(models[0]), "post_memorization": after}
    return Subject(spec, task, data, tokenizer, anatomies, [], "cpu", cap=size.examples)


def diagnostics(registry: Registry, names: Sequence[str]) -> Iterator[Diagnostic[Any]]:
    """Built-in diagnostics with their own options, all where none is named."""
    for name, cls in registry.table("diagnostics").items():
        if not names or name in names:
            yield cls(build(cls.Options, {}))


def measure(sizes: Sequence[Size], rounds: int, names: Sequence[str] = ()) -> dict[Size, dict[str, list[float]]]:
    """Size -> diagnostic -> CPU seconds, round by round; those that have nothing to do here are left out."""
    registry = plugins.built_in()
    seconds: dict[Size, dict[str, list[float]]] = {size: {} for size in sizes}
    for _ in range(rounds):
        for size, taken in seconds.items():
            seen = subject(size, registry)
            for diagnostic in diagnostics(registry, names):
                before = time.process_time()
                try:
                    diagnostic.run(seen)
                except NotApplicable:
                    continue
                taken.setdefault(diagnostic.name, []).append(time.process_time() - before)
    return seconds


def table(title: str, found: Mapping[str, Mapping[str, Sequence[float]]]) -> Table:
    """A line for each diagnostic, a column for each size, and how much the largest takes of the smallest's."""
    first, *_, last = found
    columns = {size: {**taken} for size, taken in found.items()}
    common = [name for name in columns[last] if all(name in taken for taken in columns.values())]
    names = sorted(common, key=lambda name: -statistics.median(columns[last][name]))
    missing = sorted({name for taken in columns.values() for name in taken} - {*common})
    note = f"Had nothing to do at some size: {', '.join(missing)}." if missing else ""
    for taken in columns.values():
        taken["all of these"] = [sum(turn) for turn in zip(*(taken[name] for name in names), strict=True)]
    rows = []
    for name in ("all of these", *names):
        growth = [b / a for a, b in zip(columns[first][name], columns[last][name], strict=True)]
        medians = (statistics.median(columns[size][name]) for size in found)
        rows.append([name, *(f"{seconds:.2f}" for seconds in medians), spread(growth, 1)])
    heads = ("diagnostic", *found, f"x, {last} to {first}: least / median / most")
    kept = {f"{size}: {name}": values for size, taken in found.items() for name, values in taken.items()}
    return Table(title, heads, rows, note, kept)


def main() -> None:
    parser = arguments(__doc__, rounds=2)
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--examples", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument("--diagnostics", nargs="+", default=[], metavar="NAME", help="default: all")
    options = parser.parse_args()
    keep_memory()
    quiet()
    torch.set_num_threads(1)
    few, narrow, flat = options.examples[0], options.widths[0], options.layers[0]
    deep = {f"{n} layers": Size(n, narrow, few) for n in options.layers}
    wide = {f"width {n}": Size(flat, n, few) for n in options.widths}
    many = {f"{n} examples": Size(flat, narrow, n) for n in options.examples}
    sizes = list(dict.fromkeys([*deep.values(), *wide.values(), *many.values()]))
    found = measure(sizes, options.rounds, options.diagnostics)
    parts = {
        f"Layers of width {narrow}, {few} examples of each kind, CPU seconds": deep,
        f"Width of {flat} layers, {few} examples of each kind, CPU seconds": wide,
        f"Examples of each kind, {flat} layers of width {narrow}, CPU seconds": many,
    }
    grows = {title: part for title, part in parts.items() if len(part) > 1}
    finish(options, *(table(title, {n: found[s] for n, s in part.items()}) for title, part in grows.items()))


if __name__ == "__main__":
    main()
