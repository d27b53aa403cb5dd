"""Ablating more and more of a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rote_bench.diagnostics.ablation import FITTED, Ablation, AblationOptions, _means
from rote_bench.interventions import Site, capture
from rote_bench.subject import Subject
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
