"""Scales and panels: what lies where, and what is said of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rote_bench.leaderboard.page.chart import LOOKS, Panel, Point, Scale, Series, figure, looks, scale, table

UNIT = Scale(0.0, 1.0, ((0.0, "0"), (1.0, "1")))
NUMBERS = st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=20)


@given(NUMBERS)
def test_a_scale_holds_what_it_is_made_for_with_few_round_marks(values: list[float]) -> None:
    made = scale(values)
    little = 1e-6 * (made.high - made.low)
    assert made.low <= min(values) + little and made.high >= max(values) - little
    assert 2 <= len(made.ticks) <= 8 and made.low < made.high
    assert [v for v, _ in made.ticks] == sorted({v for v, _ in made.ticks})


def test_marks_are_round_and_say_so() -> None:
    assert scale([0.03, 0.29]).ticks == ((0.0, "0"), (0.1, "0.1"), (0.2, "0.2"), (0.3, "0.3"))
    assert scale([-0.02, 0.02]).ticks[0] == (-0.02, "\u22120.02")
    assert scale([]).low == 0.0 and scale([0.4], 0.0, 1.0).high == 1.0


def test_places_are_in_per_cent_and_what_lies_beyond_stays_at_the_edge() -> None:
    assert [UNIT.at(v) for v in (0.25, -3, 7)] == ["25.00%", "0.00%", "100.00%"]
    assert UNIT.down(0.25) == "75.00%"
    with pytest.raises(ValueError, match="no number"):
        UNIT.at(float("nan"))


def panel(*series: Series, title: str = "") -> Panel:
    return Panel(title, UNIT, UNIT, "across", "up", series)


def test_a_line_breaks_where_a_value_is_missing_and_a_lonely_point_is_none() -> None:
    points = [Point(0.0, 0.0), Point(0.1, 0.5), Point(0.2, None), Point(0.3, 1.0), Point(0.4, None)]
    line = Series("a", "k0", points, "circle")
    assert panel(line).strokes(line) == ["0,1000 100,500"]
    assert line.marked == [points[0], points[1], points[3]]
    assert Series("a", "k0", points, "circle", mark="last").marked == [points[3]]
    assert Series("a", "k0", points).marked == []


def test_what_a_panel_shows_is_said_in_words() -> None:
    a, b = (Series("one", "k0", [Point(0.0, y), Point(1.0, 1.0)]) for y in (0.0, 0.5))
    mark = Series("other", "k1", [Point(0.5, 0.25)], "circle", line=False)
    assert panel(a, b, mark).summary == "one, mean of 2 lines: from 0.250 to 1.000; other: 0.250"


def test_the_numbers_of_a_figure_are_all_its_points() -> None:
    a = Series("a", "k0", [Point(0.0, 0.5, 0.4, 0.6), Point(0.5, None)])
    b = Series("b", "k1", [Point(0.5, 1.0)])
    heads, rows = table([panel(a, b)])
    assert heads == ["across", "a", "b"]
    assert rows == [["0", "0.500 [0.400, 0.600]", "–"], ["0.5", "–", "1.000"]]
    heads, rows = table([panel(a, title="first"), panel(b, title="second")])
    assert heads == ["across", "panel", "a", "b"] and rows[-1] == ["0.5", "second", "–", "1.000"]


def test_empty_panels_are_no_figure() -> None:
    nothing = panel(Series("a", "k0", [Point(0.0, None)]))
    something = panel(Series("a", "k0", [Point(0.0, 0.0)]), Series("a", "k0", [Point(1.0, 0.0)]))
    assert figure("t", "n", [nothing]) is None
    made = figure("t", "n", [nothing, something])
    assert made is not None and made.panels == [something] and len(made.legend) == 1


def test_every_model_has_a_look_of_its_own() -> None:
    found = looks([f"model {i}" for i in range(2 * LOOKS)])
    assert len(set(found.values())) == 2 * LOOKS
    assert looks(["a", "b", "a"]) == {"a": ("k0", "circle"), "b": ("k1", "square")}
