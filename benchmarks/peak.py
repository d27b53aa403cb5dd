"""What matrix products reach here, on one thread, at the shapes of a training step.

    python -m benchmarks.peak [--rounds 5]

Shapes are (tokens, from, to) of GPT-2's projections; every other figure is to be read against these.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.timing import Table, arguments, finish, take_turns

SHAPES = {
    "gpt2-nano, attention": (3072, 128, 384),
    "gpt2-nano, MLP": (3072, 128, 512),
    "gpt2-nano, MLP's gradient": (512, 3072, 128),
    "gpt2-small, MLP": (768, 768, 3072),
}
LONG = 2e9  # multiplications and additions of one measurement, at the least


def product(shape: tuple[int, int, int], dtype: torch.dtype) -> tuple[Callable[[], None], float]:
    """A call that multiplies two matrices often enough to be measured, and its floating-point operations."""
    rows, inner, columns = shape
    a, b = torch.randn(rows, inner).to(dtype), torch.randn(inner, columns).to(dtype)
    out = torch.empty(rows, columns, dtype=dtype)
    times = max(1, round(LONG / (2 * rows * inner * columns)))

    def call() -> None:
        for _ in range(times):
            torch.mm(a, b, out=out)

    return call, 2.0 * rows * inner * columns * times


def rates(rounds: int) -> dict[tuple[str, str], list[float]]:
    """(shape, arithmetic) -> operations a processor second, round by round."""
    made = {
        (name, kind): product(shape, getattr(torch, kind))
        for name, shape in SHAPES.items()
        for kind in ("float32", "bfloat16")
    }
    seconds = take_turns({f"{n}/{k}": call for (n, k), (call, _) in made.items()}, rounds)
    return {(n, k): [flops / s for s in seconds[f"{n}/{k}"]] for (n, k), (_, flops) in made.items()}


def reached(found: dict[tuple[str, str], list[float]], arithmetic: str) -> float:
    """The most that any shape reaches, in operations a processor second."""
    return max(statistics.median(values) for (_, kind), values in found.items() if kind == arithmetic)


def main() -> None:
    options = arguments(__doc__, rounds=5).parse_args()
    torch.set_num_threads(1)
    found = rates(options.rounds)

    def gigaflops(name: str, kind: str) -> str:
        values = [value / 1e9 for value in found[name, kind]]
        return f"{min(values):.0f} / {statistics.median(values):.0f} / {max(values):.0f}"

    rows = [
        [name, " x ".join(map(str, shape)), *map(partial(gigaflops, name), ("float32", "bfloat16"))]
        for name, shape in SHAPES.items()
    ]
    heads = ("product", "shape", "float32", "bfloat16")
    title = f"Matrix products on one thread, GFLOP a CPU second: least / median / most of {options.rounds} rounds"
    finish(options, Table(title, heads, rows))


if __name__ == "__main__":
    main()
