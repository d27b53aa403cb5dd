"""Muon's iteration on the matrix and on its Gram matrix: what each takes, and how far it is from exact arithmetic.

    python benchmarks/muon.py [--shapes 768x768 768x2304 768x3072 3072x768] [--rounds 5]
    python benchmarks/muon.py --train 100 101 102 [--width 128]

Both ways take turns in one process. Errors are those of bfloat16 against float64, as the largest singular value of the
difference, for matrices with even, falling, and few large singular values. ``--train`` trains ``thr --quick`` with each
seed both ways, for every oblong matrix whatever its size, and shows what was learned and memorised.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

import rote_bench
from rote_bench.machine import keep_memory
from rote_bench.training import optimizers
from rote_bench.training.optimizers import orthogonalize

NEVER = 1 << 30
SHOWN = ("validation_accuracy", "memorization_rate", "early_clean_peak", "counterfactual_memorization")


@contextmanager
def from_side(least: int) -> Iterator[None]:
    """Iterate on the Gram matrix from this shorter side on."""
    before = optimizers.WIDE
    optimizers.WIDE = least
    try:
        yield
    finally:
        optimizers.WIDE = before


WAYS = {"on the matrix": NEVER, "on the Gram matrix": 1}


def spectra(rows: int, columns: int) -> dict[str, Tensor]:
    """Kind -> (1, rows, columns)."""
    matrices = torch.randn(1, rows, columns, generator=torch.Generator().manual_seed(0))
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    k = torch.arange(1, min(rows, columns) + 1)
    kinds = {"even": torch.ones_like(k), "falling": 1 / k, "few large": torch.where(k <= 10, 1.0, 0.03)}
    return {kind: (u * values) @ vh for kind, values in kinds.items()}


def compare(rows: int, columns: int, rounds: int) -> None:
    """Print time and errors for one shape."""
    matrices = torch.randn(4, rows, columns).bfloat16()
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds + 1):
        for way, least in WAYS.items():
            with from_side(least):
                before = time.process_time()
                orthogonalize(matrices)
                taken[way].append((time.process_time() - before) / len(matrices))
    ratios = [b / a for a, b in zip(*(taken[way][1:] for way in WAYS), strict=True)]
    times = "  ".join(f"{way} {1000 * statistics.median(taken[way][1:]):.1f} ms" for way in WAYS)
    print(
        f"{rows} x {columns}  {times}  ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )
    for kind, matrix in spectra(rows, columns).items():
        with from_side(NEVER):
            exact = orthogonalize(matrix.double())
        errors = []
        for way, least in WAYS.items():
            with from_side(least):
                error = torch.linalg.matrix_norm(orthogonalize(matrix.bfloat16()).double() - exact, 2)
            errors.append(f"{way} {float(error):.3f}")
        print(f"  {kind:10s} error  {'  '.join(errors)}")


def train(seeds: list[int], width: int) -> None:
    """Print what a small model learns both ways."""
    changes = [f"model.width={width}", f"model.heads={width // 32}", "diagnostics=[learning_dynamics]"]
    for seed in seeds:
        for way, least in WAYS.items():
            with from_side(least), tempfile.TemporaryDirectory() as folder:
                report = rote_bench.run(
                    "thr",
                    model="gpt2-nano",
                    profile="quick",
                    seed=seed,
                    overrides=changes,
                    output_path=folder,
                    quiet=True,
                )
            values = "  ".join(f"{name} {report.value(name):.4f}" for name in SHOWN)
            print(f"seed {seed}  {way:18s}  {values}  steps {report.data['training']['steps']}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["768x768", "768x2304", "768x3072", "3072x768"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--train", nargs="+", type=int, default=[], metavar="SEED")
    parser.add_argument("--width", type=int, default=128)
    options = parser.parse_args()
    keep_memory()
    torch.set_num_threads(1)
    if options.train:
        train(options.train, options.width)
        return
    for shape in options.shapes:
        rows, columns = (int(side) for side in shape.split("x"))
        compare(rows, columns, options.rounds)


if __name__ == "__main__":
    main()
