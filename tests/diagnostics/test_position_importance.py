"""How evenly answers hang on all tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rote_bench.diagnostics.position_importance import spread
from tests.diagnostics.reports import details


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_spread_is_a_share_of_the_largest_entropy(drops: list[float]) -> None:
    s = float(spread(np.array(drops)))
    assert np.isnan(s) if sum(drops) == 0 else -1e-9 <= s <= 1 + 1e-9


def test_spread_at_its_ends() -> None:
    assert spread(np.array([0.5, 0.5, 0.5])) == pytest.approx(1)
    assert spread(np.array([0.5, 0.0, 0.0])) == pytest.approx(0)


def test_layers_are_counted_as_everywhere(thr_report: dict[str, Any]) -> None:
    found = details(thr_report, "position_importance")
    assert found["layers"] == details(thr_report, "logit_lens")["snapshots"]["post_memorization"]["layers"] == [1, 2]
    assert len(found["drop"]["validation"]) == 2
