"""What several seeds say together: scipy's means and intervals, and nothing that a seed's own details could not say."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rote_bench.report.merge import Merged, merge

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)
LEAVES = st.none() | st.booleans() | st.integers(-50, 50) | NUMBERS | st.text(max_size=4)
DETAILS = st.dictionaries(
    st.sampled_from(["step", "value", "ci_low", "ci_high", "a", "b"]),
    st.recursive(
        LEAVES,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["step", "value", "ci_low", "ci_high", "x"]), inner, max_size=5)
        ),
        max_leaves=12,
    ),
    max_size=5,
)


def t_interval(values: list[float]) -> tuple[float, float]:
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    return float(low), float(high)


def test_lines_get_the_mean_and_students_interval_over_seeds() -> None:
    seeds = [[0.1, 0.5], [0.2, 0.7], [0.6, 0.3], [0.4, 0.4]]
    given_ = [{"line": {"value": v, "ci_low": [0.0, 0.0], "ci_high": [1.0, 1.0], "n": 9}} for v in seeds]
    found = merge(given_)
    line = found.details["line"]
    assert line["value"] == pytest.approx(np.mean(seeds, axis=0))
    for i, column in enumerate(zip(*seeds, strict=True)):
        assert (line["ci_low"][i], line["ci_high"][i]) == pytest.approx(t_interval(list(column)))
    assert line["n"] == 9 and found.intervals and found.gaps == ()


def test_a_single_number_with_bounds_and_nested_lists_are_lines_too() -> None:
    values = [0.2, 0.4, 0.9]
    bare = merge([{"value": v, "ci_low": 0.0, "ci_high": 1.0} for v in values]).details
    assert (bare["ci_low"], bare["ci_high"]) == pytest.approx(t_interval(values))
    nested = merge([{"value": [[v]], "ci_low": [[0.0]], "ci_high": [[1.0]]} for v in values]).details
    assert nested["ci_high"][0][0] == pytest.approx(t_interval(values)[1])


def test_the_bounds_of_two_seeds_are_not_known() -> None:
    found = merge([{"line": {"value": [v], "ci_low": [0.0], "ci_high": [1.0]}} for v in (0.2, 0.4)])
    assert (
        found.details == {"line": {"value": [pytest.approx(0.3)], "ci_low": [None], "ci_high": [None]}}
        and not found.intervals
    )


def test_numbers_become_means_and_counts_that_agree_stay_counts() -> None:
    details = merge(
        [{"n": 10, "k": k, "share": k / 10, "ok": True, "kind": "mlp", "none": None} for k in (1, 2)]
    ).details
    assert details == {"n": 10, "k": 1.5, "share": pytest.approx(0.15), "ok": True, "kind": "mlp", "none": None}
    assert isinstance(details["n"], int) and details["ok"] is True


def test_curves_are_cut_to_the_steps_that_all_seeds_have() -> None:
    ends = (30, 50, 40)
    seeds = [
        {"curve": [{"step": s, "seen": 5 * s, "right": s / (50 + i)} for s in range(0, end + 1, 10)]}
        for i, end in enumerate(ends)
    ]
    seeds[1]["curve"].append({"step": 7, "seen": 35, "right": 0.5})  # a snapshot's own evaluation
    curve = merge(seeds).details["curve"]
    assert [point["step"] for point in curve] == [0, 10, 20, 30]
    assert [point["seen"] for point in curve] == [0, 50, 100, 150]
    last = [30 / (50 + i) for i in range(3)]
    assert curve[-1]["right"] == pytest.approx(np.mean(last))
    over = curve[-1]["over_seeds"]["right"]
    assert (over["ci_low"], over["ci_high"]) == pytest.approx(t_interval(last))
    assert merge(seeds[:2]).details["curve"][1]["over_seeds"]["right"] == {
        "value": pytest.approx((10 / 50 + 10 / 51) / 2)
    }


def test_what_is_not_shared_is_null_or_missing_and_said() -> None:
    found = merge(
        [
            {"who": "e1", "rank": [1, 2], "maybe": 0.5, "extra": 1, "flag": True, "line": {"value": [0.1, None]}},
            {"who": "e2", "rank": [1], "maybe": None, "flag": False, "line": {"value": [0.3, 0.2]}},
        ]
    )
    assert found.details == {"who": None, "rank": None, "maybe": None, "flag": None, "line": {"value": [0.2, None]}}
    said = "\n".join(found.gaps)
    assert all(
        name in said for name in ("who differs", "rank differs", "maybe is null in 1 of 2", "extra is missing in 1")
    )


def test_a_value_that_one_seed_lacks_has_no_interval() -> None:
    seeds = [{"value": [0.1, v], "ci_low": [0, 0], "ci_high": [1, 1]} for v in (0.2, None, 0.3)]
    found = merge(seeds).details
    assert found["value"][1] is found["ci_low"][1] is found["ci_high"][1] is None and found["ci_low"][0] is not None


@settings(max_examples=50)
@given(DETAILS, st.integers(2, 4))
def test_equal_seeds_say_what_one_of_them_says(details: dict[str, Any], seeds: int) -> None:
    """But for bounds, which are over seeds then, and steps that a list names twice."""
    found = merge([copy.deepcopy(details) for _ in range(seeds)])
    assert found.gaps == ()

    def same(mine: Any, own: Any) -> None:
        if isinstance(own, dict):
            bounds = {"value", "ci_low", "ci_high"} <= own.keys()
            for key in own.keys() - ({"ci_low", "ci_high"} if bounds else set()):
                same(mine[key], own[key])
        elif isinstance(own, list) and not (
            own and all(isinstance(x, dict) and type(x.get("step")) is int for x in own)
        ):
            assert len(mine) == len(own)
            for a, b in zip(mine, own, strict=True):
                same(a, b)
        elif not isinstance(own, list):
            assert mine == (pytest.approx(own) if isinstance(own, float) else own)

    same(found.details, details)


@settings(max_examples=50)
@given(st.lists(DETAILS, min_size=1, max_size=4))
def test_any_details_can_be_brought_together_in_any_order(several: list[dict[str, Any]]) -> None:
    def plain(found: Merged) -> Any:
        return sorted(found.details), found.intervals, sorted(found.gaps)

    assert plain(merge(several)) == plain(merge(several[::-1]))
