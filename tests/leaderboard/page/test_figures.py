"""Figures over all models of a task."""

from __future__ import annotations

from typing import Any

import pytest

from rote_bench.leaderboard.page.chart import looks
from rote_bench.leaderboard.page.figures import by_distance, by_peak, by_rate, by_relation, by_size, figures, plainly

from ..boards import MODELS, RELATIONS, UNSOLVED, board

TASK = board(rates=(0.0, 0.05, 0.1), seeds=3)["tasks"][0]
LOOK = looks(row["model"] for row in TASK["rows"])
MAIN = [row for row in TASK["rows"] if row["noise_rate"] == 0.05]


def test_a_task_has_every_figure_that_its_rows_allow() -> None:
    titles = [one.title for one in figures(TASK)]
    assert titles == [
        "As more labels are wrong",
        "Who gave the true answer before memorising the wrong one",
        "Where a wrong label leaks to: related questions",
        "Where a wrong label leaks to: near questions",
    ]
    assert figures({"rows": [], "main_rate": None}) == []


def test_models_without_a_rank_are_left_out_where_others_have_one() -> None:
    names = {series.name for one in figures(TASK) for series in one.legend}
    assert names == {model[0] for model in MODELS} - {UNSOLVED}
    unranked = {**TASK, "rows": [{**row, "rank_low": None} for row in TASK["rows"]]}
    assert UNSOLVED in {series.name for one in figures(unranked) for series in one.legend}


def test_one_line_a_model_goes_through_all_its_noise_rates() -> None:
    found = by_rate(TASK["rows"], LOOK)
    assert found is not None
    cost, accuracy, _ = found.panels
    assert [len(one.known) for one in cost.series] == [2] * len(MODELS)  # nothing costs anything without noise
    assert [len(one.known) for one in accuracy.series] == [3] * len(MODELS)
    assert [text for _, text in accuracy.x.ticks] == ["0", "5", "10"] and 0.1 in cost.rules
    assert by_rate(MAIN, LOOK) is None


def test_costs_stand_against_early_clean_peaks_where_both_are_known() -> None:
    found = by_peak(MAIN, LOOK)
    assert found is not None and len(found.rows) == len(MODELS)
    assert by_peak(MAIN[:1], LOOK) is None and by_peak([{**row, "metrics": {}} for row in MAIN], LOOK) is None


def test_leaks_are_what_is_observed_less_chance_over_seeds() -> None:
    def row(*shares: tuple[float | None, float | None]) -> dict[str, Any]:
        runs = [{"relations": {"same_bridge": {"observed": a, "permuted": b}}} for a, b in shares]
        return {"model": "gpt2-nano", "series": {"neighbourhood": runs}}

    found = by_relation([row((0.3, 0.1), (0.2, 0.2), (None, None))], LOOK)
    assert found is not None
    (point,) = found.panels[0].series[0].points
    assert [point.y, point.low, point.high] == pytest.approx([0.1, 0.0, 0.2])
    assert found.rows == [["same intermediate result", "0.1000"]]
    assert by_relation([{"model": "gpt2-nano", "series": {}}], LOOK) is None
    every = by_relation(MAIN, LOOK)
    assert every is not None and len(every.panels[0].x.ticks) == len(RELATIONS)
    assert plainly("same_second_hop") == "same second step"


def test_costs_by_distance_are_beyond_chance_and_of_each_kind_of_distance() -> None:
    run = {"axes": {"states": {"observed": [0.3] * 8, "permuted": [0.1] * 8}}}
    found = by_distance([{"model": "gpt2-nano", "series": {"leakage_kernel": [run, run]}}], LOOK)
    assert found is not None and [panel.title for panel in found.panels] == ["near in the twin’s hidden states"]
    assert [p.y for p in found.panels[0].series[0].points] == pytest.approx([0.2] * 8)
    both = by_distance(MAIN, LOOK)
    assert both is not None and len(both.panels) == 2


def test_architectures_in_several_sizes_have_a_line_by_their_parameters() -> None:
    assert by_size(MAIN, LOOK) is None
    larger = [{**row, "model": f"{row['model']}-large", "parameters": 4 * row["parameters"]} for row in MAIN[:2]]
    found = by_size([*MAIN, *larger], looks(row["model"] for row in [*MAIN, *larger]))
    assert found is not None
    assert [one.name for one in found.panels[0].series] == [row["model_type"] for row in MAIN[:2]]
    assert all(len(one.known) == 2 for one in found.panels[0].series)
