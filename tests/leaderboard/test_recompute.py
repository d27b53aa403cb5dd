"""The script that computes a board's numbers again without this package, held against the package's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rote_bench.contrasts import across_seeds, permutation, welch
from rote_bench.measures import DIFFERENCE
from rote_bench.statistics import Estimate, within

SCRIPT = Path(__file__).parents[2] / "leaderboards" / "recompute.py"
RATE, HELD_OUT, NOISY = 0.05, 200, 40
WRONG = {"alpha": 0.03, "beta": 0.06}  # held-out answers that wrong labels cost


def answered(rng: np.random.Generator, split: str, n: int, right: float, taught: float) -> list[dict[str, str]]:
    said = rng.choice(["a", "b", "c"], size=n, p=[right, taught, 1 - right - taught])
    return [{"split": split, "answer": "a", "label": "b", "prediction": str(each)} for each in said]


def share(rows: list[dict[str, str]], split: str, column: str) -> float:
    return float(np.mean([row["prediction"] == row[column] for row in rows if row["split"] == split]))


def interval(found: Estimate) -> dict[str, float | None]:
    return {"value": found.value, "ci_low": found.ci_low, "ci_high": found.ci_high}


def planted(folder: Path, seeds: int) -> dict[str, Any]:
    """Reports' folders with answers drawn at random, and the board that the package's statistics make of them."""
    rng, rows, costs = np.random.default_rng(seeds), [], {}
    for model, wrong in WRONG.items():
        of_seed, memorised, paths = [], [], []
        for seed in range(seeds):
            made = {
                0.0: answered(rng, "validation", HELD_OUT, 0.99, 0.005),
                RATE: [
                    *answered(rng, "validation", HELD_OUT, 0.99 - wrong, 0.005),
                    *answered(rng, "train_noisy", NOISY, 0.01, 0.985),
                ],
            }
            for rate, samples in made.items():
                cell = folder / "thr" / model / f"noise-{rate:g}" / f"seed-{seed}"
                cell.mkdir(parents=True)
                pq.write_table(pa.Table.from_pylist(samples), cell / "samples.parquet")
            twin, cell_ = made[0.0], made[RATE]
            of_seed.append((share(twin, "validation", "answer") - share(cell_, "validation", "answer")) / RATE)
            memorised.append(share(cell_, "train_noisy", "label") - share(cell_, "validation", "label"))
            paths.append({"path": f"thr/{model}/noise-{RATE:g}/seed-{seed}/report.json"})
        costs[model] = of_seed
        metrics = {
            "noise_transfer": interval(across_seeds(of_seed)),
            "counterfactual_memorization": interval(within(across_seeds(memorised), DIFFERENCE)),
        }
        rows.append({"model": model, "noise_rate": RATE, "rank_low": 1, "metrics": metrics, "reports": paths})
        rows.append({"model": model, "noise_rate": 0.0, "rank_low": None, "metrics": {}, "reports": []})
    gap = welch(costs["alpha"], costs["beta"])
    contrast = {
        "name": "planted",
        "metric": "noise_transfer",
        "models": ["alpha", "beta"],
        "noise_rates": [RATE, RATE],
        "difference": gap.value,
        "ci_low": gap.ci_low,
        "ci_high": gap.ci_high,
        "p": permutation(costs["alpha"], costs["beta"], np.random.default_rng(0)),
    }
    return {"tasks": [{"title": "Planted", "rows": rows, "comparison": {"contrasts": [contrast]}}]}


def recomputed(folder: Path, board: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    (folder / "board.json").write_text(json.dumps(board))
    command = [sys.executable, str(SCRIPT), str(folder / "board.json"), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("seeds", [5, 10])
def test_the_plain_script_gives_what_the_package_gives(tmp_path: Path, seeds: int) -> None:
    found = recomputed(tmp_path, planted(tmp_path, seeds))
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stderr == "" and "DIFFERS" not in found.stdout
    assert len([line for line in found.stdout.splitlines() if line.startswith(("alpha", "beta", "planted"))]) == 16


@pytest.mark.parametrize(
    ("metric", "part"),
    [("noise_transfer", "value"), ("noise_transfer", "ci_high"), ("counterfactual_memorization", "value")],
)
def test_a_number_that_was_changed_is_found(tmp_path: Path, metric: str, part: str) -> None:
    board = planted(tmp_path, 5)
    board["tasks"][0]["rows"][2]["metrics"][metric][part] += 1e-4
    found = recomputed(tmp_path, board)
    assert found.returncode == 1
    (line,) = [line for line in found.stdout.splitlines() if line.endswith("DIFFERS")]
    assert line.startswith("beta 0.05") and part in line
