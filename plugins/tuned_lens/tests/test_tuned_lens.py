"""The tuned lens keeps the rules of a diagnostic, and reads what it should."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rote_bench.plugins import load
from rote_bench.testing import check_diagnostic, small_subject

FILE = Path(__file__).parent.parent / "tuned_lens.py"


def test_it_keeps_the_rules_and_ends_with_the_models_own_answers() -> None:
    result = check_diagnostic(load([FILE]).table("diagnostics")["tuned_lens"])
    subject = small_subject()
    levels = result.details["levels"]
    hits = subject.validation.true.correct(subject.anatomy().model(input_ids=subject.validation.true.input_ids).logits)
    assert levels["validation"]["true"][-1] == np.mean(hits.numpy())
    assert result.details["divergence"][-1] == 0


def test_fitting_brings_early_layers_nearer_to_the_model() -> None:
    cls = load([FILE]).table("diagnostics")["tuned_lens"]
    few = cls(cls.Options(steps=1)).run(small_subject()).details["divergence"][0]
    many = cls(cls.Options(steps=100)).run(small_subject()).details["divergence"][0]
    assert many < 0.8 * few
