"""A board of small cells, made of one that was really trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..conftest import run_cell
from .cells import cell, put
from .cheating import TINY


@pytest.fixture(scope="session")
def many(thr_cell: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds of four models: two that are ranked, one that never solves the task, one that ignores the noise."""
    folder = tmp_path_factory.mktemp("board") / "reports"
    report = json.loads((thr_cell / "report.json").read_text())
    wrong = {"good": (0, 1), "better": (0, 0), "unsolved": (20, 20), "careful": (0, 0)}
    for model, (clean, noisy) in wrong.items():
        for seed in range(3):
            for rate, errors in ((0.0, clean), (0.05, noisy * (seed + 1))):
                made = cell(report, model, rate, seed, errors, memorised=model != "careful")
                put(folder / model / f"{rate:g}" / str(seed), made)
    return folder


@pytest.fixture(scope="session")
def tiny_cell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cell that was trained for a moment."""
    return run_cell(tmp_path_factory.mktemp("tiny"), TINY)
