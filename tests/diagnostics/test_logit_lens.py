"""The depths at which one answer takes over from the other."""

from __future__ import annotations

import numpy as np
import pytest

from rote_bench.diagnostics.logit_lens import depth


def test_depths_follow_the_shares_of_examples() -> None:
    rng = np.random.default_rng(0)
    shares = np.array([0.1, 0.2, 0.7, 0.4, 0.9, 1.0])
    over = np.arange(100)[:, None] < 100 * shares
    groups = np.arange(100)
    assert depth(over, groups, rng, "clean").value == pytest.approx(1 / 6)
    assert depth(over, groups, rng, "override").value == pytest.approx(5 / 6)
    assert depth(~over, groups, rng, "override").value is None
    assert depth(np.ones_like(over), groups, rng, "clean").value is None
