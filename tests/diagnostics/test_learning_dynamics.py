"""When curves cross a level."""

from __future__ import annotations

import pytest

from rote_bench.diagnostics.learning_dynamics import crossing, lag
from rote_bench.training.curve import Evaluation

CURVE = [
    Evaluation(step=n, examples_seen=n, epoch=n, seconds=0, loss=0, lr=1, validation_accuracy=v, memorization_rate=m)
    for n, v, m in ((100, 0.0, 0.0), (200, 0.4, 0.1), (400, 0.6, 0.1), (800, 0.9, 0.3), (1600, 0.9, 0.7))
]


def test_crossings_are_interpolated_and_bounded_by_evaluations() -> None:
    assert crossing(CURVE, "validation_accuracy", 0.5) == pytest.approx((300, 200, 400))
    assert crossing(CURVE, "memorization_rate", 0.5) == pytest.approx((1200, 800, 1600))
    assert crossing(CURVE, "memorization_rate", 0.8) is None
    e = lag(CURVE, 0.5)
    assert e.value == pytest.approx(2) and e.ci_low == pytest.approx(1) and e.ci_high == pytest.approx(3)
    late = lag(CURVE, 0.8)
    assert late.value is None and "never reached 0.8 within 1600 examples" in (late.reason_if_null or "")
