"""Choices at the edge of the grid."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rote_bench.leaderboard.edges import edges

RATES = {"slow": "0.008", "middle": "0.016", "fast": "0.032", "long": "0.016"}


def grid(**settings: dict[str, str]) -> dict[str, dict[str, str]]:
    names = next(iter(settings.values()))
    return {name: {key: values[name] for key, values in settings.items()} for name in names}


def test_the_lowest_and_the_highest_are_said_with_their_number() -> None:
    found = edges(grid(rate=RATES), ["slow", "middle", "slow", "fast", "long"])
    assert found == [
        "2 of 5 models chose the lowest rate that was tried, 0.008: whether a lower one suits better is not known.",
        "1 of 5 models chose the highest rate that was tried, 0.032: whether a higher one suits better is not known.",
    ]
    assert edges(grid(rate=RATES), ["slow"])[0].startswith("The one model chose the lowest rate")


def test_nothing_is_said_of_the_middle_of_two_values_or_of_words() -> None:
    assert edges(grid(rate=RATES), ["middle", "long"]) == []
    assert edges(grid(rate=RATES), []) == []
    assert edges(grid(anneal={"slow": "450", "fast": "700"}), ["slow", "fast"]) == []
    assert edges(grid(optimizer={"a": "muon", "b": "adamw", "c": "sgd"}), ["a"]) == []
    assert edges({**grid(rate=RATES), "bare": {}}, ["slow"]) == []


def test_settings_that_rise_together_are_one() -> None:
    other = {"slow": "0.0015", "middle": "0.003", "fast": "0.006", "long": "0.003"}
    assert len(edges(grid(rate=RATES, adam=other), ["slow"])) == 1
    falls = {"slow": "3", "middle": "2", "fast": "1", "long": "2"}
    assert [line.split(" that was")[0] for line in edges(grid(rate=RATES, other=falls), ["slow"])] == [
        "The one model chose the lowest rate",
        "The one model chose the highest other",
    ]


@given(st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0]), min_size=1, max_size=5), st.data())
def test_a_choice_is_at_the_edge_when_no_tried_value_lies_beyond(values: list[float], data: st.DataObject) -> None:
    names = [f"c{i}" for i in range(len(values))]
    chosen = data.draw(st.lists(st.sampled_from(names), max_size=6))
    found = " ".join(edges({n: {"x": f"{v:g}"} for n, v in zip(names, values, strict=True)}, chosen))
    for end, best in (("lowest", min(values)), ("highest", max(values))):
        n = sum(values[names.index(name)] == best for name in chosen)
        said = f"{'The one model' if len(chosen) == 1 else f'{n} of {len(chosen)} models'} chose the {end} x" in found
        assert said == (n > 0 and len(set(values)) > 2)
