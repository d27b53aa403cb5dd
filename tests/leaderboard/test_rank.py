"""What a row of the board says over its cells."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rote_bench.contrasts import across_seeds
from rote_bench.leaderboard.entry import make
from rote_bench.leaderboard.rank import Row, measure
from rote_bench.measures import SHARE, Measure
from rote_bench.plugins import Registry
from rote_bench.report.write import load_report

from ..reports import report

ALL, FEW = frozenset({"probe", "learning_dynamics"}), frozenset({"learning_dynamics"})


def row(probe: dict[int, float | None], plain: list[float]) -> Row:
    """A row at noise rate 0 whose reports hold one metric each of a diagnostic and of none."""
    cells: list[Any] = []
    for seed, value in enumerate(plain):
        metrics = {"validation_accuracy": value, **({"selectivity": probe[seed]} if seed in probe else {})}
        made = report(metrics, seed=seed, details={"probe": {}} if seed in probe else {})
        if seed in probe:
            object.__setattr__(made.diagnostics["probe"], "metrics", ("selectivity",))
        cells.append(SimpleNamespace(path=f"cell-{seed}", report=made))
    return Row("m", 0.0, cells, [])


def test_what_was_planned_for_some_cells_is_a_mean_over_those() -> None:
    values = [0.9, 0.8, 0.85, 0.7, 0.95]
    planned = {f"cell-{seed}": ALL if seed < 3 else FEW for seed in range(5)}
    probe: dict[int, float | None] = {0: 0.5, 1: 0.6, 2: 0.4}
    made = row(probe, values)
    measure(made, {}, planned)
    assert made.value("selectivity") == pytest.approx(0.5) and made.metrics["selectivity"].n == 3
    assert made.value("validation_accuracy") == pytest.approx(np.mean(values))
    assert made.metrics["validation_accuracy"].n == 5
    unplanned = row(probe, values)
    measure(unplanned, {})
    assert unplanned.value("selectivity") is None
    assert unplanned.metrics["selectivity"].reason_if_null == "known for 3 of 5 seeds"


@pytest.mark.parametrize("probe", [{0: 0.5, 1: 0.6}, {0: 0.5, 1: 0.6, 2: None}])
def test_a_planned_cell_that_does_not_know_it_leaves_the_row_without(probe: dict[int, float | None]) -> None:
    made = row(probe, [0.9] * 5)
    measure(made, {}, {f"cell-{seed}": ALL if seed < 3 else FEW for seed in range(5)})
    assert made.value("selectivity") is None
    assert str(made.metrics["selectivity"].reason_if_null).startswith("known for 2 of 3 seeds")


def test_a_seed_that_has_more_than_was_planned_adds_nothing() -> None:
    made = row({0: 0.5, 1: 0.6, 2: 0.4, 4: 0.0}, [0.9] * 5)
    measure(made, {}, {f"cell-{seed}": ALL if seed < 3 else FEW for seed in range(5)})
    assert made.value("selectivity") == pytest.approx(0.5)


def test_an_interval_over_seeds_ends_where_the_metric_does() -> None:
    found = row({}, [0.99, 1.0, 1.0])
    free = across_seeds([0.99, 1.0, 1.0])
    measure(found, {"validation_accuracy": Measure("validation_accuracy", "a share", "validation", SHARE)})
    assert free.ci_high is not None and free.ci_high > 1 and found.metrics["validation_accuracy"].ci_high == 1.0
    assert found.metrics["validation_accuracy"].ci_low == round(free.ci_low or 0.0, 6)
    measure(found, {})
    assert found.metrics["validation_accuracy"].ci_high == round(free.ci_high, 6)


def test_what_a_board_keeps_of_a_report_says_which_diagnostic_measured_what(thr_cell: Path, registry: Registry) -> None:
    """Without it, what was planned for some cells is asked of all."""
    whole = load_report(thr_cell)
    kept = make(whole, registry, thr_cell.parent, path="report.json", sha256="0" * 64, artifacts=(0, 0)).report
    assert whole.measured_by()["override_depth"] == "logit_lens"
    assert kept.measured_by() == whole.measured_by()
    assert not any(entry.details for entry in kept.diagnostics.values())
