"""Numbers of a board, computed again from what its reports' folders hold, by a script that knows nothing of rote-bench.

    python leaderboards/recompute.py BOARD.json REPORTS

Of every model with an interval over seeds the mean cost of a wrong label and that interval, and its share of memorised
wrong labels beyond the control; of every planned contrast on that cost the difference, its interval and its p by
relabeling seeds. All of it comes from the questions, labels and answers in ``samples.parquet`` and from the rule that
the board states. Prints each number beside the board's, and ends with 1 where one differs.
"""

from __future__ import annotations

import json
import math
import sys
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy import stats

ROUNDED = 2e-6  # the board rounds to six digits
EVERY, DRAWS = 200_000, 10_000  # splits that the board tries all of; beyond them its p is that of so many at random
COST = "noise_transfer"


@cache
def answers(folder: Path) -> list[dict[str, Any]]:
    """The rows of a cell, each a question with its true answer, its label and what the model said."""
    columns = ["split", "answer", "label", "prediction"]
    rows: list[dict[str, Any]] = pq.read_table(folder / "samples.parquet", columns=columns).to_pylist()
    return rows


def share(folder: Path, split: str, column: str) -> float:
    """The part of a split's questions that were answered as a column says."""
    asked = [row for row in answers(folder) if row["split"] == split]
    return float(np.mean([row["prediction"] == row[column] for row in asked]))


def costs(row: dict[str, Any], reports: Path) -> list[float]:
    """By seed: held-out answers lost, against the same seed's cell without wrong labels, for each wrong label."""
    found = []
    for report in row["reports"]:
        cell = (reports / report["path"]).parent
        twin = cell.parent.parent / "noise-0" / cell.name
        lost = share(twin, "validation", "answer") - share(cell, "validation", "answer")
        found.append(lost / row["noise_rate"])
    return found


def memorised(row: dict[str, Any], reports: Path) -> list[float]:
    """By seed: wrong labels given where they were taught, less those given where they only could have been."""
    cells = [(reports / report["path"]).parent for report in row["reports"]]
    return [share(cell, "train_noisy", "label") - share(cell, "validation", "label") for cell in cells]


def mean(values: list[float]) -> tuple[float, float, float]:
    found, n = float(np.mean(values)), len(values)
    half = float(stats.t.ppf(0.975, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return found, found - half, found + half


def difference(first: list[float], second: list[float]) -> tuple[float, float, float]:
    found = stats.ttest_ind(first, second, equal_var=False)
    low, high = found.confidence_interval(0.95)
    return float(np.mean(first) - np.mean(second)), float(low), float(high)


def relabeled(first: list[float], second: list[float]) -> float:
    """The share of all ways to deal the seeds to both sides whose |t| is at least as large."""
    values, n = np.array([*first, *second]), len(first)
    every = np.array(list(combinations(range(len(values)), n)))
    inside = np.zeros((len(every), len(values)), dtype=bool)
    np.put_along_axis(inside, every, True, axis=1)
    sides = [np.where(chosen, values, np.nan) for chosen in (inside, ~inside)]
    gap = np.abs(np.nanmean(sides[0], 1) - np.nanmean(sides[1], 1))
    error = np.sqrt(sum(np.nanvar(side, 1, ddof=1) / (~np.isnan(side)).sum(1) for side in sides))
    found = gap / error
    return float((found >= found[0] * (1 - 1e-9)).mean())


def main(board: Path, reports: Path) -> int:
    worst = 0
    for task in json.loads(board.read_text())["tasks"]:
        print(f"\n{task['title']}\n{'':44}{'board':>12}{'again':>12}")

        def say(what: str, claimed: float, again: float, slack: float = ROUNDED) -> None:
            nonlocal worst
            apart = abs(claimed - again) > slack
            worst |= apart
            print(f"{what:44}{claimed:12.6f}{again:12.6f}{'  DIFFERS' if apart else ''}")

        rows = [row for row in task["rows"] if row["noise_rate"] > 0 and row["metrics"][COST]["ci_low"] is not None]
        known = {(row["model"], row["noise_rate"]): costs(row, reports) for row in rows}
        for row in rows:
            gap, low, high = mean(memorised(row, reports))
            for metric, found in (
                (COST, mean(known[row["model"], row["noise_rate"]])),
                ("counterfactual_memorization", (gap, max(low, -1.0), min(high, 1.0))),
            ):
                for part, again in zip(("value", "ci_low", "ci_high"), found, strict=True):
                    what = f"{row['model']} {row['noise_rate']:g} {metric[:14]} {part}"
                    say(what, row["metrics"][metric][part], again)
        for contrast in (task["comparison"] or {"contrasts": []})["contrasts"]:
            sides = list(zip(contrast["models"], contrast["noise_rates"], strict=True))
            if contrast["metric"] != COST or contrast["p"] is None or not all(side in known for side in sides):
                continue
            first, second = (known[side] for side in sides)
            for part, again in zip(("difference", "ci_low", "ci_high"), difference(first, second), strict=True):
                say(f"{contrast['name']} {part}", contrast[part], again)
            p, ways = relabeled(first, second), math.comb(len(first) + len(second), len(first))
            drawn = 5 * math.sqrt(p * (1 - p) / DRAWS) + 1 / DRAWS if ways > EVERY else ROUNDED
            say(f"{contrast['name']} p", contrast["p"], p, drawn)
    return int(worst)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
