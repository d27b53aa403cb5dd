"""The first figure: what its scale holds, and what is said of what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from rote_bench.leaderboard.page.forest import Forest, forest, regime

from ..boards import estimate


def row(model: str, values: list[float], *, rank: int | None = 1, rate: float = 0.05) -> dict[str, Any]:
    return {
        "model": model,
        "noise_rate": rate,
        "rank_low": rank,
        "rank_high": rank,
        "values": [{"seed": str(i), "value": v} for i, v in enumerate(values)],
        "metrics": {"noise_transfer": estimate(values or None, 0.0, "no twin")},
    }


def made(*rows: dict[str, Any], rate: float | None = 0.05) -> Forest:
    found = forest({"main_rate": rate, "rows": list(rows)})
    assert found is not None
    return found


NEAR = [0.05, 0.07, 0.09, 0.11, 0.13]


def test_every_seed_is_a_dot_and_no_two_of_a_line_that_are_close_lie_on_each_other() -> None:
    (lane,) = made(row("a", NEAR)).lanes
    assert sorted(dot.value for dot in lane.dots) == NEAR and (lane.above, lane.below) == (None, None)
    assert all(a.y != b.y for a, b in zip(lane.dots, lane.dots[1:], strict=False))
    assert lane.reach is not None and float(lane.reach[0][:-1]) < float(str(lane.mean)[:-1]) < float(lane.reach[1][:-1])


def test_an_outlier_does_not_rule_the_scale_and_is_named_at_the_edge() -> None:
    alone = made(row("a", NEAR), row("b", NEAR)).scale
    found = made(row("a", NEAR), row("b", [*NEAR[:-1], 5.0]))
    assert found.scale.high < 2 * alone.high
    assert found.lanes[1].above == "5.00 \u25b8" and len(found.lanes[1].dots) == 4
    assert found.lanes[1].mean is None and found.lanes[1].cut == (True, True)
    twice = made(row("a", NEAR), row("b", [*NEAR[:3], 3.0, 5.0]))
    assert twice.lanes[1].above == "2 seeds, to 5.00 \u25b8"
    below = made(row("a", NEAR), row("b", [*NEAR[:-1], -5.0])).lanes[1].below
    assert below == "\u25c2 \u22125.00"


def test_models_without_a_rank_do_not_rule_the_scale() -> None:
    wild = [3.0, 4.0, 5.0]
    ranked = made(row("a", NEAR), row("b", wild, rank=None))
    assert ranked.scale == made(row("a", NEAR)).scale and ranked.ranked == 1
    assert made(row("b", wild, rank=None)).scale.high > 5


def test_zero_and_where_benign_ends_are_always_there_and_one_where_it_is_near() -> None:
    assert [name for _, name in made(row("a", [0.01, 0.02, 0.03])).marks] == ["zero", "benign"]
    found = made(row("a", [0.5, 0.7, 0.8]))
    assert [name for _, name in found.marks] == ["zero", "benign", "one"] and found.scale.high > 1
    assert made(row("a", [-0.2, -0.1, 0.0])).scale.low < -0.2


def test_rows_without_values_have_empty_lines_and_other_rates_none() -> None:
    found = made(row("a", []), row("b", NEAR, rate=0.1))
    (lane,) = found.lanes
    assert (lane.dots, lane.mean, lane.reach, lane.at) == ([], None, None, 0)
    assert forest({"main_rate": None, "rows": []}) is None


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.02, 0.09, "benign"),
        (0.05, 0.12, ""),
        (0.1, 0.9, "tempered"),
        (0.8, 1.2, ""),
        (1.1, 2.0, "catastrophic"),
        (None, None, ""),
    ],
)
def test_a_regime_is_named_where_the_whole_interval_lies_in_it(
    low: float | None, high: float | None, said: str
) -> None:
    assert regime({"ci_low": low, "ci_high": high}) == said
    assert regime(None) == ""
