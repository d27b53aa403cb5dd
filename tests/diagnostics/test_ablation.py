"""Ablating more and more of a model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rote_bench.diagnostics.ablation import FITTED, Ablation, AblationOptions, _means
from rote_bench.interventions import Site, capture
from rote_bench.subject import POST, Subject
from tests.diagnostics.conftest import padded
from tests.diagnostics.reports import details


def test_ablating_everything_destroys_everything(thr_report: dict[str, Any]) -> None:
    for kind in details(thr_report, "ablation")["kinds"].values():
        assert kind["random"]["memorization_rate"][-1] < 0.5
        assert len(kind["by_importance"]["memorization_rate"]) == len(details(thr_report, "ablation")["shares"])


@pytest.mark.parametrize(("by", "batch_size"), [(4, 512), (0, 7), (3, 10)])
def test_neither_padding_nor_batches_change_what_is_measured(thr: Subject, by: int, batch_size: int) -> None:
    other = padded(thr, by, batch_size=batch_size)
    for one, another in (
        (_means(thr, "units"), _means(other, "units")),
        (_means(thr, "heads"), _means(other, "heads")),
    ):
        for site, mean in one.items():
            assert torch.allclose(another[site], mean, atol=1e-5)
    first, again = (Ablation(AblationOptions(examples=48)).run(subject) for subject in (thr, other))
    assert first.metrics == again.metrics
    assert first.details["kinds"]["heads"] == again.details["kinds"]["heads"]


def test_means_are_those_of_the_positions_of_the_questions(thr: Subject) -> None:
    """Position by position, in float64."""
    other = padded(thr, 5)
    site = Site(1, "units")
    seen = capture(thr.anatomy(), thr.clean.true.input_ids[:FITTED], [site])[1][site].double().numpy()
    assert np.allclose(_means(other, "units")[site].numpy(), seen.reshape(-1, seen.shape[-1]).mean(0), atol=1e-6)


def test_where_nothing_is_memorised_nothing_is_distributed(thr: Subject) -> None:
    """A network that never learned gives no wrong label: no value."""
    spec = replace(thr.spec, seeds=replace(thr.spec.seeds, init=3))
    blank = Subject(spec, thr.task, thr.data, thr.tokenizer, {POST: thr.random_anatomy()}, [], "cpu", cap=20)
    result = Ablation(AblationOptions(examples=16)).run(blank)
    assert result.details["intact"]["memorization_rate"] == 0
    found = result.metrics["distributedness_k50"]
    assert found.value is None and "memorization may be as low as 0.000" in (found.reason_if_null or "")


def test_the_smallest_share_is_that_of_the_curve_and_counts_both_kinds_of_questions(thr_report: dict[str, Any]) -> None:
    found, metric = details(thr_report, "ablation"), thr_report["metrics"]["distributedness_k50"]
    intact = found["intact"]
    shares = [
        share
        for curves in found["kinds"].values()
        for share, held, kept in zip(found["shares"], *curves["by_importance"].values(), strict=True)
        if kept <= intact["memorization_rate"] / 2 and held >= 0.95 * intact["validation_accuracy"]
    ]
    assert metric["value"] == min(shares, default=None)
    assert metric["n"] == 64 + min(64, thr_report["data"]["n_noisy"])
