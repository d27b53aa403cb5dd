"""Strangers' values become what JSON can hold, or are refused by name."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rote_bench.plain import plain

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)


@given(VALUES)
def test_what_json_gives_back_is_left_as_it_is(value: Any) -> None:
    assert plain(value) == value == json.loads(json.dumps(plain(value), allow_nan=False))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=5), st.integers(-9, 9))
def test_numbers_of_numpy_are_those_of_python(numbers: list[float], whole: int) -> None:
    found = plain({"array": np.array(numbers, dtype=np.float32), "whole": np.int64(whole), "flag": np.bool_(whole > 0)})
    assert found == {"array": numbers, "whole": whole, "flag": whole > 0}
    assert isinstance(found, dict) and type(found["whole"]) is int and type(found["flag"]) is bool


@given(VALUES, st.sampled_from([math.nan, math.inf, -math.inf, np.float32("nan")]))
def test_a_number_that_json_cannot_hold_is_named(value: Any, bad: float) -> None:
    with pytest.raises(ValueError, match=r"^details\.list\[1\]\.bad is (nan|-?inf)"):
        plain({"list": [value, {"bad": bad}]}, "details")


@pytest.mark.parametrize("strange", [object(), b"bytes", {1.5: "key"}, {"a": {1, 2}}, 1j])
def test_what_json_does_not_know_is_refused(strange: object) -> None:
    with pytest.raises(TypeError, match=r"^details"):
        plain({"x": strange}, "details")
