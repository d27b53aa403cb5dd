"""When curves cross a level."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from scipy.stats import binomtest, norm

from rote_bench.diagnostics.learning_dynamics import Measured, crossing, lag
from rote_bench.training.curve import Evaluation
from tests.conftest import SMALL_FDA, run_cell

CURVE = [
    Evaluation(step=n, examples_seen=n, epoch=n, seconds=0, loss=0, lr=1, validation_accuracy=v, memorization_rate=m)
    for n, v, m in ((100, 0.0, 0.0), (200, 0.4, 0.1), (400, 0.6, 0.1), (800, 0.9, 0.3), (1600, 0.9, 0.7))
]


def test_crossings_are_interpolated_and_bounded_by_evaluations() -> None:
    assert crossing(CURVE, "validation_accuracy", 0.5) == pytest.approx((300, 200, 400))
    assert crossing(CURVE, "memorization_rate", 0.5) == pytest.approx((1200, 800, 1600))
    assert crossing(CURVE, "memorization_rate", 0.8) is None
    many = Measured(1_000_000)
    e = lag(CURVE, 0.5, many, many)
    assert e.value == pytest.approx(2) and e.ci_low == pytest.approx(1) and e.ci_high == pytest.approx(3)
    late = lag(CURVE, 0.8, many, many)
    assert late.value is None and "never reached 0.8 within 1600 examples" in (late.reason_if_null or "")


def test_few_questions_leave_the_lag_open_further_and_what_is_censored_is_not_invented() -> None:
    """With 60 questions 0.4 may be 0.5 already and 0.6 may not, by exact intervals too."""
    few, many = Measured(60), Measured(1_000_000)
    assert binomtest(24, 60).proportion_ci().high > 0.5 > binomtest(36, 60).proportion_ci().low
    e = lag(CURVE, 0.5, few, many)
    assert (e.value, e.ci_low, e.ci_high) == pytest.approx((2, math.log2(800 / 800), math.log2(1600 / 100)))
    clustered = lag(CURVE, 0.5, Measured(240, 4.0), many)
    assert (clustered.ci_low, clustered.ci_high) == (e.ci_low, e.ci_high)
    e = lag(CURVE, 0.5, many, Measured(20))
    assert e.value == pytest.approx(2) and e.ci_low is None and e.ci_high is None
    assert "the lower bound of memorization never reaches 0.5" in str(e.reason_if_no_interval)


def test_the_peak_is_a_share_of_the_questions_that_the_curve_was_measured_on(tmp_path: Path) -> None:
    """Against the file that training writes, by another way to Wilson's interval."""
    text = (
        SMALL_FDA[: SMALL_FDA.index("diagnostics:")]
        .replace("max_steps: 500", "max_steps: 200")
        .replace("anneal: 300", "anneal: 50")
    )
    text = text.replace("  learning_rate", "  evaluation_examples: 33\n  learning_rate")
    cell = run_cell(tmp_path, text + "diagnostics: [learning_dynamics]\n")
    report = json.loads((cell / "report.json").read_text())
    assert report["data"]["n_noisy"] == 75
    shares = [json.loads(line)["noisy_true_rate"] for line in (cell / "dynamics.jsonl").read_text().splitlines()]
    right = max(shares) * 33
    assert 0 < right < 33 and right == pytest.approx(round(right), abs=1e-9)
    peak = report["metrics"]["early_clean_peak"]
    effect = report["diagnostics"]["learning_dynamics"]["details"]["design_effects"]["noisy"]
    samples = pyarrow.parquet.read_table(cell / "samples.parquet", filters=[("split", "=", "train_noisy")]).to_pylist()
    groups = Counter(row["group"] for row in samples[:33])
    assert effect == pytest.approx(1 + 0.05 * (sum(size**2 for size in groups.values()) / 33 - 1))
    z, share, n = norm.ppf(0.975), max(shares), 33 / effect  # Wilson's ends: where a share is z errors away
    low, high = sorted(np.roots([1 + z**2 / n, -2 * share - z**2 / n, share**2]))
    assert (peak["n"], peak["value"]) == (33, pytest.approx(max(shares)))
    assert (peak["ci_low"], peak["ci_high"]) == (pytest.approx(low), pytest.approx(high))
    assert report["metrics"]["early_clean_peak_relative"]["n"] == 33
