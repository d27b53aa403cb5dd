"""Figures of one row, and which points of a learning curve are left out."""

from __future__ import annotations

import copy
from typing import Any

from rote_bench.leaderboard.page.curves import MOST_POINTS, figures, learning, most_points, patching, thinned

from ..boards import board

ROW = next(r for r in board(rates=(0.05,), models=1, seeds=3)["tasks"][0]["rows"])


def test_a_row_has_its_three_figures_and_one_without_series_has_none() -> None:
    assert [len(one.panels) for one in figures(ROW, MOST_POINTS)] == [1, 1, 3]
    assert figures({"series": {}}, MOST_POINTS) == []
    without = {"series": {"learning_dynamics": ROW["series"]["learning_dynamics"]}}
    assert len(figures(without, MOST_POINTS)) == 1 == len(figures(ROW, MOST_POINTS, layers=False))


def test_patches_stand_beside_their_control_where_it_was_drawn() -> None:
    found = patching(ROW["series"]["activation_patching"])
    assert found is not None and [len(panel.series) for panel in found.panels] == [2, 4, 4]
    assert "control" in found.note
    bare = copy.deepcopy(ROW["series"]["activation_patching"])
    for part in (part for run in bare for part in run["components"].values()):
        part.pop("foreign", None)
    alone = patching(bare)
    assert alone is not None and all(len(panel.series) == 2 for panel in alone.panels) and "control" not in alone.note


def test_means_over_seeds_reach_from_the_lowest_to_the_highest() -> None:
    shares = [{"validation_accuracy": [v], "memorization_rate": [v]} for v in (0.2, 0.6)]
    runs = [{"layers": [1], "components": {"mlp": each}} for each in shares]
    found = patching(runs)
    assert found is not None
    assert tuple(found.panels[0].series[0].points[0]) == (1, 0.4, 0.2, 0.6)


def test_the_numbers_of_learning_curves_are_those_of_both_snapshots() -> None:
    found = learning(ROW["series"]["learning_dynamics"], MOST_POINTS)
    assert found is not None
    assert [line[:2] for line in found.rows][:2] == [["0", "before memorization"], ["0", "at the end"]]
    assert len(found.rows) == 6 and len(found.panels[0].moments) == 3


def test_pages_of_many_runs_have_fewer_points_each() -> None:
    def tasks(runs: int) -> list[dict[str, Any]]:
        return [{"rows": [{"series": {"learning_dynamics": [{}] * runs}}]}]

    assert [most_points(tasks(n)) for n in (0, 1, 300, 10_000)] == [48, 48, 30, 16]


def test_thinning_keeps_ends_snapshots_and_corners() -> None:
    def point(i: int, value: float | None) -> dict[str, Any]:
        names = ("validation_accuracy", "train_clean_accuracy", "memorization_rate", "noisy_true_rate")
        return {"step": i, "examples_seen": 10 * i, **dict.fromkeys(names, value)}

    corner = [point(i, min(i, 50) / 50) for i in range(101)]
    assert thinned(corner, {70}) == [0, 50, 70, 100]
    assert thinned([point(i, None) for i in range(5)], set()) == [0, 4]
    assert thinned([], set()) == []
    rough = [point(i, i % 2) for i in range(200)]
    assert len(thinned(rough, set())) == MOST_POINTS
    late = [point(i, None if i < 50 else 0.5) for i in range(100)]
    assert any(late[i]["validation_accuracy"] is not None for i in thinned(late, set()))
